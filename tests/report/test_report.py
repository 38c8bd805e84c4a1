"""``gendercls report`` as a user runs it: what it writes, what it refuses, and what the page says."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from gendercls import images
from gendercls.errors import GenderclsError
from gendercls.images import Preprocessing
from gendercls.report.run import ReportOptions, report

Run = Callable[..., subprocess.CompletedProcess[str]]
MakeRun = Callable[..., Path]
ReadPage = Callable[[Path], Any]

NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "onnxruntime"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
"""


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_recipe(run: Path, section: str, **values: Any) -> None:
    content = tomllib.loads((run / "recipe.toml").read_text())
    content[section] |= values
    (run / "recipe.toml").write_text(tomli_w.dumps(content))


def refusal(**options: Any) -> str:
    with pytest.raises(GenderclsError) as caught:
        report(ReportOptions(**options), lambda line: None)
    return str(caught.value)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_writes_a_page_where_torch_is_not_installed(
    run_gendercls: Run, make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    """``gendercls report RUN`` runs without torch and onnxruntime, says where the page is, and leaves nothing else."""
    run, before = make_run(), set(os.listdir(make_run("other")))
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run_gendercls("report", run, env={"PYTHONPATH": paths})
    size = (run / "report.html").stat().st_size
    shown = "8 photos of people become part of the page: share it only where that is allowed\n"
    expected = f"{shown}page: {run}/report.html ({size / 1e3:,.0f} kB)\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", expected)
    assert set(os.listdir(run)) == before | {"report.html"}
    assert size < 1_000_000
    assert "Test accuracy" in read_page(run / "report.html").facts("result")


def test_a_page_that_exists_is_replaced_with_force_alone(run_gendercls: Run, make_run: MakeRun) -> None:
    """A second report is refused, and the first page stays; ``--force`` replaces it."""
    run = make_run()
    (run / "report.html").write_text("mine")
    done = run_gendercls("report", run)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the output already exists\n"
        f"  where: {run}/report.html\n"
        "  do:    choose another --out, or repeat with --force to replace it\n"
    )
    assert (run / "report.html").read_text() == "mine"
    assert run_gendercls("report", run, "--force").returncode == 0
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>\n")


def test_a_page_needs_a_run_and_a_place(make_run: MakeRun, tmp_path: Path) -> None:
    """What is no run, a folder that is missing or in the way: each is refused in one message."""
    run = make_run()
    (tmp_path / "empty").mkdir()
    do = "\n  do:    name the folder that gendercls train wrote, its --out"
    assert refusal(source=tmp_path / "no") == (
        f"no such file or folder\n  where: {tmp_path}/no\n"
        "  do:    name a CSV that gendercls classify wrote, or the folder that gendercls train wrote"
    )
    assert refusal(source=run, label_noise=0.1) == (
        "--label-noise is for a CSV, and this is a folder\n  where: --label-noise 0.1\n  do:    leave it out"
    )
    assert refusal(source=tmp_path / "empty") == (
        f"the folder holds no training run: recipe.toml is not there\n  where: {tmp_path}/empty{do}"
    )
    assert refusal(source=run, photos=tmp_path / "no") == (
        f"no such folder of photos\n  where: --photos {tmp_path}/no\n  do:    check the path"
    )
    assert refusal(source=run, out=tmp_path / "no" / "run.html") == (
        "the output's folder does not exist\n"
        f"  where: {tmp_path}/no/run.html\n  do:    make it, or choose another --out"
    )
    assert refusal(source=run, out=tmp_path / "empty", force=True) == (
        f"the output is a folder\n  where: {tmp_path}/empty\n"
        f"  do:    name a file in it, as in --out {tmp_path}/empty/report.html"
    )


def test_a_page_that_cannot_be_written_leaves_the_old_one(make_run: MakeRun) -> None:
    """Where the system lets no file grow beyond 1,000 bytes, the old page stays whole and nothing lies beside it."""
    run = make_run()
    (run / "report.html").write_text("old")
    before = sorted(os.listdir(run))
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from gendercls.cli import main; main(['report', sys.argv[1], '--force'])"
    )
    done = subprocess.run([sys.executable, "-c", limited, str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "8 photos of people become part of the page: share it only where that is allowed\n"
        "Error: the file cannot be written: File too large\n"
        f"  where: {run}/report.html\n"
        "  do:    free some disk, make the folder writable, or choose another --out\n",
    )
    assert (run / "report.html").read_text() == "old"
    assert sorted(os.listdir(run)) == before


# --- what the page says ------------------------------------------------------------------------------------------


def page_of(run: Path, read_page: ReadPage, **options: Any) -> Any:
    return read_page(report(ReportOptions(source=run, force=True, **options), lambda line: None).out)


def test_the_headline_figures_are_those_of_the_run(make_run: MakeRun, read_page: ReadPage) -> None:
    """Accuracy with counts and interval, log-loss, calibration error, kept epoch, photos: as result.json has them."""
    run = make_run()
    result = json.loads((run / "result.json").read_text())
    test, calibration = result["test"], result["calibration"]
    page = page_of(run, read_page)
    assert page.facts("result") == {
        "Test accuracy": f"{100 * test['value']:.2f} % {test['count']} of {test['total']}; "
        f"95 % interval {100 * test['low']:.2f} to {100 * test['high']:.2f}",
        "Log-loss on test": f"{result['test_loss']:.4f} lower is better",
        "Calibration error on test": f"{100 * calibration['after']['error']:.2f} % "
        f"{100 * calibration['before']['error']:.2f} % before calibration",
        "Epoch kept": "2 of 3",
        "Photos": "1,000 600 train, 200 val, 200 test",
    }
    assert "Epoch 2 was kept because it had the lowest loss on the validation part, 0.1000." in page.text("result")
    assert "The split is identity: no person is on both sides" in page.text("result")
    assert "Licence of the data: CelebA: non-commercial research only" in page.text("result")
    assert "would likely perceive a face. They are binary and noisy" in page.html


def test_tables_are_those_of_the_run(make_run: MakeRun, read_page: ReadPage) -> None:
    """Confusion with shares, precision and recall, epochs, photos per label and the bins of calibration."""
    run = make_run()
    result = json.loads((run / "result.json").read_text())
    (a, b), (c, d) = result["confusion"]
    page = page_of(run, read_page)
    confusion, precision = page.rows("answers"), page.rows("answers", 1)
    assert confusion[0] == ["label", "answered female", "answered male", "photos"]
    assert confusion[1] == ["labelled female", *(f"{n} {100 * n / (a + b):.1f} %" for n in (a, b)), str(a + b)]
    assert confusion[2] == ["labelled male", *(f"{n} {100 * n / (c + d):.1f} %" for n in (c, d)), str(c + d)]
    assert precision[1][0] == "female"
    assert [
        cell.endswith(end) for cell, end in zip(precision[1][1:], (f"({a}/{a + c})", f"({a}/{a + b})"), strict=True)
    ]
    assert page.rows("epochs")[2] == ["2", "0.2500", "0.1000", "95.50 %", "0.00015", "51.2", "120"]
    with (run / "split.csv").open(newline="") as file:
        women = sum(1 for row in csv.DictReader(file) if (row["split"], row["class"]) == ("test", "female"))
    assert page.rows("photos")[3][:3] == ["test", "200", f"{women} ({women / 2:.1f} %)"]
    bins = page.rows("calibration", 0), page.rows("calibration", 1)
    assert [len(rows) for rows in bins] == [16, 16]
    first = result["calibration"]["after"]["reliability"][0]
    assert bins[1][1][:3] == ["1", str(first["count"]), f"{100 * first['confidence']:.2f} %"]


def test_promises_are_held_against_the_test_part(make_run: MakeRun, read_page: ReadPage) -> None:
    """Each threshold says kept, missed within the interval, or broken, by its wrong answers on the test part."""
    run = make_run()
    row = {"confidence": 0.9, "val_coverage": 0.8, "val_error": 0.01, "test_coverage": 0.75}
    rates = [(0.05, 3, 100), (0.02, 3, 100), (0.001, 3, 100), (0.01, 0, 0)]
    rows = [row | {"wanted_error": w, "test": {"count": c, "total": t, "value": None}} for w, c, t in rates]
    change(run / "result.json", abstention=rows)
    shown = page_of(run, read_page).rows("abstention")
    assert [line[-1] for line in shown] == [
        "promise", "kept", "missed, within the interval", "broken", "nothing answered"
    ]  # fmt: skip
    assert shown[1][:-1] == ["5 %", "0.9000", "80.0 %", "1.00 %", "75.0 %", "3.00 % [1.03, 8.45] (3/100)"]


def test_the_surest_mistakes_come_first_as_the_model_saw_them(
    make_run: MakeRun, read_page: ReadPage, celeba: Path
) -> None:
    """Up to 24 wrong answers of the test part by falling confidence, each with its photo at the model's crop."""
    run = make_run(photos=8000)
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["correct"]) == ("test", "0")]
    assert len(rows) > 24
    rows.sort(key=lambda row: (-float(row["confidence"]), row["path"]))
    items = list(page_of(run, read_page).section("mistakes").iter("li"))
    assert [" ".join(" ".join(item.itertext()).split()) for item in items] == [
        f"labelled {row['truth']} answered {row['label']} {100 * float(row['confidence']):.2f} % sure {row['path']}"
        for row in rows[:24]
    ]
    image = items[0].find("img")
    assert image is not None
    assert image.get("alt") == f"Photo {rows[0]['path']}"
    shown = Image.open(io.BytesIO(base64.b64decode(image.get("src", "").removeprefix("data:image/webp;base64,"))))
    data = (celeba / "img_align_celeba" / rows[0]["path"]).read_bytes()
    seen = images.to_array(data, Preprocessing("crop", 128, 128, "bicubic", 0.0))
    assert np.abs(np.asarray(shown, np.float64) - seen).mean() < 4  # WebP's loss


def test_a_photo_that_is_gone_leaves_its_place_and_a_note(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    """Missing and damaged photos get words instead of a picture, and the command says how many."""
    run = make_run()
    with (run / "predictions.csv").open(newline="") as file:
        wrong = [row["path"] for row in csv.DictReader(file) if (row["split"], row["correct"]) == ("test", "0")]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / wrong[0]).write_bytes(b"torn")
    result = report(ReportOptions(source=run, photos=tmp_path / "photos"), lambda line: None)
    assert result.notes == (f"photos that could not be shown: {len(wrong)}; name their folder with --photos",)
    page = read_page(result.out)
    assert "no picture: cannot be read: No such file or directory" in page.text("mistakes")
    assert "no picture: no photo inside: named .jpg" in page.text("mistakes")
    assert f"they were looked for in {tmp_path}/photos" in page.text("mistakes")
    assert not list(page.tree.iter("img"))


def test_changed_keys_of_the_recipe_are_marked(make_run: MakeRun, read_page: ReadPage) -> None:
    """Every key is there; those that differ from the shipped recipe of that name are marked, with its value."""
    run = make_run()
    page = page_of(run, read_page)
    shipped = tomllib.loads((resources.files("gendercls") / "train" / "recipes" / "default.toml").read_text())
    assert page.facts("recipe").keys() == shipped.keys()
    marked = [mark.text for mark in page.section("recipe").iter("mark")]
    assert marked == ["0.2", "3"]
    assert page.facts("recipe")["epochs"] == f"3 shipped: {shipped['epochs']}"
    change_recipe(run, "run", recipe_name="mine.toml")
    page = page_of(run, read_page)
    assert "The recipe mine.toml is not among the shipped ones, so nothing is marked." in page.text("recipe")
    assert not list(page.tree.iter("mark"))


def test_the_record_is_there_whole(make_run: MakeRun, read_page: ReadPage) -> None:
    """Seed, versions, initial weights and the data's digest stand in the record."""
    record = page_of(make_run(), read_page).facts("record")
    assert {key: record[key] for key in ("seed", "versions.torch", "init.name", "init.not loaded")} == {
        "seed": "7",
        "versions.torch": "2.14.1",
        "init.name": "weights.pt",
        "init.not loaded": "head.weight, head.bias",
    }
    assert record["data digest"] == "cd" * 32


# --- other kinds of run ------------------------------------------------------------------------------------------


def test_independent_attributes_have_a_table_of_their_own(make_run: MakeRun, read_page: ReadPage) -> None:
    """A row per attribute, the most accurate first, opinions marked; no confusion; mistakes name the attribute."""
    run = make_run(independent=True)
    result = json.loads((run / "result.json").read_text())
    page = page_of(run, read_page)
    rows = page.rows("answers")
    assert rows[0] == ["attribute", "accuracy", "labelled yes", "precision", "recall", "photos"]
    shown = {row[0].removesuffix(" opinion"): row for row in rows[1:]}
    assert len(shown) == 40
    assert shown["Young"][0] == "Young opinion"
    assert shown["Eyeglasses"][0] == "Eyeglasses"
    accuracies = [float(row[1].partition(" %")[0]) for row in rows[1:]]
    assert accuracies == sorted(accuracies, reverse=True)
    (smiling,) = (each for each in result["attributes"] if each["name"] == "Smiling")
    prevalence = smiling["prevalence"]
    interval = f"[{100 * prevalence['low']:.2f}, {100 * prevalence['high']:.2f}]"
    assert shown["Smiling"][2] == f"{100 * prevalence['value']:.2f} % {interval}"
    assert "Test photos with every attribute right" in page.facts("result")
    assert "a labeller’s opinion rather than something that a second one would see too: Attractive," in page.text(
        "result"
    )


def test_the_mistakes_of_attributes_are_the_least_probable_truths(make_run: MakeRun, read_page: ReadPage) -> None:
    """A photo stands where a part of its truth was given the lowest probability, with the count of other wrong ones."""
    run = make_run(independent=True)
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["correct"]) == ("test", "0")]
    names = [key[2:] for key in rows[0] if key.startswith("p_")]

    def given(row: dict[str, str], name: str) -> float:
        share = float(row["p_" + name])
        return share if name in row["truth"].split() else 1 - share

    worst = min(rows, key=lambda row: min(given(row, name) for name in names))
    name = min(names, key=lambda name: given(worst, name))
    others = sum(given(worst, other) < 0.5 for other in names) - 1
    labelled, answered = ("yes", "no") if name in worst["truth"].split() else ("no", "yes")
    first = next(page_of(run, read_page).section("mistakes").iter("li"))
    assert " ".join(" ".join(first.itertext()).split()) == (
        f"{name} labelled {labelled} answered {answered} {100 - 100 * given(worst, name):.2f} % sure "
        + (f"and {others} more wrong " if others else "")
        + worst["path"]
    )


def test_photos_without_all_labels_are_no_mistakes(make_run: MakeRun, read_page: ReadPage) -> None:
    """Where no test photo has all its labels there is neither accuracy nor mistake, and the page says so."""
    run = make_run(independent=True)
    text = (run / "predictions.csv").read_text()
    (run / "predictions.csv").write_text(re.sub(r"(?m),[^,]*,[01]$", ",,", text))
    change(run / "result.json", test={"count": 0, "total": 0, "value": None, "low": 0.0, "high": 1.0})
    page = page_of(run, read_page)
    assert page.facts("result")["Test photos with every attribute right"] == "– no test photo has all its labels"
    assert "No answer on the test part is known to be wrong." in page.text("mistakes")


def test_a_run_without_validation_says_what_that_means(make_run: MakeRun, read_page: ReadPage) -> None:
    """The last epoch is kept, nothing is calibrated, there are no thresholds and one curve."""
    page = page_of(make_run(val_fraction=0), read_page)
    assert "Epoch 3, the last one, was kept, since there is no validation part to choose by." in page.text("result")
    assert "There is no validation part, so only the train loss is known." in page.text("epochs")
    assert "so nothing was calibrated" in page.text("calibration")
    assert "Without a validation part there are no thresholds." in page.text("abstention")
    assert page.rows("epochs")[1][2:4] == ["–", "–"]


def test_a_run_that_goes_on_has_a_page_too(run_gendercls: Run, make_run: MakeRun, read_page: ReadPage) -> None:
    """Without result.json the page says so, how to continue, and which epoch is the best so far."""
    run = make_run()
    (run / "result.json").unlink()
    (run / "predictions.csv").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train_lo')  # at this moment
    done = run_gendercls("report", run)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "the run is not finished: the page has no result yet"
    page = read_page(run / "report.html")
    assert (
        "This run is not finished: it has no result.json yet. 3 of 3 epochs have ended. "
        "The lowest validation loss so far is 0.1000, in epoch 2." in page.text("result")
    )
    assert f"gendercls train … --out {run} --resume" in page.text("result")
    assert [heading.text for heading in page.tree.iter("h2")] == [
        "Not finished",
        "Epochs",
        "Photos",
        "Recipe",
        "Record",
    ]


def test_files_that_are_not_there_yet_are_named(make_run: MakeRun, read_page: ReadPage) -> None:
    """Without metrics.jsonl, split.csv or predictions.csv the page has a section that says so."""
    run = make_run()
    for name in ("metrics.jsonl", "split.csv", "predictions.csv"):
        (run / name).unlink()
    result = report(ReportOptions(source=run), lambda line: None)
    assert result.notes == ("the run has no predictions.csv, so no mistakes are shown",)
    page = read_page(result.out)
    assert "No epoch has ended yet: there is no metrics.jsonl." in page.text("epochs")
    assert "split.csv is not there, so only the totals are known." in page.text("photos")
    assert page.rows("photos") == [["part", "photos"], ["train", "600"], ["val", "200"], ["test", "200"]]
    assert "predictions.csv is not there, so they are not known." in page.text("mistakes")


def test_a_run_with_one_epoch_has_curves_of_one_point(make_run: MakeRun, read_page: ReadPage) -> None:
    """One epoch is a curve too."""
    run = make_run()
    line = (run / "metrics.jsonl").read_text().splitlines()[1].replace('"epoch": 2', '"epoch": 1')
    (run / "metrics.jsonl").write_text(line + "\n")
    change(run / "result.json", best=json.loads(line))
    assert "train: 0.25 in epoch 1; validation: 0.1 in epoch 1; kept: epoch 1" in page_of(run, read_page).text("epochs")
