"""What labels say of the rows of a CSV: words that a spreadsheet would run come back, and weights are never lost."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendercls.answers import answers_for
from gendercls.classify.consistency import contradictions
from gendercls.errors import LabelError
from gendercls.labels import DEFAULT_CLASSES, ClassRule
from gendercls.preds import read_preds
from gendercls.report.compare import CompareOptions, compare
from gendercls.report.run import ReportOptions, report
from gendercls.report.sheet import SampleOptions, sample
from gendercls.report.sort import SortOptions, sort
from gendercls.rows import Columns, Row, encode
from gendercls.sources import PhotoFile
from gendercls.stats import wilson
from gendercls.truth import TruthTable

Run = Callable[..., subprocess.CompletedProcess[str]]

PHOTOS = 40


# --- classes whose names begin as formulas do --------------------------------------------------------------------


@pytest.fixture(params=[("-x", "+y"), ("=1+1", "@y"), ("'=x", "''-y")])
def preds(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """40 photos, every second of the second class, and every fourth with another truth than its answer."""
    names = request.param
    columns = Columns(answers_for(False, names), has_truth=True)
    lines = [encode(columns.header())]
    for number in range(PHOTOS):
        answer, truth = names[number % 2], names[number % 2 ^ (number % 4 == 0)]
        shares = ("0.900000", "0.100000") if number % 2 == 0 else ("0.100000", "0.900000")
        row = Row(f"{number}.jpg", answer, "0.900000", shares, truth, str(int(answer == truth)))
        lines.append(encode(columns.fields(row)))
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "photos" / row.path)
    path = tmp_path / "preds.csv"
    path.write_bytes(b"".join(lines))
    record = {"inputs": ["photos"], "model": {"file": "m", "sha256": "m"}, "versions": {}}
    record |= {"classes": {names[0]: "Male", names[1]: "!Male"}, "independent": False}
    record["options"] = {"device": "cpu", "precision": "fp32", "confidence_threshold": 0.0}
    path.with_name("preds.csv.run.json").write_text(json.dumps(record))
    return path


def labels_of(preds: Path) -> Path:
    """What the sheet of all photos saves where a person gives each its truth."""
    sample(SampleOptions(preds, preds.with_name("sheet.html"), preds.parent / "photos", PHOTOS), lambda line: None)
    page = preds.with_name("sheet.html").read_text(encoding="utf-8")
    sheet = json.loads(page.partition('id="sheet">')[2].partition("</script>")[0])
    found = read_preds(preds)
    truths = {row.path: found.answers.names.index(row.truth) for row in found.rows}
    lines = [sheet["header"]]
    lines += [f"{p['key']},{sheet['answers'][truths[p['key']]]},1,{p['stratum']}\n" for p in sheet["photos"]]
    path = preds.with_name("labels.csv")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_no_word_is_a_formula_and_each_reader_gives_it_back(preds: Path, tmp_path: Path) -> None:
    """Of the CSV itself: ``report``, ``compare`` and what ``verify`` checks without a photo."""
    found = read_preds(preds)
    assert {row.label for row in found.rows} == {row.truth for row in found.rows} == set(found.answers.names)
    measures = report(ReportOptions(preds, out=tmp_path / "p.html"), lambda line: None).measures
    assert measures is not None
    assert measures.quality is not None
    assert measures.quality.scores.accuracy == wilson(30, PHOTOS)
    changed = tmp_path / "changed.csv"
    shutil.copy(preds, tmp_path / "other.csv")
    assert not [*contradictions(found, found.answers, 0.0)]
    text = preds.read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join([*text[:1], text[2].replace("1.jpg", "0.jpg"), *text[2:]]) + "\n")
    comparison = compare(CompareOptions(preds, tmp_path / "other.csv", out=changed))
    assert comparison.changed == wilson(1, PHOTOS)
    assert comparison.conflicts == 0
    for file in (preds, changed):
        fields = [field for line in file.read_text().splitlines() for field in line.split(",")]
        assert not [field for field in fields if field.startswith(("=", "+", "-", "@"))]


def test_the_labels_of_a_sheet_are_read_back(preds: Path, tmp_path: Path) -> None:
    """By ``report``, ``compare`` and ``classify``."""
    labels = labels_of(preds)
    assert not [line for line in labels.read_text().splitlines() if line.split(",")[1][0] in "=+-@"]
    measures = report(ReportOptions(preds, labels, tmp_path / "p.html"), lambda line: None).measures
    assert measures is not None
    assert [share.by_hand.value for share in measures.shares if share.by_hand] == pytest.approx([0.25, 0.75])
    accuracy = compare(CompareOptions(preds, preds, labels=labels)).accuracy
    assert accuracy is not None
    assert accuracy.first == wilson(30, PHOTOS)
    found = read_preds(preds)
    names = found.answers.names
    table = TruthTable(
        labels, (ClassRule(names[0], "Male"), ClassRule(names[1], "!Male")), independent=False, split=None
    )
    assert [table.of(PhotoFile(row.path, row.path.encode())) for row in found.rows] == [r.truth for r in found.rows]


def test_photos_are_sorted_below_the_word_itself(preds: Path, tmp_path: Path) -> None:
    """A folder's name is no formula."""
    done = sort(SortOptions(preds, tmp_path / "into", tmp_path / "photos"), lambda done, total: None)
    assert done.folders == dict.fromkeys(read_preds(preds).answers.names, PHOTOS // 2)


# --- labels that were drawn with weights -------------------------------------------------------------------------


def test_weights_are_used_or_said_not_to_be(run_gendercls: Run, celeba: Path, null_model: Path, tmp_path: Path) -> None:
    """``report --labels`` uses them; ``classify`` and ``compare`` count labels as they are, and say so.

    So do the runs that read what ``classify`` kept of such labels; plain labels are spoken of by nobody.
    """
    (tmp_path / "photos").mkdir()
    for number in range(1, 7):
        shutil.copy(celeba / "img_align_celeba" / f"{number:06}.jpg", tmp_path / "photos")
    rows = [(f"{number:06}.jpg", "female" if number < 4 else "undetermined", 1.5) for number in range(1, 5)]
    (tmp_path / "drawn.csv").write_text("path,truth,weight\n" + "".join(f"{p},{w},{n}\n" for p, w, n in rows))
    (tmp_path / "plain.csv").write_text("path,truth\n" + "".join(f"{p},{w}\n" for p, w, _ in rows))
    said: dict[str, dict[str, tuple[Any, str]]] = {}
    for labels in ("drawn", "plain"):
        out, typed = f"{labels}-preds.csv", ("--labels", f"{labels}.csv", "--json")
        classified = ("classify", "photos", "--out", out, "--model", null_model, "--device", "cpu", *typed)
        commands = {
            "classify": classified,
            "report --labels": ("report", out, *typed),
            "report": ("report", out, "--force", "--json"),
            "compare --labels": ("compare", out, out, *typed),
            "compare": ("compare", out, out, "--json"),
        }
        said[labels] = {}
        for name, command in commands.items():
            done = run_gendercls(*command, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            said[labels][name] = json.loads(done.stdout), done.stderr
    warning = "warning: the labels have weights, which are not used: "
    assert {name for name, (_, words) in said["drawn"].items() if warning in words} == {
        "classify",
        "compare --labels",
        "compare",
    }
    assert said["drawn"]["classify"][0]["labels"] == {
        "source": "drawn.csv",
        "unweighted": True,
        "path": 4,
        "missing": 2,
        "open": 1,
    }
    assert said["drawn"]["classify"][0]["scores"]["accuracy"]["total"] == 3
    assert said["drawn"]["compare"][0]["unweighted"]
    assert said["drawn"]["report --labels"][0]["quality"] is None
    assert said["drawn"]["report --labels"][0]["shares"][0]["by_hand"]
    assert said["drawn"]["report"][0]["label_source"].endswith("which has labels drawn unevenly and not their weights")
    assert not [words for _, words in said["plain"].values() if "weights" in words]
    assert said["plain"]["report"][0]["label_source"] == "the CSV’s column truth"


# --- labels of faces ---------------------------------------------------------------------------------------------


def test_labels_of_faces_are_each_of_one_face(tmp_path: Path) -> None:
    """``compare`` scores a face that has its number in both CSVs; ``classify``, whose labels are of photos, refuses."""
    header = "path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error"
    answer = {"female": "female,0.900000,0.900000,0.100000,", "male": "male,0.900000,0.100000,0.900000,"}
    boxes = {1: "0,0,9,9", 2: "20,0,9,9", 3: "40,0,9,9"}
    first = [f"a.jpg,{number},{box},0.9,{answer['female']}" for number, box in boxes.items()]
    second = [f"a.jpg,1,{boxes[1]},0.9,{answer['male']}", f"a.jpg,2,{boxes[3]},0.9,{answer['female']}"]
    for name, rows in (("1.csv", first), ("2.csv", second)):
        (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,face,truth,weight,stratum\n" + "".join(f"a.jpg,{n},female,1,1\n" for n in boxes))
    found = compare(CompareOptions(tmp_path / "1.csv", tmp_path / "2.csv", labels=labels))
    assert (found.rows, found.unweighted) == (2, True)
    assert found.accuracy is not None  # of the first face alone: the third is the second one in the other CSV
    assert (found.accuracy.first, found.accuracy.second) == (wilson(1, 1), wilson(0, 1))
    alike = compare(CompareOptions(tmp_path / "1.csv", tmp_path / "1.csv", labels=labels)).accuracy
    assert alike is not None
    assert alike.first == wilson(3, 3)
    with pytest.raises(LabelError, match=r"^these labels are of faces, and here those of photos are needed\n"):
        TruthTable(labels, DEFAULT_CLASSES, independent=False, split=None)


def test_a_truth_of_a_photo_is_that_of_its_only_face(tmp_path: Path) -> None:
    """Of several faces, of none and of a photo that failed nothing is scored, as in the CSV's column ``correct``."""
    lines = ["path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,truth,correct,error"]
    answer = {"female": "female,0.900000,0.900000,0.100000", "male": "male,0.900000,0.100000,0.900000"}
    lines += [f"a.jpg,1,0,0,9,9,0.9,{answer['male']},male,1,", f"b.jpg,1,0,0,9,9,0.9,{answer['female']},male,0,"]
    lines += [f"c.jpg,{face},{20 * face},0,9,9,0.9,{answer['female']},male,," for face in (1, 2)]
    lines += ["d.jpg,0,,,,,,no face,,,,male,,", "e.jpg,,,,,,,,,,,male,,empty file"]
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.csv").write_text("path,Male\n" + "".join(f"{name}.jpg,1\n" for name in "abcde"))
    for labels in (None, tmp_path / "labels.csv"):
        measures = report(ReportOptions(tmp_path / "p.csv", labels, force=True), lambda line: None).measures
        assert measures is not None
        assert measures.quality is not None
        assert measures.quality.scores.accuracy == wilson(1, 2)
        page = (tmp_path / "p.html").read_text(encoding="utf-8")
        assert "The surest of 1 answers that the labels contradict" in page
