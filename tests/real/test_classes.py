"""Composed classes and independent attributes on real photos: from train to classify, all says the same."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from gendercls.export.run import ExportOptions, export
from gendercls.labels import read_labels
from gendercls.modelfile import read_model_file
from gendercls.train.run import TrainOptions, train

Run = Callable[..., CompletedProcess[str]]

COMPOSED = "young-man=Male&Young;young-woman=!Male&Young;glasses=Eyeglasses&!Young"
PHOTOS = 60


@pytest.fixture(scope="module")
def data(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 CelebA photos with their attributes as a CSV, two thirds train, a sixth each val and test."""
    folder = tmp_path_factory.mktemp("classes")
    _, header, *lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    rows = ["path,split," + ",".join(header.split())]
    for number, line in enumerate(lines[:PHOTOS]):
        name, *values = line.split()
        shutil.copy(celeba / "img_align_celeba" / name, folder)
        rows.append(",".join([name, ("train", "train", "val", "train", "train", "test")[number % 6], *values]))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize("words", [COMPOSED, "all"], ids=["composed", "all"])
def test_classes_go_from_train_to_classify(
    words: str, data: Path, small_options: Callable[..., TrainOptions], run_gendercls: Run, tmp_path: Path
) -> None:
    """What training says of the test photos, the file's figures and the CSV of classify are the same answers."""
    from gendercls.labels import parse_classes

    classes: Any = words if words == "all" else parse_classes(words)
    run = tmp_path / "run"
    train(small_options(run, "epochs=1", data=data, classes=classes), lambda event: None, lambda: False)
    export(ExportOptions(run, None, None, None), lambda text: None)
    model, result = read_model_file(run / "model.onnx"), json.loads((run / "result.json").read_text())
    labels = ("--labels", run / "split.csv", "--split", "test")
    done = run_gendercls("classify", data, "--out", tmp_path / "o.csv", "--model", model.path, *labels, "--json")
    assert done.returncode == 0, done.stderr

    found, scores = rows_of(tmp_path / "o.csv"), json.loads(done.stdout)["scores"]
    trained = {row["path"]: row for row in rows_of(run / "predictions.csv") if row["split"] == "test"}
    assert [row["path"] for row in found] == sorted(trained)
    for row in found:
        assert row["truth"] == trained[row["path"]]["truth"] != ""
        for name in model.spec.class_names:
            assert float(row[f"p_{name}"]) == pytest.approx(float(trained[row["path"]][f"p_{name}"]), abs=1e-4)

    (figure,) = model.spec.figures
    assert (scores["accuracy"]["count"], scores["accuracy"]["total"]) == (figure.correct, figure.total)
    assert model.spec.independent == result["independent"] == (words == "all")
    if words == "all":
        assert list(model.spec.class_names) == list(read_labels(data).flags)
        assert [tuple(map(tuple, s["confusion"])) for s in scores["attributes"]] == list(figure.attributes)
        assert [s["name"] for s in result["attributes"]] == list(model.spec.class_names)
    else:
        assert model.spec.class_names == ("young-man", "young-woman", "glasses")
        assert [row[:3] for row in scores["confusion"]] == [list(row) for row in figure.confusion]
        assert len(found) < PHOTOS / 6  # what no rule covers is in no part
