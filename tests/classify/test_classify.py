"""``gendercls classify`` as a person runs it, on real photos."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from gendercls import Classifier
from gendercls.images import decode
from gendercls.shares import Share, rogan_gladen
from gendercls.stats import Rate, wilson

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]

CLASSES = ("female", "male")


def celeba_truth(celeba: Path) -> dict[str, str]:
    """Each photo's class, read from CelebA's file without our reader."""
    _, names, *lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    male = names.split().index("Male") + 1
    return {line.split()[0]: CLASSES[line.split()[male] == "1"] for line in lines}


# --- rows -------------------------------------------------------------------------------------------------------


def test_every_file_has_one_row_in_order(finished: Path, rows: Rows) -> None:
    """'One row for every input, in the order of the listing, also for files that could not be read'."""
    names = [f"{number:06}.jpg" for number in range(1, 13)] + [f"more/{number:06}.jpg" for number in range(13, 22)]
    found = rows(finished / "o.csv")
    assert [row["path"] for row in found] == [*names, "notes.txt"]
    assert list(found[0]) == ["path", "label", "confidence", "p_female", "p_male", "error"]
    assert [row["path"] for row in found if not row["label"]] == ["000005.jpg", "notes.txt"]
    assert re.fullmatch("damaged photo: image file is truncated.*", found[4]["error"])
    assert found[-1]["error"] == "not a photo"


def test_the_csv_alone_reproduces_itself(finished: Path, rows: Rows) -> None:
    """'label, confidence and every threshold are taken from the rounded values, ties to the first class'."""
    for row in rows(finished / "o.csv"):
        numbers = [row["p_female"], row["p_male"]]
        if row["error"]:
            assert (row["label"], row["confidence"], *numbers) == ("", "", "", "")
            continue
        assert all(re.fullmatch(r"[01]\.\d{6}", number) for number in numbers)
        assert row["confidence"] == max(numbers)
        assert row["label"] == CLASSES[numbers.index(max(numbers))]
        assert sum(map(float, numbers)) == pytest.approx(1, abs=2e-6)


def test_arguments_come_in_the_order_typed(finished: Path, run_gendercls: Run, rows: Rows, tmp_path: Path) -> None:
    """With several folders and files each path begins with the argument as typed, and its answer is the same."""
    out = tmp_path / "o.csv"
    typed = ("photos/more/", "photos/000002.jpg", "./photos/000001.jpg")
    assert run_gendercls("classify", *typed, "--out", out, "--quiet", cwd=finished).returncode == 0
    found = rows(out)
    assert [row["path"] for row in found] == [*(f"photos/more/{n:06}.jpg" for n in range(13, 22)), *typed[1:]]
    known = {row["path"]: row["p_male"] for row in rows(finished / "o.csv")}
    assert [row["p_male"] for row in found] == [known[os.path.normpath(row["path"])[7:]] for row in found]


@pytest.mark.parametrize(("size", "jobs"), [(1, 4), (3, 1), (3, 2), (8, 4)])
def test_batch_size_and_jobs_do_not_change_a_byte(finished: Path, copy: Path, run: Run, size: int, jobs: int) -> None:
    """'On a CPU whatever the batch size, the number of jobs': the same bytes."""
    run(copy, "--force", "--batch-size", size, "--jobs", jobs)
    assert (copy / "o.csv").read_bytes() == (finished / "o.csv").read_bytes()


def test_limit_takes_the_first_photos(finished: Path, copy: Path, run: Run) -> None:
    """``--limit 3`` gives the first three rows of the whole run."""
    run(copy, "--force", "--limit", 3)
    assert (copy / "o.csv").read_bytes().splitlines() == (finished / "o.csv").read_bytes().splitlines()[:4]


def test_an_output_among_the_photos_is_no_input(finished: Path, copy: Path, run_gendercls: Run) -> None:
    """Neither the CSV nor its companions are listed, not even when an older result is replaced."""
    for _ in range(2):
        done = run_gendercls("classify", ".", "--out", "o.csv", "--force", cwd=copy / "photos")
        assert done.returncode == 0, done.stderr
        assert (copy / "photos" / "o.csv").read_bytes() == (finished / "o.csv").read_bytes()


# --- confidence -------------------------------------------------------------------------------------------------


def check_uncertain(found: list[dict[str, str]], threshold: float) -> None:
    """Exactly the rows below the threshold are uncertain; all keep their probabilities."""
    answered = [row for row in found if not row["error"]]
    assert [row["label"] == "uncertain" for row in answered] == [float(r["confidence"]) < threshold for r in answered]
    assert all(row["p_female"] and row["p_male"] for row in answered)


def test_below_min_confidence_the_label_is_uncertain(finished: Path, copy: Path, run: Run, rows: Rows) -> None:
    """'The row keeps its probabilities and gets the label uncertain'; one exactly at the threshold keeps its label."""
    middle = sorted(float(row["confidence"]) for row in rows(finished / "o.csv") if row["confidence"])[10]
    done = run(copy, "--force", "--min-confidence", middle, "--json")
    found, summary = rows(copy / "o.csv"), json.loads(done.stdout)
    check_uncertain(found, middle)
    assert Counter(row["label"] for row in found)["uncertain"] == summary["uncertain"] == 10
    assert f"10 uncertain (below {middle:.3f})" in done.stderr
    numbers = [[row[name] for name in ("path", "confidence", "p_female", "p_male", "error")] for row in found]
    assert numbers == [
        [row[k] for k in ("path", "confidence", "p_female", "p_male", "error")] for row in rows(finished / "o.csv")
    ]


def test_max_error_takes_its_threshold_from_the_model(copy: Path, run: Run, rows: Rows) -> None:
    """The confidence is the one that kept that error rate on the model's validation photos."""
    thresholds = Classifier(device="cpu").spec.thresholds
    strictest = min(thresholds, key=lambda row: row.wanted_error)
    done = run(copy, "--force", "--max-error", strictest.wanted_error, "--json")
    assert json.loads(done.stdout)["confidence_threshold"] == strictest.confidence
    check_uncertain(rows(copy / "o.csv"), strictest.confidence)


# --- labels -----------------------------------------------------------------------------------------------------


def check_scores(found: list[dict[str, str]], truth: list[str], done: subprocess.CompletedProcess[str]) -> None:
    """The CSV has the truth and what is correct, and the summary, text and JSON, says what the CSV adds up to."""
    assert [row["truth"] for row in found] == truth
    assert [row["correct"] for row in found] == [
        str(int(r["label"] == r["truth"])) if r["truth"] else "" for r in found
    ]
    pairs = Counter((row["truth"], row["label"]) for row in found if row["truth"])
    counts = [[pairs[is_, said] for said in (*CLASSES, "uncertain", "")] for is_ in CLASSES]
    right, known, answered = counts[0][0] + counts[1][1], pairs.total(), sum(sum(row[:2]) for row in counts)
    summary = json.loads(done.stdout)
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    assert f"accuracy against {summary['labels']['source']}: {wilson(right, known)}" in lines
    partly = f"accuracy of the answered: {wilson(right, answered)}, coverage {100 * answered / known:.2f} %"
    assert (partly in lines) == (answered < known)
    assert summary["scores"]["confusion"] == counts
    shown = [n for n in range(4) if n < 2 or any(row[n] for row in counts)]
    for number, name in enumerate(CLASSES):
        assert " ".join([name, *(str(counts[number][n]) for n in shown)]) in lines
        rates = [
            wilson(counts[number][number], total) for total in (sum(r[number] for r in counts), sum(counts[number][:2]))
        ]
        assert " ".join([name, *(str(rate).partition(" (")[0] if rate.total else "–" for rate in rates)]) in lines
        assert [summary["scores"][key][name]["low"] for key in ("precision", "recall")] == [rate.low for rate in rates]


def test_celeba_labels_score_the_run(copy: Path, celeba: Path, run: Run, rows: Rows) -> None:
    """Failed and uncertain photos count as wrong; a photo without a label counts nowhere."""
    shutil.copy(copy / "photos" / "000001.jpg", copy / "photos" / "0-unknown.jpg")
    done = run(copy, "--force", "--labels", celeba, "--min-confidence", 0.97, "--json")
    truth = celeba_truth(celeba)
    found = rows(copy / "o.csv")
    check_scores(found, [truth.get(row["path"].rpartition("/")[2], "") for row in found], done)
    assert Counter(row["label"] for row in found if row["truth"])[""] == 1
    assert json.loads(done.stdout)["labels"] == {
        "source": "CelebA",
        "missing": 2,
        "path": 21,
        "unweighted": False,
    }


def test_fairface_labels_score_the_run(tmp_path: Path, fairface: Path, run: Run, rows: Rows) -> None:
    """Its photos are known by their folder, ``val/7.jpg``, since ``train/7.jpg`` is another person."""
    (tmp_path / "photos" / "val").mkdir(parents=True)
    for number in range(1, 9):
        shutil.copy(fairface / "val" / f"{number}.jpg", tmp_path / "photos" / "val")
    done = run(tmp_path, "--labels", fairface, "--json")
    lines = (fairface / "fairface_label_val.csv").read_text().splitlines()[1:9]
    check_scores(rows(tmp_path / "o.csv"), [line.split(",")[2].lower() for line in lines], done)


def test_a_csv_scores_the_run_and_its_split_chooses_the_photos(copy: Path, run: Run, rows: Rows) -> None:
    """With ``--split test`` only that part of the CSV is classified; unlabelled photos are in no part."""
    parts = {f"{n:06}.jpg": ("test", "train", "val")[n % 3] for n in range(1, 11)}
    table = ["file,Male,split", *(f"{name},{1 if name > '000008' else -1},{part}" for name, part in parts.items())]
    (copy / "labels.csv").write_text("\n".join(table) + "\n")
    done = run(copy, "--force", "--labels", "labels.csv", "--split", "test", "--json")
    assert [row["path"] for row in rows(copy / "o.csv")] == ["000003.jpg", "000006.jpg", "000009.jpg"]
    check_scores(rows(copy / "o.csv"), ["female", "female", "male"], done)
    assert run(copy, "--force", "--labels", "labels.csv", "--split", "test", "--limit", 2).returncode == 0
    assert [row["path"] for row in rows(copy / "o.csv")] == ["000003.jpg", "000006.jpg"]


def test_class_folders_score_the_run(tmp_path: Path, celeba: Path, take: Take, run: Run, rows: Rows) -> None:
    """The photos' own folders are the labels, whatever attributes the model's classes were trained from."""
    truth = celeba_truth(celeba)
    for photo in take(tmp_path / "photos", 8):
        place = tmp_path / "photos" / truth[photo.name]
        place.mkdir(exist_ok=True)
        photo.rename(place / photo.name)
    done = run(tmp_path, "--labels", "photos", "--json")
    found = rows(tmp_path / "o.csv")
    check_scores(found, [row["path"].partition("/")[0] for row in found], done)


# --- the summary ------------------------------------------------------------------------------------------------


def test_the_summary_says_what_the_csv_adds_up_to(finished: Path, copy: Path, run: Run, rows: Rows) -> None:
    """As text on stderr without a single escape code, and as JSON on stdout."""
    done = run(copy, "--force", "--json")
    said, labels = json.loads(done.stdout), Counter(row["label"] for row in rows(finished / "o.csv"))
    keys = ("out", "files", "answered", "uncertain", "failed", "failures", "not_photos", "scores", "labels", "device")
    assert [said[key] for key in keys] == ["o.csv", 22, 20, 0, 1, {"damaged photo": 1}, 1, None, None, "cpu"]
    shares = {name: wilson(labels[name], 20) for name in CLASSES}
    assert {name: (s["count"], s["low"]) for name, s in said["shares"].items()} == {
        n: (r.count, r.low) for n, r in shares.items()
    }
    figure = Classifier(device="cpu").spec.figures[0]
    corrected = rogan_gladen(np.array([labels[name] for name in CLASSES]), np.array(figure.confusion))
    assert corrected is not None
    assert list(said["corrected_shares"].values()) == list(map(asdict, corrected))
    assert said["corrected_by"] == figure.on

    def cells(share: Rate | Share) -> str:
        return f"{100 * share.value:.2f} % {100 * share.low:.2f}–{100 * share.high:.2f}"

    text = re.sub(r"in \S+ s \(\S+/s\)", "in TIME", done.stderr)
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "perceived as photos share 95 % interval corrected 95 % interval",
        *(f"{n} {r.count} {cells(r)} {cells(c)}" for (n, r), c in zip(shares.items(), corrected, strict=True)),
        f"corrected: if errors are as frequent as on {figure.on} (docs/shares.md)",
        "failed: 1 photo: 1 damaged photo",
        "not photos: 1 file",
        f"21 photos in TIME on cpu, {said['precision']}, {said['model']}: 20 with a label, 1 failed",
        "rows: o.csv",
        "Labels say how a labeller would likely perceive a face, not anyone's gender.",
    ]


def test_precision_and_recall_say_of_what_they_are(copy: Path, celeba: Path, run: Run) -> None:
    """Uncertain photos count in the accuracy, not in precision and recall, and the table's heading says so."""
    done = run(copy, "--force", "--labels", celeba, "--min-confidence", 0.97, "--json")
    scores = json.loads(done.stdout)["scores"]
    assert scores["coverage"]["value"] < 1
    assert json.loads(done.stdout)["corrected_shares"] is None  # other photos are answered than the errors are known of
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    table = lines[lines.index("of the answered precision recall") + 1 :][: len(CLASSES)]
    for name, line in zip(CLASSES, table, strict=True):
        rates = (scores[key][name] for key in ("precision", "recall"))
        shown = [f"{100 * r['value']:.2f} % [{100 * r['low']:.2f}, {100 * r['high']:.2f}]" for r in rates]
        assert line == " ".join([name, *shown])


def test_a_share_of_nothing_is_null(tmp_path: Path, run: Run) -> None:
    """Without a single answer the JSON is still JSON, which has no NaN; the run is done."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("no photo")
    done = run(tmp_path, "--json", "--quiet", "--strict")
    shares = json.loads(done.stdout, parse_constant=pytest.fail)["shares"]
    assert shares["male"] == {"count": 0, "total": 0, "value": None, "low": 0.0, "high": 1.0}
    assert done.stderr == ""


def test_strict_fails_for_failed_photos(copy: Path, run: Run) -> None:
    """Exit 3 after all is done; without the broken photo the note, which 'is no photo', is no reason."""
    done = run(copy, "--force", "--strict", "--quiet", status=3)
    assert done.stderr == "Error: 1 photo failed\n  where: o.csv\n  do:    see the column 'error' of their rows\n"
    assert (copy / "o.csv").exists()
    (copy / "photos" / "000005.jpg").unlink()
    assert run(copy, "--force", "--strict", "--quiet").stderr == ""


# --- one photo, one answer --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(celeba: Path) -> dict[str, bytes]:
    """Ten real photos and five things that are none, by name."""
    good = {f"{n:06}": (celeba / "img_align_celeba" / f"{n:06}.jpg").read_bytes() for n in range(1, 11)}
    return good | {f"bad{n}": good["000001"][: 700 * n] for n in range(5)}


@pytest.fixture(scope="module")
def alone(photos: dict[str, bytes]) -> dict[str, tuple[object, ...]]:
    """What the model says of each photo when it is the only one."""
    classifier = Classifier(device="cpu", batch_size=1, jobs=1)
    answers = zip(photos, classifier.predict(photos.values()), strict=True)
    return {name: (p.label, p.confidence, p.probabilities, p.error) for name, p in answers}


@pytest.mark.parametrize("seed", range(6))
def test_each_photo_keeps_its_own_answer(
    photos: dict[str, bytes], alone: dict[str, tuple[object, ...]], seed: int
) -> None:
    """Batches of 4 in six random groupings, failures at every place of a batch: no answer is another photo's."""
    names = random.Random(seed).sample(sorted(photos), len(photos))  # noqa: S311
    names += [name for place in range(4) for name in ["000001"] * place + ["bad1"] + ["000002"] * (3 - place)]
    classifier = Classifier(device="cpu", batch_size=4, jobs=2)
    found = [(p.label, p.confidence, p.probabilities, p.error) for p in classifier.predict(photos[n] for n in names)]
    assert found == [alone[name] for name in names]


def test_python_gives_the_numbers_of_the_command(finished: Path, rows: Rows) -> None:
    """Paths, bytes and arrays alike: every digit that the CSV has, and the same reason."""
    wanted = rows(finished / "o.csv")[:8]
    paths = [finished / "photos" / row["path"] for row in wanted]
    classifier = Classifier(device="cpu")
    for row, answer in zip(wanted, classifier.predict(paths), strict=True):
        assert answer.key == str(finished / "photos" / row["path"])
        assert (answer.label, answer.error) == (row["label"], row["error"])
        assert [f"{p:.6f}" for p in answer.probabilities] == [row[k] for k in ("p_female", "p_male") if row[k]]
    good = [path for path, row in zip(paths, wanted, strict=True) if not row["error"]]
    by_path = [answer.probabilities for answer in classifier.predict(good)]
    assert [answer.probabilities for answer in classifier.predict(path.read_bytes() for path in good)] == by_path
    arrays = [np.asarray(decode(path.read_bytes())) for path in good]
    assert [answer.probabilities for answer in classifier.predict(arrays)] == by_path


def test_an_array_that_is_no_photo_has_a_reason() -> None:
    """A wrong type or shape is a photo's fate, not the end of the run."""
    answers = Classifier(device="cpu").predict([np.zeros((9, 9), np.uint8), np.zeros((0, 9, 3), np.uint8)])
    assert [(answer.key, answer.error) for answer in answers] == [
        ("0", "array is uint8 [9, 9]; it must be uint8 [H, W, 3]"),
        ("1", "array is uint8 [0, 9, 3]; it must be uint8 [H, W, 3]"),
    ]


def test_prediction_is_lazy(photos: dict[str, bytes]) -> None:
    """An endless stream gives answers, and is read only as far ahead as the threads need."""
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in count():
            taken.append(number)
            yield photos["000001"]

    answers = Classifier(device="cpu", batch_size=2, jobs=1).predict(endless())
    assert taken == []
    assert next(answers).error == ""
    assert len(taken) == 8  # three chunks a thread, and the next one
