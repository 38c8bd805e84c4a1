"""``gendercls compare``: what differs between two CSVs of the same photos, by hand-made ones and by the command."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gendercls.errors import GenderclsError, LabelError, OutputError
from gendercls.report.compare import CompareOptions, Comparison, compare
from gendercls.stats import benjamini_hochberg, mcnemar, paired_difference, wilson

Run = Callable[..., subprocess.CompletedProcess[str]]

HEADER = "path,label,confidence,p_female,p_male,truth,correct,error"
FACES = "path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error"


def line(path: str, male: float, truth: str = "") -> str:
    """A row with an answer."""
    label = "male" if male > 0.5 else "female"
    correct = str(int(label == truth)) if truth else ""
    return f"{path},{label},{max(male, 1 - male):.6f},{1 - male:.6f},{male:.6f},{truth},{correct},"


def failed(path: str, truth: str = "", error: str = "empty file") -> str:
    return f"{path},,,,,{truth},{'0' if truth else ''},{error}"


def face(path: str, number: int, box: str, male: float) -> str:
    label = "male" if male > 0.5 else "female"
    return f"{path},{number},{box},0.900000,{label},{max(male, 1 - male):.6f},{1 - male:.6f},{male:.6f},"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(name, lines, header=…)``: a CSV of these rows."""

    def make(name: str, lines: Iterable[str], header: str = HEADER) -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return make


def difference(first: Path, second: Path, **options: Any) -> Comparison:
    return compare(CompareOptions(first, second, **options))


def refusal(first: Path, second: Path, **options: Any) -> str:
    with pytest.raises(GenderclsError) as caught:
        difference(first, second, **options)
    return str(caught.value)


# --- numbers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def both(write: Callable[..., Path]) -> tuple[Path, Path]:
    """Of 60 women in two folders the first gets 50 right and the second 46, 4 of which the first gets wrong.

    Beside them one photo failed in either, two files are in one CSV alone, and one photo has no truth.
    """
    paths = [f"{'new' if n < 30 else 'old'}/{n:02}.jpg" for n in range(60)]
    first = [line(path, 0.2 if n < 50 else 0.9, "female") for n, path in enumerate(paths)]
    second = [line(path, 0.7 if n < 8 or n >= 54 else 0.25, "female") for n, path in enumerate(paths)]
    first += [
        failed("old/x.jpg", "male"),
        line("old/y.jpg", 0.8, "male"),
        line("old/z.jpg", 0.8),
        line("only/1.jpg", 0.1),
    ]
    second += [line("old/x.jpg", 0.9, "male"), failed("old/y.jpg", "male"), line("old/z.jpg", 0.8), line("s.jpg", 0.1)]
    return write("first.csv", first), write("second.csv", second)


def test_what_changed_is_counted(both: tuple[Path, Path]) -> None:
    """Labels that differ, failures that came and went, rows of one alone, and how far probabilities are apart."""
    found = difference(*both)
    assert found.rows == 63
    assert found.changed == wilson(8 + 4 + 2, 63)
    assert (found.failed_only_first, found.failed_only_second) == (1, 1)
    assert (found.only_first.count, found.only_first.first) == (1, "only/1.jpg")
    assert (found.only_second.count, found.only_second.first) == (1, "s.jpg")
    assert (found.apart.largest, found.apart.at) == (0.65, "old/50.jpg")
    assert found.apart.mean == pytest.approx((8 * 0.5 + 42 * 0.05 + 4 * 0.65 + 6 * 0.2) / 61)
    assert found.words == ["female", "male", "failed"]
    assert found.labels == [[42, 8, 0], [4, 7, 1], [0, 1, 0]]


def test_shares_are_of_rows_with_a_label_in_both(both: tuple[Path, Path]) -> None:
    """The difference is the second's less the first's, with the interval of paired shares."""
    male = difference(*both).shares["male"]
    assert (male.first, male.second) == (wilson(11, 61), wilson(15, 61))
    assert male.difference == paired_difference(8, 4, 61)
    assert male.difference.value == pytest.approx(4 / 61)
    assert (male.only_first, male.only_second) == (4, 8)


def test_accuracy_is_compared_on_the_same_photos(both: tuple[Path, Path]) -> None:
    """Failed ones count as wrong, one without truth does not; by McNemar's test of the photos right in one alone."""
    accuracy = difference(*both).accuracy
    assert accuracy is not None
    assert (accuracy.first, accuracy.second) == (wilson(51, 62), wilson(47, 62))
    assert (accuracy.only_first, accuracy.only_second) == (9, 5)
    assert accuracy.difference == paired_difference(5, 9, 62)
    assert accuracy.difference.value < 0
    assert accuracy.p == mcnemar(9, 5)


def test_the_changed_predictions_are_written(both: tuple[Path, Path], tmp_path: Path) -> None:
    """Each with both labels, both confidences and the truth, in the order of the first CSV."""
    out = tmp_path / "changed.csv"
    found = difference(*both, out=out)
    lines = out.read_text().splitlines()
    assert lines[0] == ("path,face_first,face_second,label_first,label_second,confidence_first,confidence_second,truth")
    assert len(lines) == 1 + found.changed.count
    assert lines[1] == "new/00.jpg,,,female,male,0.800000,0.700000,female"
    assert lines[-2:] == ["old/x.jpg,,,failed,male,,0.900000,male", "old/y.jpg,,,male,failed,0.800000,,male"]
    assert refusal(*both, out=out) == (
        f"the output already exists\n  where: {out}\n"
        "  do:    choose another --out, or repeat with --force to replace it"
    )
    difference(*both, out=out, force=True)
    assert out.read_text().splitlines() == lines


def test_failures_of_one_run_alone(write: Callable[..., Path]) -> None:
    """Counted for each; a photo that failed in both is in neither."""
    first = [failed("a.jpg"), failed("b.jpg"), failed("c.jpg"), line("d.jpg", 0.9), failed("e.jpg")]
    second = [line("a.jpg", 0.9), line("b.jpg", 0.9), line("c.jpg", 0.9), failed("d.jpg"), failed("e.jpg")]
    found = difference(write("1.csv", first), write("2.csv", second))
    assert (found.failed_only_first, found.failed_only_second) == (3, 1)


def test_how_far_a_row_is_apart_is_its_largest_difference(write: Callable[..., Path]) -> None:
    """Of three classes one may stay as it was while the others change places."""
    header = "path,label,confidence,p_a,p_b,p_c,error"
    first = write("1.csv", ["x.jpg,a,0.500000,0.500000,0.300000,0.200000,"], header)
    second = write("2.csv", ["x.jpg,a,0.600000,0.600000,0.100000,0.300000,"], header)
    found = difference(first, second)
    assert (found.apart.largest, found.apart.mean) == (0.2, pytest.approx(0.2))


def test_without_answers_nothing_is_a_number(write: Callable[..., Path]) -> None:
    """Two runs that could read nothing agree, and JSON has null where there is no number."""
    first, second = (
        write(name, [failed("a.jpg"), failed("n.txt", error="not a photo")]) for name in ("1.csv", "2.csv")
    )
    found = difference(first, second)
    assert found.changed == wilson(0, 2)
    assert math.isnan(found.apart.mean)
    assert found.accuracy is None
    assert found.labels == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert json.loads(found.to_json())["apart"] == {"largest": None, "at": "", "mean": None}


# --- where -------------------------------------------------------------------------------------------------------


def test_the_folder_that_loses_most_comes_first(both: tuple[Path, Path]) -> None:
    """Without labels by folder: the second lost 8 in one and won 3 in the other; q is the adjusted p."""
    slices = difference(*both).slices
    assert [part.name for part in slices] == ["folder=new", "folder=old"]  # the others have fewer than 20 rows
    new, old = slices
    assert new.accuracy is not None
    assert old.accuracy is not None
    assert (new.changed, old.changed) == (wilson(8, 30), wilson(6, 33))
    assert (new.accuracy.difference, old.accuracy.difference) == (
        paired_difference(0, 8, 30),
        paired_difference(5, 1, 32),
    )
    expected = benjamini_hochberg(np.array([mcnemar(8, 0), mcnemar(1, 5)])).tolist()
    assert [new.q, old.q] == expected


def test_twenty_rows_are_a_slice(write: Callable[..., Path]) -> None:
    """And 19 are none; q counts in how many slices there are."""
    paths = [f"{folder}/{n}.jpg" for folder, count in (("a", 20), ("b", 19), ("c", 25)) for n in range(count)]
    first = write("1.csv", [line(path, 0.9, "male") for path in paths])
    second = write(
        "2.csv", [line(path, 0.1 if path[0] == "a" and n < 8 else 0.9, "male") for n, path in enumerate(paths)]
    )
    slices = difference(first, second).slices
    assert [(part.name, part.q) for part in slices] == [
        ("folder=a", pytest.approx(2 * mcnemar(8, 0))),
        ("folder=c", 1.0),
    ]


def test_a_loss_that_is_sure_comes_before_one_that_is_large(write: Callable[..., Path]) -> None:
    """40 of 400 lost are surer than 5 of 20: slices go by the better end of their intervals."""
    lost = {"few": (20, 5), "many": (400, 40)}
    paths = [(f"{folder}/{n}.jpg", n < wrong) for folder, (count, wrong) in lost.items() for n in range(count)]
    first = write("1.csv", [line(path, 0.9, "male") for path, _ in paths])
    second = write("2.csv", [line(path, 0.1 if is_lost else 0.9, "male") for path, is_lost in paths])
    parts = [part.accuracy.difference for part in difference(first, second).slices if part.accuracy]
    assert [part.total for part in parts] == [400, 20]
    assert parts[0].value > parts[1].value
    assert parts[0].low > parts[1].low


def test_without_truth_most_changes_come_first(write: Callable[..., Path]) -> None:
    """Where neither is known to be right there is no accuracy, and slices go by how many surely changed."""
    paths = [f"{folder}/{n}.jpg" for folder in "abc" for n in range(20)]
    first = write("1.csv", [line(path, 0.9) for path in paths])
    second = write("2.csv", [line(path, 0.1 if path[0] == "b" or path == "c/1.jpg" else 0.9) for path in paths])
    found = difference(first, second)
    assert found.accuracy is None
    assert [(part.name, part.changed.count, part.accuracy, part.q) for part in found.slices] == [
        ("folder=b", 20, None, None),
        ("folder=c", 1, None, None),
        ("folder=a", 0, None, None),
    ]


def test_labels_tell_which_group_loses(both: tuple[Path, Path], tmp_path: Path) -> None:
    """With ``--labels`` by each of their other attributes; what only says the classes again is left out."""
    rows = [f"{'new' if n < 30 else 'old'}/{n:02}.jpg,female,{'black' if n < 20 else 'white'},1" for n in range(60)]
    (tmp_path / "labels.csv").write_text("path,gender,race,Smiling\nold/x.jpg,male,white,0\n" + "\n".join(rows) + "\n")
    found = difference(*both, labels=tmp_path / "labels.csv")
    assert found.accuracy is not None
    assert found.accuracy.first == wilson(50, 61)
    names = [part.name for part in found.slices]
    assert names[0] == "race=black"
    assert "race=white" in names
    assert not [name for name in names if "gender" in name]
    black = found.slices[0]
    assert black.accuracy is not None
    assert black.accuracy.difference == paired_difference(0, 8, 20)
    (tmp_path / "others.csv").write_text("path,gender\nelsewhere.jpg,male\nnowhere.jpg,female\n")
    with pytest.raises(LabelError, match=r"^none of the 64 rows is in the labels\n"):
        difference(*both, labels=tmp_path / "others.csv")


def test_a_truth_of_one_run_serves_for_both(write: Callable[..., Path]) -> None:
    """A run without labels is scored by the other's; where both have a truth and differ nothing is scored."""
    bare = HEADER.replace("truth,correct,", "")
    with_truth = write("1.csv", [line("a.jpg", 0.9, "male"), line("b.jpg", 0.9, "female")])
    without = write("2.csv", ["a.jpg,female,0.900000,0.900000,0.100000,", "b.jpg,male,0.9,0.1,0.9,"], bare)
    for paths in ((with_truth, without), (without, with_truth)):
        accuracy = difference(*paths).accuracy
        assert accuracy is not None
        assert {accuracy.first.count, accuracy.second.count} == {0, 1}
    other = write("3.csv", [line("a.jpg", 0.9, "female"), line("b.jpg", 0.9, "female")])
    found = difference(with_truth, other)
    assert found.accuracy is not None
    assert (found.conflicts, found.accuracy.first.total) == (1, 1)


# --- faces -------------------------------------------------------------------------------------------------------


def test_faces_are_paired_by_where_they_are(write: Callable[..., Path], tmp_path: Path) -> None:
    """Equal boxes first, then those that overlap by half; other faces are in one CSV alone."""
    first = [
        face("a.jpg", 1, "0,0,100,100", 0.9),
        face("a.jpg", 2, "10,0,100,100", 0.1),
        face("a.jpg", 3, "400,0,100,100", 0.9),
        face("b.jpg", 1, "0,0,10,10", 0.9),
        "c.jpg,0,,,,,,no face,,,,",
        "d.jpg,,,,,,,,,,,empty file",
    ]
    second = [
        face("a.jpg", 1, "10,0,100,100", 0.1),  # the first's number 2
        face("a.jpg", 2, "20,0,100,100", 0.2),  # overlaps number 1 by two thirds, which changed
        face("a.jpg", 3, "470,0,100,100", 0.9),  # overlaps number 3 by less than a fifth
        face("b.jpg", 1, "300,0,10,10", 0.9),
        face("c.jpg", 1, "0,0,10,10", 0.9),
        "d.jpg,,,,,,,,,,,empty file",
    ]
    out = tmp_path / "changed.csv"
    found = difference(write("1.csv", first, FACES), write("2.csv", second, FACES), out=out)
    assert (found.rows, found.only_first.count, found.only_second.count) == (4, 2, 2)
    assert out.read_text().splitlines()[1:] == [
        "a.jpg,1,2,male,female,0.900000,0.800000,",
        "c.jpg,0,1,no face,male,,0.900000,",
    ]


@pytest.mark.parametrize(("left", "is_same"), [(0, True), (20, True), (30, True), (31, False), (90, False)])
def test_the_same_face_overlaps_by_half(write: Callable[..., Path], left: int, is_same: bool) -> None:
    """Intersection over union, of squares of 90: at 30 pixels it is 60 × 90 of 120 × 90, which is just enough."""
    first = [face("a.jpg", 1, "0,0,90,90", 0.9), face("b.jpg", 1, "0,0,90,90", 0.9)]
    second = [face("a.jpg", 1, f"{left},0,90,90", 0.9), face("b.jpg", 1, "0,0,90,90", 0.9)]
    found = difference(write("1.csv", first, FACES), write("2.csv", second, FACES))
    assert (found.rows, found.only_first.count) == ((2, 0) if is_same else (1, 1))


def test_faces_that_overlap_most_are_paired_first(write: Callable[..., Path]) -> None:
    """Whatever their order: each face of two that stand close goes to the nearer one."""
    first = [face("a.jpg", 1, "0,0,90,90", 0.9), face("a.jpg", 2, "20,0,90,90", 0.1)]
    second = [face("a.jpg", 1, "15,0,90,90", 0.1), face("a.jpg", 2, "35,0,90,90", 0.1)]
    found = difference(write("1.csv", first, FACES), write("2.csv", second, FACES))
    assert (found.rows, found.changed.count, found.labels) == (1, 0, [[1, 0], [0, 0]])


def test_a_truth_is_about_an_only_face_in_either_csv(write: Callable[..., Path], tmp_path: Path) -> None:
    """Of several faces nobody knows which is labelled; no face and a failed photo are not scored, nor in conflict."""
    rows = [face("a.jpg", 1, "0,0,9,9", 0.9), face("b.jpg", 1, "0,0,9,9", 0.9), face("b.jpg", 2, "50,0,9,9", 0.9)]
    rows += ["c.jpg,0,,,,,,no face,,,,", "d.jpg,,,,,,,,,,,empty file"]
    faces = write("1.csv", rows, FACES)
    (tmp_path / "labels.csv").write_text("path,Male\n" + "".join(f"{name}.jpg,1\n" for name in "abcd"))
    for whole in (faces, write("2.csv", [line(f"{name}.jpg", 0.9) for name in "abcd"])):
        for pair in ((faces, whole), (whole, faces)):
            found = difference(*pair, labels=tmp_path / "labels.csv")
            assert found.accuracy is not None
            assert (found.accuracy.first, found.accuracy.second) == (wilson(1, 1), wilson(1, 1))
    with_truth = FACES.replace("error", "truth,correct,error")
    truths = [[row.rpartition(",")[0] + f",{word},," for row in rows[1:3]] for word in ("male", "female")]
    found = difference(*(write(f"{n}.csv", lines, with_truth) for n, lines in enumerate(truths)))
    assert (found.conflicts, found.accuracy) == (0, None)


def test_a_whole_photo_is_paired_with_its_only_face(write: Callable[..., Path]) -> None:
    """So that a run with ``--faces`` can be compared with one without; a truth is about an only face."""
    whole = write("1.csv", [line(f"{name}.jpg", 0.9, "male") for name in "abcd"])
    faces = [face("a.jpg", 1, "0,0,9,9", 0.9), face("b.jpg", 1, "0,0,9,9", 0.9), face("b.jpg", 2, "50,0,9,9", 0.1)]
    faces += ["c.jpg,0,,,,,,no face,,,,", "d.jpg,,,,,,,,,,,empty file"]
    found = difference(whole, write("2.csv", faces, FACES))
    assert (found.rows, found.only_first.count, found.only_second.count) == (3, 1, 2)
    assert found.words == ["female", "male", "no face", "failed"]
    assert found.accuracy is not None
    assert found.accuracy.second == wilson(1, 1)


# --- attributes --------------------------------------------------------------------------------------------------


def test_independent_attributes_are_compared_each_by_itself(write: Callable[..., Path]) -> None:
    """A label is all of its attributes; shares are of each."""
    header = "path,label,confidence,p_Smiling,p_Young,error"
    first = write("1.csv", ["a.jpg,Smiling Young,0.81,0.9,0.9,", "b.jpg,none,0.81,0.1,0.1,"], header)
    second = write("2.csv", ["a.jpg,Young,0.81,0.1,0.9,", "b.jpg,none,0.81,0.1,0.1,"], header)
    found = difference(first, second)
    assert found.changed == wilson(1, 2)
    assert (found.words, found.labels) == ([], [])
    assert {name: (share.first.count, share.second.count) for name, share in found.shares.items()} == {
        "Smiling": (1, 0),
        "Young": (1, 1),
    }


# --- the two runs, and refusals ----------------------------------------------------------------------------------


def test_how_the_runs_differ_is_said_first(write: Callable[..., Path]) -> None:
    """Model, options, inputs, versions: what the records say differently, and nothing else."""
    record: dict[str, Any] = {
        "inputs": ["photos"],
        "model": {"file": "a.onnx", "sha256": "aaaaaaaaaa"},
        "options": {"device": "cpu", "precision": "fp32", "confidence_threshold": 0.0, "limit": None},
        "versions": {"gendercls": "1", "numpy": "2"},
    }
    first, second = (write(name, [line("a.jpg", 0.9)]) for name in ("1.csv", "2.csv"))
    (first.parent / "1.csv.run.json").write_text(json.dumps(record))
    assert difference(first, second).unrecorded == [second]
    record["model"] = {"file": "a.onnx", "sha256": "bbbbbbbbbb"}
    record["options"] |= {"precision": "int8", "limit": 7}
    record["versions"]["numpy"] = "3"
    record["face_model"] = {"file": "f.onnx", "sha256": "cccccccccc"}
    (first.parent / "2.csv.run.json").write_text(json.dumps(record))
    found = difference(first, second)
    assert found.unrecorded == []
    assert [(part.what, part.first, part.second) for part in found.runs] == [
        ("model", "a.onnx (aaaaaa)", "a.onnx (bbbbbb)"),
        ("precision", "fp32", "int8"),
        ("version of numpy", "2", "3"),
        ("face model", "none", "f.onnx (cccccc)"),
        ("limit", "none", "7"),
    ]


def test_what_cannot_be_compared_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    """Other classes, other photos, a file that is no such CSV, an output that cannot be: each says what to do."""
    first = write("1.csv", [line("a.jpg", 0.9)])
    classes = write("2.csv", ["a.jpg,old,0.9,0.1,0.9,"], "path,label,confidence,p_young,p_old,error")
    assert refusal(first, classes) == (
        "the two have other classes\n"
        f"  where: {first} has the classes female, male; {classes} has the classes young, old\n"
        "  do:    compare runs of models with the same classes"
    )
    photos = write("3.csv", [line("photos/a.jpg", 0.9)])
    assert refusal(first, photos) == (
        "the two have no photo in common\n"
        f"  where: {first} begins with a.jpg and {photos} begins with photos/a.jpg\n"
        "  do:    compare runs over the same folder, named the same way"
    )
    assert refusal(first, first, out=tmp_path) == (
        f"the output is a folder\n  where: {tmp_path}\n  do:    name a file in it, as in --out {tmp_path}/changed.csv"
    )
    assert refusal(first, first, out=tmp_path / "no" / "c.csv") == (
        f"the output's folder does not exist\n  where: {tmp_path}/no/c.csv\n  do:    make it, or choose another --out"
    )
    with pytest.raises(OutputError):
        difference(first, write("4.csv", ["a"], "b"))


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_on_real_photos(run_gendercls: Run, celeba: Path, null_model: Path, tmp_path: Path) -> None:
    """Two thresholds of a model that costs nothing: exit 0 though they differ, lines for a person, JSON on stdout."""
    (tmp_path / "photos").mkdir()
    for number in range(1, 9):
        shutil.copy(celeba / "img_align_celeba" / f"{number:06}.jpg", tmp_path / "photos")
    for out, threshold in (("a.csv", "0"), ("b.csv", "0.52")):
        typed = ("classify", "photos", "--out", out, "--model", null_model, "--device", "cpu", "--quiet")
        run_gendercls(*typed, "--min-confidence", threshold, cwd=tmp_path).check_returncode()
    labels = celeba / "list_attr_celeba.txt"
    done = run_gendercls("compare", "a.csv", "b.csv", "--labels", labels, "--out", "c.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["first"], found["second"], found["rows"], found["out"]) == ("a.csv", "b.csv", 8, "c.csv")
    uncertain = (tmp_path / "b.csv").read_text().count(",uncertain,")
    assert found["changed"]["count"] == len((tmp_path / "c.csv").read_text().splitlines()) - 1 == uncertain > 0
    assert found["accuracy"]["first"]["total"] == 8
    lines = done.stderr.splitlines()
    assert lines[:2] == ["first:  a.csv", "second: b.csv"]
    assert [line.split() for line in lines[2:4]] == [["made", "with", "first", "second"], ["threshold", "0.0", "0.52"]]
    assert "rows in both: 8" in lines
    assert "changed predictions: c.csv" in lines
    assert any(part.startswith("second less first: ") and "McNemar p = " in part for part in lines)
