"""``gendercls classify`` with a model of independent attributes: labels of several names, each attribute scored."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gendercls import Classifier
from gendercls.answers import answers_for
from gendercls.classify.tally import Tally
from gendercls.rows import Row
from gendercls.scores import AttributeScores, agreement_for
from gendercls.stats import wilson

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]

NAMES = ("Female", "Not_Female", "Clearly")
COUNT = 30
UNKNOWN = "000007.jpg"


@pytest.fixture(scope="module")
def run(run_gendercls: Run, attribute_model: Path) -> Run:
    """``run(folder, *more)``: the command with the model of attributes, over the folder's ``photos``."""

    def classify(folder: Path, *more: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = ("classify", "photos", "--out", "o.csv", "--device", "cpu", "--model", attribute_model, "--force")
        done = run_gendercls(*command, *more, cwd=folder, env={"COLUMNS": "80"})
        assert done.returncode == status, done.stderr
        return done

    return classify


@pytest.fixture(scope="module")
def labelled(take: Take, celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` (30 of faces and a note) and ``labels.csv``, where one photo's ``Clearly`` is unknown.

    Female is the opposite of CelebA's Male; the third is whatever ``Attractive`` says.
    """
    folder = tmp_path_factory.mktemp("labelled")
    take(folder / "photos", COUNT)
    (folder / "photos" / "notes.txt").write_text("taken in May")
    _, header, *lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    male, third = header.split().index("Male") + 1, header.split().index("Attractive") + 1
    rows = ["path,Clearly,Female,Not Female"]
    for fields in (line.split() for line in lines[:COUNT]):
        clearly = "" if fields[0] == UNKNOWN else fields[third]
        rows.append(f"{fields[0]},{clearly},{'-1' if fields[male] == '1' else '1'},{fields[male]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def scored(labelled: Path, run: Run, rows: Rows) -> tuple[list[dict[str, str]], subprocess.CompletedProcess[str]]:
    """The rows of a run with labels, and what it said."""
    done = run(labelled, "--labels", "labels.csv", "--json")
    return rows(labelled / "o.csv"), done


def truth_of(labelled: Path, name: str) -> str:
    """The true label, read from the labels without our reader."""
    line = next(line for line in (labelled / "labels.csv").read_text().splitlines() if line.startswith(name))
    clearly, female, not_female = line.split(",")[1:]
    known = zip(NAMES, (female, not_female, clearly), strict=True)
    return "" if not clearly else " ".join(name for name, value in known if value == "1") or "none"


# --- rows -------------------------------------------------------------------------------------------------------


def test_a_row_reproduces_itself(scored: tuple[list[dict[str, str]], object]) -> None:
    """The label names the attributes from one half on, the confidence is the product of max(p, 1 - p)."""
    found = [row for row in scored[0] if not row["error"]]
    assert list(found[0])[:6] == ["path", "label", "confidence", "p_Female", "p_Not_Female", "p_Clearly"]
    for row in found:
        shown = [float(row[f"p_{name}"]) for name in NAMES]
        assert row["label"] == (" ".join(n for n, p in zip(NAMES, shown, strict=True) if p >= 0.5) or "none")
        assert float(row["confidence"]) == pytest.approx(math.prod(max(p, 1 - p) for p in shown), abs=1e-6)
    assert {row["label"] for row in found} >= {"Female", "Not_Female", "none", "Female Clearly"}
    assert len(found) == COUNT


def test_truth_is_the_whole_label(labelled: Path, scored: tuple[list[dict[str, str]], object]) -> None:
    """``truth`` has the true attributes in the model's order, and is empty where one is unknown; so is ``correct``."""
    for row in scored[0]:
        truth = "" if row["path"] == "notes.txt" else truth_of(labelled, row["path"])
        assert (row["truth"], row["correct"]) == (truth, str(int(row["label"] == truth)) if truth else "")
    assert [row["path"] for row in scored[0] if not row["truth"]] == [UNKNOWN, "notes.txt"]


def test_python_gives_what_the_csv_has(
    labelled: Path, attribute_model: Path, scored: tuple[list[dict[str, str]], object]
) -> None:
    """`Classifier` gives the same labels, confidences and numbers, whatever the batch size."""
    classifier = Classifier(attribute_model, device="cpu", batch_size=3, jobs=2)
    photos = [row["path"] for row in scored[0][:10]]
    for row, said in zip(scored[0], classifier.predict(labelled / "photos" / name for name in photos), strict=False):
        assert (row["label"], row["confidence"]) == (said.label, f"{said.confidence:.6f}")
        assert [row[f"p_{name}"] for name in NAMES] == [f"{p:.6f}" for p in said.probabilities]


def test_a_run_that_was_stopped_goes_on(labelled: Path, run: Run, scored: object) -> None:
    """Labels of several names are read back, and the finished file has the same bytes."""
    whole = (labelled / "o.csv").read_bytes()
    (labelled / "o.csv.part").write_bytes(b"".join(whole.splitlines(keepends=True)[:13]))
    (labelled / "o.csv").unlink()
    done = run(labelled, "--labels", "labels.csv")
    assert "; 11 rows were there already" in done.stderr
    assert (labelled / "o.csv").read_bytes() == whole


# --- confidence -------------------------------------------------------------------------------------------------


def test_min_confidence_is_about_the_whole_label(
    labelled: Path, run: Run, rows: Rows, tmp_path: Path, scored: tuple[list[dict[str, str]], object]
) -> None:
    """Rows whose product is below it are uncertain and keep their numbers."""
    middle = sorted(row["confidence"] for row in scored[0] if row["confidence"])[10]
    done = run(labelled, "--min-confidence", middle, "--labels", "labels.csv", "--out", tmp_path / "o.csv", "--json")
    found = [row for row in rows(tmp_path / "o.csv") if not row["error"]]
    before = [row for row in scored[0] if not row["error"]]
    for row, was in zip(found, before, strict=True):
        is_below = float(row["confidence"]) < float(middle)
        assert row == was | ({"label": "uncertain", "correct": row["truth"] and "0"} if is_below else {})
    said = json.loads(done.stdout)
    assert (said["uncertain"], said["answered"]) == (10, 20)
    counted = sum(sum(map(sum, attribute["confusion"])) for attribute in said["scores"]["attributes"])
    assert counted == 3 * sum(1 for row in found if row["truth"] and row["label"] != "uncertain")


def test_an_error_rate_that_the_model_does_not_keep_is_told(labelled: Path, run: Run) -> None:
    """``--max-error`` of a model without a threshold for it says what is counted, and exits 1."""
    done = run(labelled, "--max-error", 0.05, status=1)
    assert done.stderr == (
        "Error: no confidence keeps an error rate of 0.05 on the photos this model was validated on\n"
        "  where: the threshold table of attributes-1; one wrong attribute makes a wrong label\n"
        "  do:    use --min-confidence instead\n"
    )


# --- the summary ------------------------------------------------------------------------------------------------


def test_each_attribute_is_scored(
    scored: tuple[list[dict[str, str]], subprocess.CompletedProcess[str]],
) -> None:
    """Shares, accuracy, precision and recall of each attribute, in JSON and as a table, are what the CSV adds up to."""
    found, done = scored
    said = json.loads(done.stdout)
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    known = [row for row in found if row["truth"]]
    right = wilson(sum(row["label"] == row["truth"] for row in known), len(known))
    assert f"accuracy of whole labels against labels.csv: {right}" in lines
    assert said["scores"]["accuracy"]["low"] == right.low
    means = []
    for name, score in zip(NAMES, said["scores"]["attributes"], strict=True):
        pairs = [(name in row["truth"].split(), name in row["label"].split()) for row in known]
        counts = [[pairs.count((is_, says)) for says in (False, True)] for is_ in (False, True)]
        (tn, fp), (fn, tp) = counts
        rates = [wilson(tn + tp, len(known)), wilson(tp, fp + tp), wilson(tp, fn + tp)]
        assert (score["name"], score["confusion"]) == (name, counts)
        assert [score[key]["high"] for key in ("accuracy", "precision", "recall")] == [rate.high for rate in rates]
        cells = [f"{100 * r.value:.1f} ({100 * r.low:.0f}–{100 * r.high:.0f})" if r.total else "–" for r in rates]
        assert " ".join([name, f"{100 * (fn + tp) / len(known):.1f}", *cells]) in lines
        share = wilson(sum(name in row["label"].split() for row in found), COUNT)
        assert said["shares"][name]["count"] == share.count
        assert f"{name} {share.count} {100 * share.value:.2f} % {100 * share.low:.2f}–{100 * share.high:.2f}" in lines
        means.append(rates[0].value)
    assert said["scores"]["mean_accuracy"] == pytest.approx(sum(means) / 3)
    assert f"accuracy of one attribute: {100 * sum(means) / 3:.2f} %, mean over 3 attributes" in lines


def test_photos_without_a_whole_truth_are_told(
    scored: tuple[list[dict[str, str]], subprocess.CompletedProcess[str]],
) -> None:
    """A label with an unknown attribute scores nothing; how many there are is said."""
    lines = scored[1].stderr.splitlines()
    assert "labels: 1 of the files match a label that leaves the truth open, so they are not scored" in lines
    assert json.loads(scored[1].stdout)["labels"] == {
        "source": "labels.csv",
        "path": COUNT,
        "missing": 1,
        "open": 1,
        "unweighted": False,
    }


def test_labels_that_lack_an_attribute_are_refused(labelled: Path, celeba: Path, run: Run) -> None:
    """Before any work, with what is missing."""
    done = run(labelled, "--labels", celeba, status=1)
    assert done.stderr == (
        "Error: the labels lack 3 of the model's 3 attributes: Female, Not_Female, Clearly\n"
        "  where: CelebA\n"
        "  do:    give labels that have all of them: a row is right only if all of its label is\n"
    )


def test_a_share_of_nothing_is_null(labelled: Path, run: Run, tmp_path: Path) -> None:
    """Where every row is uncertain, what is of the answered is null in the JSON and a dash in the table."""
    done = run(labelled, "--labels", "labels.csv", "--min-confidence", 1, "--out", tmp_path / "o.csv", "--json")
    scores = json.loads(done.stdout, parse_constant=pytest.fail)["scores"]
    assert (scores["mean_accuracy"], scores["attributes"][0]["recall"]["value"]) == (None, None)
    assert "accuracy of one attribute: –" in done.stderr.splitlines()
    assert re.search(r"^Clearly +– +– +– +–$", done.stderr, re.MULTILINE)


def test_forty_attributes_fit_a_terminal(celeba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CelebA's 40 names with the widest of numbers keep to a line each in 80 columns; a longer name is folded."""
    from gendercls import console

    names = (celeba / "list_attr_celeba.txt").read_text().splitlines()[1].split()
    agreement = agreement_for(answers_for(True, names))
    agreement.confusion[:, 1, 1] = 100_000  # type: ignore[attr-defined]
    scores = agreement.scores()
    assert isinstance(scores, AttributeScores)
    long = type(scores.attributes[0])("a" * 200, 1, 1, 1, 1)
    with console.stderr.capture() as caught:
        monkeypatch.setattr(console.stderr, "width", 80)
        console.stderr.print(console.attribute_table([*scores.attributes, long]))
    lines = caught.get().splitlines()
    assert [line.split()[0] for line in lines[1:41]] == names
    assert {line.split(maxsplit=1)[1] for line in lines[1:41]} == {
        "100.0  100.0 (100–100)  100.0 (100–100)  100.0 (100–100)"
    }
    assert max(map(len, lines)) <= 80
    assert "".join(line.split()[0] for line in lines[41:]) == "a" * 200


# --- counts -----------------------------------------------------------------------------------------------------


def test_rows_add_up_however_they_end() -> None:
    """Failed and uncertain rows count in the accuracy and not by attribute; a row without truth counts nowhere."""
    tally = Tally(answers_for(True, ("A", "B")), has_truth=True)
    numbers = ("0.500000", "0.500000")
    for label, truth, error in (
        ("A B", "A B", ""),
        ("A", "A B", ""),
        ("none", "none", ""),
        ("uncertain", "A", ""),
        ("", "B", "damaged photo: cut off"),
        ("B", "", ""),
        ("", "", "not a photo"),
    ):
        correct = str(int(label == truth)) if truth else ""
        tally.add([Row("x", label, "" if error else "0.250000", () if error else numbers, truth, correct, error)])
    assert (tally.files, tally.answered, tally.uncertain, tally.failed, tally.not_photos) == (7, 4, 1, 1, 1)
    assert tally.shares() == {"A": wilson(2, 4), "B": wilson(2, 4)}
    scores = tally.scores()
    assert isinstance(scores, AttributeScores)
    assert (scores.accuracy, scores.answered_accuracy, scores.coverage) == (wilson(2, 5), wilson(2, 3), wilson(3, 5))
    assert [score.to_dict()["confusion"] for score in scores.attributes] == [[[1, 0], [0, 2]], [[1, 0], [1, 1]]]
