"""``gendercls export``: which run, which photos, and a file that is there only when all is well."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from gendercls.cli import main
from gendercls.errors import GateError, GenderclsError, ModelError
from gendercls.export.run import ExportOptions, ExportResult, export
from gendercls.modelfile import ModelFile, read_model_file
from gendercls.spec import FORMAT, Figure
from gendercls.stats import wilson
from gendercls.train.checkpoint import load_checkpoint, save_tensors, sha256_of
from gendercls.train.network import CalibratedNetwork

Small = tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]


def run_export(
    run: Path | None, out: Path | None = None, *, check: Path | None = None, labels: Path | None = None
) -> tuple[ExportResult, list[str]]:
    said: list[str] = []
    return export(ExportOptions(run, out, check, labels), said.append), said


def refusal(run: Path | None, out: Path | None = None, check: Path | None = None) -> tuple[type[GenderclsError], str]:
    with pytest.raises(GenderclsError) as caught:
        run_export(run, out, check=check)
    return type(caught.value), str(caught.value)


@pytest.fixture
def unfinished(small_run: Path, tmp_path: Path) -> Path:
    """A run whose best weights are neither calibrated nor tested."""
    folder = tmp_path / "runs" / "unfinished"
    folder.mkdir(parents=True)
    content = load_checkpoint(small_run / "best.pt")
    del content["calibration"], content["figures"]
    save_tensors(folder / "best.pt", content)
    return folder


def test_a_finished_run_becomes_a_file(converted: onnx.ModelProto, small_run: Path, tmp_path: Path) -> None:
    """The file opens, and its spec is the one the result has: gate, figures, and what went into the run."""
    out = tmp_path / "faces.onnx"
    result, said = run_export(small_run, out)
    model = read_model_file(out)
    assert model.spec == result.spec
    assert (model.spec.name, model.spec.precision) == ("faces", "fp32")
    assert (result.gate.photos, result.gate.decisions_changed, result.skipped) == (8, 0, 0)
    assert result.size == out.stat().st_size
    assert os.listdir(tmp_path) == ["faces.onnx"]
    provenance = json.loads(model.to_json())["provenance"]
    assert provenance["checkpoint_sha256"] == sha256_of(small_run / "best.pt")
    assert provenance["recipe"]["epochs"] == 2
    assert not {"data_folder", "photos_folder"} & provenance.keys()
    assert f"checkpoint: {small_run / 'best.pt'}" in said
    assert "licence of the data: not stated; ask the owner of the photos" in said


def test_the_self_test_is_what_pytorch_answers(converted: onnx.ModelProto, small_run: Path, tmp_path: Path) -> None:
    """The probabilities that the self-test's images must give are PyTorch's own."""
    spec = run_export(small_run, tmp_path / "model.onnx")[0].spec
    checkpoint = load_checkpoint(small_run / "best.pt")
    from gendercls.export.source import _calibrated

    images = torch.from_numpy(spec.self_test.images(spec.preprocessing))
    with torch.inference_mode():
        answers = _calibrated(checkpoint)(images).double().numpy()
    assert len(spec.self_test.seeds) == 4
    np.testing.assert_allclose(spec.self_test.probabilities, answers, atol=1e-6)


def test_without_out_the_model_lies_in_the_run(converted: onnx.ModelProto, small_run: Path, tmp_path: Path) -> None:
    """Without ``--out`` the file is model.onnx in the run's folder, and the model has the folder's name."""
    run = Path(shutil.copytree(small_run, tmp_path / "mine"))
    result, _ = run_export(run)
    assert (result.out, result.spec.name) == (run / "model.onnx", "mine")


def test_labels_are_measured(converted: onnx.ModelProto, small_run: Path, small_data: Path, tmp_path: Path) -> None:
    """With ``--check`` and ``--labels`` the spec has accuracies of the exported model, by part and over all."""
    spec = run_export(small_run, tmp_path / "m.onnx", check=small_data, labels=small_data / "labels.csv")[0].spec
    measured = {figure.on: (figure.total, np.sum(figure.confusion)) for figure in spec.figures[1:]}
    assert measured == {
        "labels.csv, test part of its labels, onnxruntime": (8, 8),
        "labels.csv, train part of its labels, onnxruntime": (32, 32),
        "labels.csv, val part of its labels, onnxruntime": (8, 8),
        "labels.csv, all check photos, onnxruntime": (48, 48),
    }
    test_part = spec.figures[0]
    assert (spec.figures[1].correct, spec.figures[1].confusion) == (test_part.correct, test_part.confusion)


def test_weights_of_labels_are_said_not_to_be_used(
    converted: onnx.ModelProto, small_run: Path, small_data: Path, tmp_path: Path
) -> None:
    """Labels of a weighted sample are counted as they are, and the command says so."""
    first, *rows = (small_data / "labels.csv").read_text().splitlines()
    weighted = tmp_path / "labels.csv"
    weighted.write_text("\n".join([f"{first},weight", *(f"{row},2.5" for row in rows)]) + "\n")
    warning = "warning: the labels have weights, which the gate does not use: each labelled photo counts once"
    for labels, is_said in ((weighted, True), (small_data / "labels.csv", False)):
        said = run_export(small_run, tmp_path / f"{is_said}.onnx", check=small_data, labels=labels)[1]
        assert (warning in said) == is_said


# --- independent attributes -------------------------------------------------------------------------------------

ATTRIBUTES = [{"name": "Male", "rule": "Male"}, {"name": "Wavy_Hair", "rule": "Wavy Hair"}]


@pytest.fixture
def attribute_run(converted: onnx.ModelProto, small_run: Path, tmp_path: Path) -> Path:
    """`small_run` as one of two independent attributes; its graph ends in a sigmoid."""
    content = load_checkpoint(small_run / "best.pt")
    figure = {"on": "made up, test part", "correct": 5, "total": 7, "confusion": []}
    figure["attributes"] = [[[3, 1], [1, 3]], [[4, 0], [1, 3]]]
    content |= {"independent": True, "classes": ATTRIBUTES, "figures": [figure]}
    folder = tmp_path / "attributes"
    folder.mkdir()
    save_tensors(folder / "best.pt", content)
    shutil.copy(small_run / "split.csv", folder)
    last = next(node for node in converted.graph.node if node.output[0] == "probabilities")
    last.op_type = "Sigmoid"
    del last.attribute[:]
    return folder


def test_a_run_of_attributes_becomes_a_file(attribute_run: Path) -> None:
    """The file says that its classes are independent, opens, and keeps the run's counts for each attribute."""
    result, _ = run_export(attribute_run)
    model = read_model_file(result.out)
    assert model.spec == result.spec
    assert (model.spec.independent, model.spec.format) == (True, FORMAT)
    assert [(c.name, c.rule) for c in model.spec.classes] == [("Male", "Male"), ("Wavy_Hair", "Wavy Hair")]
    assert model.spec.figures == (Figure("made up, test part", 5, 7, (), (((3, 1), (1, 3)), ((4, 0), (1, 3)))),)
    assert sum(model.spec.self_test.probabilities[0]) != pytest.approx(1, abs=1e-5)
    assert (result.gate.photos, result.gate.decisions_changed) == (8, 0)


def test_attributes_are_measured_where_they_are_known(attribute_run: Path, small_data: Path, tmp_path: Path) -> None:
    """Whole labels are counted over photos whose attributes are all known, each attribute over all that tell it."""
    rows = [f"{n:02}.jpg,{n % 2},{'' if n < 6 else n % 3 and 1},{'val' if n < 8 else 'test'}" for n in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,Male,Wavy Hair,split", *rows]) + "\n")
    spec = run_export(attribute_run, check=small_data, labels=tmp_path / "labels.csv")[0].spec
    counted = {
        figure.on: (figure.total, np.sum(figure.attributes, axis=(1, 2)).tolist()) for figure in spec.figures[1:]
    }
    assert counted == {
        "labels.csv, test part of its labels, onnxruntime": (32, [32, 32]),
        "labels.csv, val part of its labels, onnxruntime": (2, [8, 2]),
        "labels.csv, all check photos, onnxruntime": (34, [40, 34]),
    }
    assert all(figure.confusion == () for figure in spec.figures)


def test_export_says_what_attributes_give(
    attribute_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gendercls export`` says how often whole labels and single attributes are right."""
    with pytest.raises(SystemExit) as ended:
        main(["export", str(attribute_run)])
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 0
    assert f"whole label right: {wilson(5, 7)} on made up, test part" in said
    assert "one attribute right: 81.25 %, mean over 2 attributes" in said


def test_a_checkpoint_of_before_there_were_attributes_is_exported(
    converted: onnx.ModelProto, small_run: Path, tmp_path: Path
) -> None:
    """One that says neither ``independent`` nor counts by attribute has classes that exclude each other."""
    content = load_checkpoint(small_run / "best.pt")
    content.pop("independent", None)
    for figure in content["figures"]:
        figure.pop("attributes", None)
    save_tensors(tmp_path / "best.pt", content)
    shutil.copy(small_run / "split.csv", tmp_path)
    spec = run_export(tmp_path / "best.pt")[0].spec
    assert (spec.independent, spec.figures[0].attributes) == (False, ())
    assert sum(spec.self_test.probabilities[0]) == pytest.approx(1, abs=1e-6)


def test_the_newest_finished_run_is_taken(
    converted: onnx.ModelProto, small_run: Path, unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a run the newest finished one in runs/ is taken and said; unfinished and damaged ones are passed over."""
    runs = unfinished.parent
    newest = unfinished.stat().st_mtime
    for age, name in ((300, "older"), (200, "newer"), (100, "damaged")):
        shutil.copytree(small_run, runs / name)
        if name == "damaged":
            os.truncate(runs / name / "best.pt", 1000)
        os.utime(runs / name / "best.pt", (newest - age, newest - age))
    monkeypatch.chdir(tmp_path)
    result, said = run_export(None)
    assert result.out == Path("runs/newer/model.onnx")
    assert said[0].startswith("passed over: runs/damaged/best.pt: the file is damaged, or ")
    assert said[1] == "checkpoint: runs/newer/best.pt"


def test_without_any_run_it_says_how_to_make_one(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no runs/ folder, or none is finished, the message says what to type."""
    for folder in (tmp_path / "runs", tmp_path):
        monkeypatch.chdir(folder)
        assert refusal(None)[1] == (
            "there is no finished run here\n"
            f"  where: {folder / 'runs'}\n"
            "  do:    gendercls train DATA --init imagenet, or name one: gendercls export runs/NAME"
        )


def test_an_unfinished_run_is_refused(unfinished: Path) -> None:
    """Weights that are neither calibrated nor tested are not exported."""
    assert refusal(unfinished) == (
        ModelError,
        "the run is not finished, so its weights are neither calibrated nor tested\n"
        f"  where: {unfinished / 'best.pt'}\n"
        "  do:    finish it with gendercls train --resume",
    )


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """A folder that is no run says what a run has."""
    message = f"the folder holds no trained run\n  where: {tmp_path}\n  do:    name a folder with a best.pt"
    assert refusal(tmp_path) == (ModelError, message)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("weights"),
        lambda content: content["recipe"].pop("size"),
        lambda content: content["recipe"].update(size=0),
        lambda content: content["weights"].pop("head.bias"),
        lambda content: content.update(calibration=None),
        lambda content: content.update(classes=[{"name": "a"}]),
        lambda content: content.update(record=None),
        lambda content: content["record"].update(note=torch.ones(2)),
        lambda content: content["record"].pop("photos_folder"),
    ],
)
def test_a_checkpoint_that_is_not_complete_is_refused(
    small_run: Path, tmp_path: Path, spoil: Callable[[dict[str, object]], object]
) -> None:
    """A checkpoint that lacks something is one clear error."""
    content = load_checkpoint(small_run / "best.pt")
    spoil(content)
    save_tensors(tmp_path / "best.pt", content)
    kind, message = refusal(tmp_path / "best.pt")
    what, where, do = message.splitlines()
    assert what.startswith("the checkpoint is not complete: ")
    assert where == f"  where: {tmp_path / 'best.pt'}"
    assert do == "  do:    give the best.pt of a finished run, as gendercls train wrote it"
    assert kind is ModelError


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["recipe"].update(size=4096),
        lambda content: content.update(classes=content["classes"] * 2),
    ],
)
def test_a_checkpoint_that_asks_for_too_much_is_refused(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, object]], object]
) -> None:
    """Photos larger than any recipe allows, and more classes than it has outputs, before memory is taken for them."""
    content = load_checkpoint(small_run / "best.pt")
    spoil(content)
    monkeypatch.setattr("gendercls.export.source.load_checkpoint", lambda path: content)
    classes, pixels = len(content["classes"]), content["recipe"]["size"]
    assert refusal(small_run, tmp_path / "m.onnx")[1].startswith(
        f"the checkpoint is not complete: it has {classes} classes, 2 outputs and photos of {pixels} pixels\n"
    )


def test_without_photos_for_the_gate_check_is_named(small_run: Path, tmp_path: Path) -> None:
    """A checkpoint on its own, or whose photos are gone, needs ``--check``: a wrong usage, exit status 2."""
    alone = Path(shutil.copy(small_run / "best.pt", tmp_path))
    kind, message = refusal(alone)
    assert kind.exit_status == 2
    assert message == (
        "the gate needs real photos, and the run's own are not here\n"
        f"  where: {tmp_path / 'split.csv'}\n"
        "  do:    name some with --check PHOTOS"
    )
    content = load_checkpoint(alone)
    content["record"]["photos_folder"] = "/gone"
    save_tensors(alone, content)
    shutil.copy(small_run / "split.csv", tmp_path)
    assert "  where: /gone\n" in refusal(alone)[1]


def test_a_place_that_cannot_be_written_is_refused_before_work(small_run: Path, tmp_path: Path) -> None:
    """``--out`` in a folder that does not exist is refused."""
    out = tmp_path / "no" / "model.onnx"
    assert refusal(small_run, out)[1] == (
        f"the model's folder does not exist or is not writable\n  where: {out}\n  do:    choose another --out"
    )


def shift_head(graph: onnx.ModelProto, by: float) -> None:
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("head.bias"))
    bias = numpy_helper.to_array(tensor) + np.float32([by, 0])
    tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))


def test_a_model_that_the_gate_refuses_leaves_no_file(
    converted: onnx.ModelProto, small_export: Small, small_run: Path, tmp_path: Path
) -> None:
    """A model that is off by more than 2e-4 leaves nothing behind, and the file that was there before stays."""
    shift_head(converted, 0.004 * small_export[0].temperature)
    kind, message = refusal(small_run, tmp_path / "new.onnx")
    assert kind is GateError
    assert message.startswith("onnxruntime does not follow PyTorch: a probability differs by 0.00")
    assert os.listdir(tmp_path) == []
    (tmp_path / "old.onnx").write_bytes(b"old")
    refusal(small_run, tmp_path / "old.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_cannot_be_finished_is_removed(
    converted: onnx.ModelProto, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full, or the written file does not open, nothing is left."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gendercls.export.run.os.fsync", full)
    assert refusal(small_run, tmp_path / "m.onnx")[1] == (
        f"the model cannot be written: No space left on device\n  where: {tmp_path / 'm.onnx'}\n  do:    free some disk"
    )
    assert os.listdir(tmp_path) == []
