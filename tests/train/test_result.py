"""What a finished run writes: each figure is that of the predictions beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gendercls.labels import ALL_ATTRIBUTES, read_labels
from gendercls.stats import wilson
from gendercls.train.checkpoint import load_checkpoint
from gendercls.train.data import prepare
from gendercls.train.events import EpochMetrics
from gendercls.train.loop import Predicted
from gendercls.train.result import TrainingResult
from gendercls.train.run import TrainOptions, train

Options = Callable[..., TrainOptions]


def rows_of(run: Path, part: str) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == part]


def result_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def attributes(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_data` with three attributes, one of which is unknown of one test photo."""
    folder = tmp_path_factory.mktemp("attributes")
    lines = (small_data / "labels.csv").read_text().splitlines()
    rows = ["path,Male,Attractive,Smiling,split"]
    for number, line in enumerate(lines[1:]):
        path, male, part = line.split(",")
        smiling = "" if number == 47 else (-1, -1, 1)[number % 3]
        rows.append(f"{path},{male},{(1, -1)[number % 2]},{smiling},{part}")
        (folder / path).symlink_to(small_data / path)
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def independent_run(
    small_options: Options, attributes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], TrainingResult]:
    """A finished run of ``--classes all``: its folder, what it said, and its result."""
    out, said = tmp_path_factory.mktemp("independent") / "run", list[str]()
    options = small_options(out, "epochs=1", data=attributes, classes=ALL_ATTRIBUTES)
    result = train(options, lambda event: said.append(str(event)), lambda: False)
    return out, said, result


def test_figures_are_those_of_the_predictions(small_run: Path) -> None:
    """Accuracy, interval, confusion and log-loss of result.json can be counted in predictions.csv."""
    content, rows = result_of(small_run), rows_of(small_run, "test")
    assert len(rows) == 8
    right = sum(row["label"] == row["truth"] for row in rows)
    assert [row["correct"] for row in rows] == [str(int(row["label"] == row["truth"])) for row in rows]
    assert content["test"] == asdict(wilson(right, 8))
    for truth, counts in zip(content["classes"], content["confusion"], strict=True):
        said = [row["label"] for row in rows if row["truth"] == truth]
        assert counts == [said.count(name) for name in content["classes"]]
    losses = [-np.log(float(row[f"p_{row['truth']}"])) for row in rows]
    assert content["test_loss"] == pytest.approx(np.mean(losses), abs=1e-4)
    assert content["attributes"] is None
    assert (content["kept"], content["calibrated_on"]) == ("best on validation", "val")


def test_predictions_have_every_validation_and_test_photo(small_run: Path) -> None:
    """Each photo of the two parts has one row with probabilities that sum to 1 and its most probable class."""
    for part, numbers in (("val", range(32, 40)), ("test", range(40, 48))):
        rows = rows_of(small_run, part)
        assert [row["path"] for row in rows] == [f"{number}.jpg" for number in numbers]
        for row in rows:
            probabilities = {name: float(row[f"p_{name}"]) for name in ("female", "male")}
            assert sum(probabilities.values()) == pytest.approx(1, abs=2e-6)
            assert float(row["confidence"]) == max(probabilities.values())
            assert probabilities[row["label"]] == max(probabilities.values())


def test_reliability_is_of_all_test_photos(small_run: Path) -> None:
    """Before and after calibration the bins hold all answers of the test part, and the error is their mean gap."""
    for moment in ("before", "after"):
        calibration = result_of(small_run)["calibration"][moment]
        bins = calibration["reliability"]
        assert sum(b["count"] for b in bins) == 8
        gaps = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / 8
        assert calibration["error"] == pytest.approx(gaps)


def test_abstention_is_promised_on_validation_and_counted_on_test(
    small_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each threshold of the validation part comes with the test photos it answers and how many of them are wrong."""
    from gendercls.train import result as module

    def taught(network: object, photos: Any, *_: object) -> Predicted:
        sure = np.linspace(0, 4, len(photos), dtype=np.float32)[:, None]  # the first photos are answered at random
        signs = 2.0 * photos.targets - 1
        signs[0] *= -1
        return Predicted(np.asarray(sure * signs, np.float32), np.arange(1, len(photos) + 1, dtype=np.float32))

    monkeypatch.setattr(module, "predict", taught)
    result = train(small_options(tmp_path / "run", "epochs=1"), lambda event: None, lambda: False)
    assert result.abstention
    rows = rows_of(tmp_path / "run", "test")
    for kept in result.abstention:
        answered = [row for row in rows if float(row["confidence"]) >= kept.promised.confidence]
        assert kept.coverage == len(answered) / len(rows)
        assert kept.wrong == wilson(sum(row["correct"] == "0" for row in answered), len(answered))
        assert kept.promised.error <= kept.promised.wanted_error
    stored = load_checkpoint(tmp_path / "run" / "best.pt")["calibration"]
    assert stored["thresholds"] == [asdict(kept.promised) for kept in result.abstention]
    assert stored["familiar_norm"] == pytest.approx(1.35)  # a twentieth of the way from 1 to 8


def test_each_attribute_is_scored_by_itself(independent_run: tuple[Path, list[str], TrainingResult]) -> None:
    """``--classes all``: a sigmoid for each attribute, a label that names those above one half, counts for each."""
    run, said, result = independent_run
    content, rows = result_of(run), rows_of(run, "test")
    assert content["classes"] == ["Male", "Attractive", "Smiling"]
    assert content["independent"] is True
    assert content["confusion"] is None
    for row in rows:
        named = [name for name in content["classes"] if float(row[f"p_{name}"]) >= 0.5]
        assert row["label"] == (" ".join(named) or "none")
    assert [row["correct"] for row in rows][-1] == ""
    assert result.test.total == 7
    for score in content["attributes"]:
        (no_no, no_yes), (yes_no, yes_yes) = score["confusion"]
        known = [row for row in rows if row["truth"] or score["name"] != "Smiling"]
        assert no_yes + yes_yes == sum(float(row[f"p_{score['name']}"]) >= 0.5 for row in known)
        assert no_no + no_yes + yes_no + yes_yes == (7 if score["name"] == "Smiling" else 8)
    warning = "warning: labels of Attractive are opinions of labellers; another labeller may say otherwise"
    assert warning in said


def test_the_split_of_attributes_is_a_label_file(independent_run: tuple[Path, list[str], TrainingResult]) -> None:
    """split.csv has a column for each attribute and can be read as labels again."""
    run, _, _ = independent_run
    labels = read_labels(run / "split.csv")
    assert list(labels.flags) == ["Male", "Attractive", "Smiling"]
    assert labels.split is not None
    assert (labels.split == "test").sum() == 8
    assert labels.flags["Smiling"][-1] == -1


def test_the_checkpoint_says_that_attributes_are_independent(
    independent_run: tuple[Path, list[str], TrainingResult],
) -> None:
    """best.pt has a row of weights for each attribute and the counts for each, for export."""
    checkpoint = load_checkpoint(independent_run[0] / "best.pt")
    assert checkpoint["independent"] is True
    assert checkpoint["weights"]["head.weight"].shape == (3, 2048)
    (figure,) = checkpoint["figures"]
    assert np.array(figure["attributes"]).shape == (3, 2, 2)
    assert figure["confusion"] == []


def test_the_seed_recipe_is_the_notebook(
    small_data: Path, small_weights: Path, tmp_path: Path, run_gendercls: Callable[..., Any]
) -> None:
    """``--recipe seed``: a line per epoch with the sum of the batch losses, and a last one that counts the test part.

    No validation: the last epoch's weights are kept, as they are.
    """
    out = tmp_path / "run"
    options = ["--init", small_weights, "--device", "cpu", "--split", "stratified", "--out", out]
    for change in ("size=75", "epochs=2", "batch_size=8", "workers=0"):
        options += ["--set", change]
    done = run_gendercls("train", small_data, "--recipe", "seed", *options)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in metrics:
        assert f"epoch:  {line['epoch'] - 1}  loss:  {line['train_loss_sum']}" in lines
        assert line["train_loss_sum"] == pytest.approx(4 * line["train_loss"])
        assert (line["val_loss"], line["val_accuracy"], line["learning_rate"]) == (None, None, 0.001)
    assert "train: the recipe asks for 10,000 photos; there are 32" in lines
    assert "test: the recipe asks for 5,000 photos; there are 16" in lines
    content = result_of(out)
    assert (content["kept"], content["calibrated_on"], content["temperature"]) == ("last epoch", None, 1.0)
    assert content["best"] == metrics[-1]
    count = content["test"]["count"]
    (last,) = [line for line in lines if line.startswith(f"{count} of 16 right, {100 * count / 16:.2f} %, loss ")]
    rows = rows_of(out, "test")
    odds = np.array([[float(row[f"p_{name}"]) for name in ("female", "male")] for row in rows])
    assert odds.shape == (16, 2)
    assert float(last.rpartition(" ")[2]) > 0


def test_no_validation_part_is_refused_where_it_chooses(small_options: Options, tmp_path: Path) -> None:
    """A recipe that keeps the best epoch needs photos to choose it by."""
    options = small_options(tmp_path / "run", "val_fraction=0", split="stratified")
    with pytest.raises(Exception, match="keep = 'best' chooses by the validation part, and there is none"):
        train(options, lambda event: None, lambda: False)
    assert not (tmp_path / "run").exists()


def test_parts_are_limited_at_random(small_options: Options, tmp_path: Path) -> None:
    """train_photos and test_photos take that many of the parts, others of them with another seed."""
    out = tmp_path / "run"
    options = small_options(out, "train_photos=9", "test_photos=4", "epochs=1", "batch_size=4")
    said: list[object] = []
    train(options, said.append, lambda: False)
    assert "left out: more than train_photos = 9 (23)" in said
    assert len(rows_of(out, "test")) == 4
    assert any(isinstance(event, EpochMetrics) for event in said)
    with (out / "split.csv").open() as file:
        chosen = [row["path"] for row in csv.DictReader(file) if row["split"] == "train"]
    again, others = (
        prepare(options.data, options.classes, options.split, seed, options.recipe, said.append) for seed in (1, 2)
    )
    assert [path.name for path in again.photos("train").paths] == chosen
    assert len(chosen) == len(others.photos("train").paths) == 9
    assert [path.name for path in others.photos("train").paths] != chosen


def test_curves_are_written_for_tensorboard(small_run: Path) -> None:
    """Where tensorboard is installed a run leaves its curves, an epoch at a time."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(small_run / "tensorboard"))
    events.Reload()
    metrics = [json.loads(line) for line in (small_run / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("loss/train", "train_loss"), ("loss/val", "val_loss"), ("accuracy/val", "val_accuracy")):
        assert [event.step for event in events.Scalars(tag)] == [1, 2]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([m[key] for m in metrics], rel=1e-5)
