"""``gendercls verify``: every way in which a CSV is not what its model says of its photos is found and named."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendercls.classify.verdict import Verdict
from gendercls.classify.verify import VerifyOptions, verify
from gendercls.errors import GenderclsError, ModelError, OutputError
from gendercls.stats import wilson

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Row = dict[str, str]

KINDS = ("contradictory", "misplaced", "gone", "added", "different")
BROKEN, TEXT = "000005.jpg", "notes.txt"
MOVED = "has the label 'male'; its probabilities give 'female'"


@pytest.fixture(scope="module")
def finished(
    take: Take, run_gendercls: Run, null_model: Path, celeba: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of 12 photos, one of them broken, a note, and ``o.csv`` over them by a model that costs nothing."""
    folder = tmp_path_factory.mktemp("verify")
    take(folder / "photos", 12)
    (folder / "photos" / BROKEN).write_bytes((folder / "photos" / BROKEN).read_bytes()[:2000])
    (folder / "photos" / TEXT).write_text("taken in May")
    typed = ("classify", "photos", "--out", "o.csv", "--model", null_model, "--device", "cpu", "--quiet")
    run_gendercls(*typed, "--labels", celeba / "list_attr_celeba.txt", cwd=folder).check_returncode()
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished folder to play with; the photos are as old as they were."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def check(null_model: Path) -> Callable[..., Verdict]:
    """``check(folder, **options)``: what verify finds there, with the run's model."""

    def find(folder: Path, **options: Any) -> Verdict:
        plain = {"preds": folder / "o.csv", "photos": folder / "photos", "model": null_model}
        return verify(VerifyOptions(**plain | options), lambda progress: None)

    return find


def edit(folder: Path, change: Callable[[list[Row]], object]) -> None:
    """Change the CSV's rows as a person with a spreadsheet may; what ``change`` returns replaces them, if anything."""
    path = folder / "o.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    header = list(rows[0])
    changed = change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(changed if isinstance(changed, list) else rows)


def edit_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "o.csv.run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def shift(row: Row, by: float) -> Row:
    """Move the row's probabilities, and all that follows from them."""
    female = float(row["p_female"] or 0) + by
    row["p_female"], row["p_male"] = f"{female:.6f}", f"{1 - female:.6f}"
    row["confidence"] = max(row["p_female"], row["p_male"])
    row["label"] = "female" if female >= 0.5 else "male"
    row["correct"] = str(int(row["label"] == row["truth"]))
    return row


def counts(found: Verdict) -> dict[str, int]:
    return {kind: getattr(found, kind).count for kind in KINDS if getattr(found, kind).count}


# --- a CSV that is right -----------------------------------------------------------------------------------------


def test_an_undisturbed_run_is_what_its_model_says(finished: Path, check: Callable[..., Verdict]) -> None:
    """All 13 files are read again and give the same rows, the failed one and the note among them."""
    found = check(finished)
    assert (found.is_match, counts(found), found.notes) == (True, {}, ())
    assert (found.rows, found.photos, found.tried, found.same, found.rounded) == (13, 13, 13, 13, 0)
    assert not found.is_sample


def test_the_photos_may_have_moved(copy: Path, check: Callable[..., Verdict]) -> None:
    """``--photos`` names where they are now; without it they are looked for where the run found them."""
    (copy / "photos").rename(copy / "elsewhere")
    assert check(copy, photos=copy / "elsewhere").is_match
    with pytest.raises(GenderclsError) as caught:
        check(copy, photos=None)
    assert str(caught.value) == (
        "no such file or folder\n  where: photos\n  do:    name the folder that the photos are below: --photos DIR"
    )


def test_a_run_over_several_arguments(
    copy: Path, run_gendercls: Run, null_model: Path, check: Callable[..., Verdict]
) -> None:
    """Folders and files as typed: each row is found below ``--photos``, which stands for where the run was started."""
    (copy / "photos" / "more").mkdir()
    (copy / "photos" / "000009.jpg").rename(copy / "photos" / "more" / "a.jpg")
    typed = ("photos/more/", "photos/000002.jpg", copy / "photos" / "000001.jpg")
    more = ("--out", "o.csv", "--force", "--model", null_model, "--quiet")
    run_gendercls("classify", *typed, *more, cwd=copy).check_returncode()
    found = check(copy, photos=copy)
    assert (found.is_match, found.same) == (True, 3), found


@pytest.mark.parametrize("more", [("--limit", 3), ("--split", "test")])
def test_photos_that_the_run_was_not_to_take_are_not_missed(
    more: tuple[object, ...], copy: Path, run_gendercls: Run, null_model: Path, check: Callable[..., Verdict]
) -> None:
    """With ``--limit`` or ``--split`` the folder has more photos than the CSV."""
    labels = copy / "labels.csv"
    labels.write_text("path,Male,split\n000002.jpg,1,test\n000003.jpg,0,test\n000004.jpg,0,test\n000001.jpg,1,train\n")
    typed = ("classify", "photos", "--out", "o.csv", "--force", "--model", null_model, "--labels", labels, "--quiet")
    run_gendercls(*typed, *more, cwd=copy).check_returncode()
    found = check(copy)
    assert (found.is_match, found.same, found.photos) == (True, 3, 3)


def test_a_photo_that_ended_a_process_is_left_alone(copy: Path, check: Callable[..., Verdict]) -> None:
    """Nobody stands guard here, so what crashed is counted and not read."""

    def crash(rows: list[Row]) -> None:
        rows[2] |= dict.fromkeys(("label", "confidence", "p_female", "p_male"), "")
        rows[2] |= {"correct": "0", "error": "crashed (SIGSEGV)"}

    edit(copy, crash)
    found = check(copy)
    assert (found.is_match, found.untried, found.tried) == (True, 1, 12)


# --- a CSV that is wrong -----------------------------------------------------------------------------------------


def relabel(rows: list[Row]) -> None:
    rows[2] |= {"label": "male", "correct": str(int(rows[2]["truth"] == "male"))}


def swap(rows: list[Row]) -> list[Row]:
    return [rows[1], rows[0], *rows[2:]]


EDITS: dict[str, tuple[Callable[[list[Row]], object], dict[str, int], str]] = {
    "label": (relabel, {"contradictory": 1}, f"000003.jpg: {MOVED}"),
    "confidence": (
        lambda rows: rows[2].update(confidence="0.990000"),
        {"contradictory": 1},
        r"000003.jpg: has the confidence '0\.990000'; its probabilities give 0\.\d{6}",
    ),
    "correct": (
        lambda rows: rows[2].update(correct="1" if rows[2]["correct"] == "0" else "0"),
        {"contradictory": 1},
        "000003.jpg: has '[01]' as correct, where it should have '[01]'",
    ),
    "one probability": (
        lambda rows: rows[2].update(p_male=f"{float(rows[2]['p_male']) - 0.01:.6f}"),
        {"contradictory": 1, "different": 1},
        r"000003.jpg: has probabilities that sum to 0\.99\d{4}",
    ),
    "sum": (
        lambda rows: rows[2].update(p_male=f"{float(rows[2]['p_male']) - 0.000003:.6f}"),
        {"contradictory": 1},
        r"000003.jpg: has probabilities that sum to 0\.999997",
    ),
    "decimals": (
        lambda rows: rows[2].update(p_male=rows[2]["p_male"] + "0"),
        {"contradictory": 1},
        "000003.jpg: has a probability that is not written with 6 decimals",
    ),
    "probabilities": (
        lambda rows: shift(rows[2], 0.000102),
        {"different": 1},
        r"000003.jpg: has p_female 0\.\d{6}; the model gives 0\.\d{6}",
    ),
    "answer": (
        lambda rows: shift(rows[2], 0.3 - float(rows[2]["p_female"])),
        {"different": 1},
        r"000003.jpg: says male 0\.700000; the model says female 0\.\d{6}",
    ),
    "no answer": (
        lambda rows: rows[2].update(label="", confidence="", p_female="", p_male="", error="empty file", correct="0"),
        {"different": 1},
        r"000003.jpg: says empty file; the model says female 0\.\d{6}",
    ),
    "answer of a broken photo": (
        lambda rows: shift(rows[4], 0.7).update(error=""),
        {"different": 1},
        f"{BROKEN}: says female 0.700000; the model says damaged photo: .*",
    ),
    "nothing": (
        lambda rows: rows[2].update(label="", confidence="", p_female="", p_male="", correct="0"),
        {"contradictory": 1, "different": 1},
        "000003.jpg: has neither an answer nor an error",
    ),
    "no confidence": (
        lambda rows: rows[2].update(label="", confidence="", correct="0", error="empty file"),
        {"contradictory": 1, "different": 1},
        "000003.jpg: has probabilities and no confidence",
    ),
    "no confidence of a broken photo": (
        lambda rows: rows[4].update(p_female="0.500000", p_male="0.500000"),
        {"contradictory": 1, "different": 1},
        f"{BROKEN}: has probabilities and no confidence",
    ),
    "swapped": (swap, {"misplaced": 1}, "000001.jpg: comes earlier in the listing"),
    "row removed": (lambda rows: rows[:3] + rows[4:], {"added": 1}, "000004.jpg: has no row"),
    "row twice": (lambda rows: [rows[0], *rows], {"misplaced": 1}, "000001.jpg: has rows at two places"),
    "row of no photo": (
        lambda rows: [*rows[:12], rows[11] | {"path": "000013.jpg"}, rows[12]],
        {"gone": 1},
        "000013.jpg: is not there any more",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_csv_is_found_out(copy: Path, check: Callable[..., Verdict], case: str) -> None:
    """Each edit is counted as what it is and named by its row; the other rows are still the same."""
    change, expected, message = EDITS[case]
    edit(copy, change)
    found = check(copy)
    assert (found.is_match, counts(found)) == (False, expected)
    first = next(fault for kind in KINDS for fault in getattr(found, kind).first)
    assert re.fullmatch(message, f"{first.path}: {first.what}"), first
    assert found.same >= 11


@pytest.mark.parametrize("by", [0.0001, -0.0001, 0.000001])
def test_last_decimals_are_no_mismatch(copy: Path, check: Callable[..., Verdict], by: float) -> None:
    """Up to 1e-4 may come of another processor or version: counted apart, and no fault."""
    edit(copy, lambda rows: shift(rows[2], by))
    found = check(copy)
    assert (found.is_match, found.same, found.rounded) == (True, 12, 1)
    assert found.largest == pytest.approx(abs(by), abs=1e-9)


def test_words_of_a_library_are_no_mismatch(copy: Path, check: Callable[..., Verdict]) -> None:
    """After the colon of an error another version may have other words."""
    edit(copy, lambda rows: rows[4].update(error="damaged photo: other words"))
    found = check(copy)
    assert (found.is_match, found.same, found.rounded) == (True, 12, 1)


def test_changed_missing_and_new_photos_are_named(copy: Path, check: Callable[..., Verdict]) -> None:
    """A photo with other content, one that is gone and one that came: each by its path, the new ones as newer."""
    photos = copy / "photos"
    shutil.copyfile(photos / "000001.jpg", photos / "000002.jpg")
    (photos / "000003.jpg").rename(photos / "new.jpg")
    os.utime(photos / "new.jpg")
    for name in ("000002.jpg", "new.jpg"):
        os.utime(photos / name, (2e9, 2e9))
    found = check(copy)
    assert counts(found) == {"gone": 1, "added": 1, "different": 1}
    assert [fault.path for fault in (*found.gone.first, *found.added.first)] == ["000003.jpg", "new.jpg"]
    assert found.added.first[0].what == "has no row (the file is newer than the run)"
    assert found.different.first[0].path == "000002.jpg"
    assert found.different.first[0].what.endswith(" (the file is newer than the run)")


def test_only_the_first_ten_of_a_kind_are_named(copy: Path, check: Callable[..., Verdict]) -> None:
    """All are counted."""
    edit(copy, lambda rows: [shift(row, 0.001) for row in rows if row["label"]])
    found = check(copy)
    assert (found.different.count, len(found.different.first)) == (11, 10)


# --- a sample ----------------------------------------------------------------------------------------------------


def test_a_sample_reads_so_many_and_bounds_the_rest(copy: Path, check: Callable[..., Verdict]) -> None:
    """N photos, others with another seed; all rows are still compared with themselves and with the listing."""
    edit(copy, relabel)
    (copy / "photos" / "000012.jpg").unlink()
    found = check(copy, sample=4)
    assert (found.tried, found.same, found.is_sample) == (4, 4, True)
    assert counts(found) == {"contradictory": 1, "gone": 1}
    assert found.differing == wilson(0, 4)
    assert not check(copy, sample=12).is_sample


def test_the_seed_decides_which_photos_are_drawn(copy: Path, check: Callable[..., Verdict]) -> None:
    """The same ones with the same seed; each photo's turn comes with some seed."""
    edit(copy, lambda rows: shift(rows[2], -0.01))
    seen = [check(copy, sample=3, seed=seed).different.count for seed in range(20)]
    assert set(seen) == {0, 1}
    assert seen[:8] == [check(copy, sample=3, seed=seed).different.count for seed in range(8)]


# --- the model and the record ------------------------------------------------------------------------------------


def test_another_model_is_refused(finished: Path, check: Callable[..., Verdict], tmp_path: Path) -> None:
    """By its hash, whatever its name; and one that gendercls does not ship has to be named."""
    other = tmp_path / "null.onnx"
    other.write_bytes(b"another")
    wanted = json.loads((finished / "o.csv.run.json").read_text())["model"]["sha256"]
    with pytest.raises(ModelError) as caught:
        check(finished, model=other)
    assert str(caught.value) == (
        "this model is not the one that the run used\n"
        f"  where: {other} has the SHA-256 ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5; "
        f"the run used null.onnx with {wanted}\n"
        "  do:    name that file with --model"
    )
    with pytest.raises(ModelError) as caught:
        check(finished, model=None)
    assert str(caught.value) == (
        "the run's model is none of those that come with this gendercls\n"
        f"  where: the run used null.onnx with the SHA-256 {wanted}\n"
        "  do:    name that file with --model"
    )


def test_without_its_record_a_csv_cannot_be_verified(copy: Path, check: Callable[..., Verdict]) -> None:
    """Nothing else says which model and which options gave it."""
    (copy / "o.csv.run.json").unlink()
    with pytest.raises(GenderclsError) as caught:
        check(copy)
    assert str(caught.value) == (
        "which model and which options gave the CSV is not known\n"
        f"  where: o.csv.run.json is not beside {copy / 'o.csv'}\n"
        "  do:    restore it from a copy; without it there is nothing to compare with"
    )


def test_other_columns_than_the_model_has_are_refused(copy: Path, check: Callable[..., Verdict]) -> None:
    """Classes that were renamed in the CSV are no answers of that model."""
    text = (copy / "o.csv").read_text().replace("female", "woman")
    (copy / "o.csv").write_text(text)
    with pytest.raises(OutputError, match=r"^the CSV has other columns than its run wrote\n  where: .*p_woman"):
        check(copy)


def test_other_circumstances_are_said(copy: Path, check: Callable[..., Verdict]) -> None:
    """Another device than the run's, another version: they may change decimals, so a person should know."""

    def change(record: dict[str, Any]) -> None:
        record["options"] |= {"device": "cuda:0", "batch_shape": [3, 224, 224, 3]}
        record["versions"]["onnxruntime"] = "1.0"

    edit_record(copy, change)
    found = check(copy, device="cpu")
    assert found.is_match
    assert found.notes[0] == "the run was on cuda:0, this is on cpu"
    assert re.fullmatch(r"the run had onnxruntime 1\.0, this has \d+\.\d+.*", found.notes[1])
    assert len(found.notes) == 2


def test_a_damaged_record_is_refused(copy: Path, check: Callable[..., Verdict]) -> None:
    """A number of photos that is none is no option of any run."""
    edit_record(copy, lambda record: record["options"].update(limit=0))
    with pytest.raises(OutputError, match=r"^the record of the run is damaged: .*0 is no number of things"):
        check(copy)


def test_the_threshold_is_the_run_s(copy: Path, check: Callable[..., Verdict]) -> None:
    """Rows below it must be uncertain, and the others not."""
    edit_record(copy, lambda record: record["options"].update(confidence_threshold=0.999))
    found = check(copy)
    assert found.contradictory.count >= 10
    assert "its probabilities give 'uncertain'" in found.contradictory.first[0].what


def test_a_confidence_that_is_the_threshold_is_answered(copy: Path, check: Callable[..., Verdict]) -> None:
    """Uncertain is what lies below it."""
    confidence = max(row["confidence"] for row in csv.DictReader(io.StringIO((copy / "o.csv").read_text())))
    edit_record(copy, lambda record: record["options"].update(confidence_threshold=float(confidence)))

    def uncertain(rows: list[Row]) -> None:
        for row in rows:
            if row["confidence"] and row["confidence"] < confidence:
                row |= {"label": "uncertain", "correct": "0"}

    edit(copy, uncertain)
    found = check(copy)
    assert (found.is_match, counts(found)) == (True, {})


# --- faces -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(
    take: Take, run_gendercls: Run, null_model: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a portrait, a group and nobody, and ``o.csv`` of their faces."""
    folder = tmp_path_factory.mktemp("verify-faces")
    take(folder / "photos", 1)
    shutil.copy(
        shared / "wider-100" / "images" / "1_Handshaking_Handshaking_1_579.jpg", folder / "photos" / "group.jpg"
    )
    Image.new("RGB", (300, 300), "green").save(folder / "photos" / "nobody.png")
    detector = shared.parent / "weights" / "yunet_n_640_640.onnx"
    typed = ("classify", "photos", "--out", "o.csv", "--model", null_model, "--faces", "--face-model", detector)
    run_gendercls(*typed, "--device", "cpu", "--quiet", cwd=folder).check_returncode()
    return folder


FACES: dict[str, tuple[Callable[[list[Row]], object], dict[str, int], str]] = {
    "as it was": (lambda rows: None, {}, ""),
    "box": (
        lambda rows: rows[0].update(w=str(int(rows[0]["w"]) + 1)),
        {"different": 1},
        r"000001.jpg: has a face at [\d,]+, the detector finds [\d,]+",
    ),
    "face left out": (
        lambda rows: rows[:2] + rows[3:],
        {"contradictory": 1, "different": 1},
        r"group.jpg: has faces numbered 1, 3.*",
    ),
    "last face left out": (
        lambda rows: rows[:-2] + rows[-1:],
        {"different": 1},
        r"group.jpg: has \d+ rows, where the model gives \d+",
    ),
    "order": (
        lambda rows: [rows[0], rows[2] | {"face": "1"}, rows[1] | {"face": "2"}, *rows[3:]],
        {"contradictory": 1, "different": 1},
        "group.jpg: has faces that are not in the order of their boxes",
    ),
    "face_confidence": (
        lambda rows: rows[0].update(face_confidence="0.700000"),
        {"different": 1},
        r"000001.jpg: has face_confidence 0\.700000; the model gives 0\.\d{6}",
    ),
    "face_confidence that is none": (
        lambda rows: rows[0].update(face_confidence="sure"),
        {"contradictory": 1, "different": 1},
        "000001.jpg: has a face_confidence that is no share of 6 decimals",
    ),
    "somebody": (
        lambda rows: rows[-1].update(label="female"),
        {"contradictory": 2, "different": 1},
        "nobody.png: has no face, and the label 'female'",
    ),
}


@pytest.mark.parametrize("case", FACES)
def test_faces_are_verified_too(
    case: str, faces: Path, shared: Path, check: Callable[..., Verdict], tmp_path: Path
) -> None:
    """Their number, their order, their boxes and how sure the detector was."""
    change, expected, message = FACES[case]
    folder = shutil.copytree(faces, tmp_path / "copy")
    edit(folder, change)
    found = check(folder, face_model=shared.parent / "weights" / "yunet_n_640_640.onnx")
    assert counts(found) == expected
    assert found.photos == 3
    first = next((fault for kind in KINDS for fault in getattr(found, kind).first), None)
    assert re.fullmatch(message, f"{first.path}: {first.what}" if first else "")


@pytest.mark.parametrize("more", [("--max-faces", 1), ("--min-face", 130), ("--labels", "labels.csv")])
def test_a_run_s_own_choice_of_faces(
    more: tuple[object, ...],
    faces: Path,
    shared: Path,
    run_gendercls: Run,
    null_model: Path,
    check: Any,
    tmp_path: Path,
) -> None:
    """Faces that it left out are not missed, and a truth of several faces is a score of none."""
    folder, detector = shutil.copytree(faces, tmp_path / "copy"), shared.parent / "weights" / "yunet_n_640_640.onnx"
    (folder / "labels.csv").write_text("path,Male\n000001.jpg,1\ngroup.jpg,1\nnobody.png,0\n")
    typed = ("classify", "photos", "--out", "o.csv", "--force", "--model", null_model, "--device", "cpu", "--quiet")
    run_gendercls(*typed, "--faces", "--face-model", detector, *more, cwd=folder).check_returncode()
    assert (folder / "o.csv").read_text().count("\n") < (faces / "o.csv").read_text().count("\n") or "--labels" in more
    found = check(folder, face_model=detector)
    assert (found.is_match, found.same) == (True, 3), found


def test_another_face_detector_is_refused(faces: Path, shared: Path, check: Callable[..., Verdict]) -> None:
    """Faces that another one finds are others."""
    with pytest.raises(ModelError, match=r"(?s)^this face model is not the one that the run used\n.*--face-model$"):
        check(faces, face_model=shared.parent / "weights" / "yunet_s_640_640.onnx")


# --- attributes --------------------------------------------------------------------------------------------------


def test_independent_attributes_are_verified_too(
    take: Take, run_gendercls: Run, attribute_model: Path, check: Callable[..., Verdict], tmp_path: Path
) -> None:
    """Labels of several names, probabilities that need not sum to 1, and a confidence that is their product."""
    take(tmp_path / "photos", 3)
    typed = ("classify", "photos", "--out", "o.csv", "--model", attribute_model, "--device", "cpu", "--quiet")
    run_gendercls(*typed, cwd=tmp_path).check_returncode()
    found = check(tmp_path, model=attribute_model)
    assert (found.is_match, found.same) == (True, 3)
    edit(tmp_path, lambda rows: rows[1].update(label="Clearly"))
    assert counts(check(tmp_path, model=attribute_model)) == {"contradictory": 1}


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_on_real_photos(take: Take, run_gendercls: Run, tmp_path: Path) -> None:
    """With the shipped model: exit 0 and a line that says so; after an edit exit 1, what is wrong, and JSON."""
    take(tmp_path / "photos", 6)
    typed = ("classify", "photos", "--out", "preds.csv", "--device", "cpu", "--quiet")
    run_gendercls(*typed, cwd=tmp_path).check_returncode()
    done = run_gendercls("verify", "preds.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(
        r"6 of 6 files read again on cpu, faces-\d+(\.int8)?\.onnx \(\w{6}\): 6 the same, 0 with another answer\n"
        r"preds\.csv is what its model says of these photos\n",
        done.stderr,
    )
    text = (tmp_path / "preds.csv").read_text()
    (tmp_path / "preds.csv").write_text(re.sub(r"000002\.jpg,\w+,", "000002.jpg,uncertain,", text))
    done = run_gendercls("verify", "preds.csv", "--sample", "2", "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["is_match"], found["is_sample"], found["tried"]) == (False, True, 2)
    assert found["contradictory"]["count"] == 1
    assert found["contradictory"]["first"][0]["path"] == "000002.jpg"
    assert "warning: rows that do not follow from their own numbers: 1\n  000002.jpg: has the label" in done.stderr
    assert done.stderr.endswith(
        "Error: the CSV is not what its model says of these photos\n"
        "  where: preds.csv\n"
        "  do:    restore the CSV or the photos from a copy, or classify the photos again\n"
    )
