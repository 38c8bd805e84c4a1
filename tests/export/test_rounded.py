"""``gendercls export`` in fp16 and int8: close to the float network, kept only if no group of people loses."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendercls.answers import answers_for
from gendercls.classify.session import Session
from gendercls.errors import GateError, OutputError, UsageError
from gendercls.export import run as export_run
from gendercls.export.gate import Parity
from gendercls.export.losses import Loss, check_losses, losses
from gendercls.export.photos import Truth, truth_of
from gendercls.export.run import ExportOptions, ExportResult, export
from gendercls.modelfile import ModelFile, read_model_file, shipped_model
from gendercls.sources import PhotoFile
from gendercls.stats import paired_difference

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportResult, ModelFile, list[str]]:
    """A small network in 8 bits: what was said of it, and the file."""
    out, said = tmp_path_factory.mktemp("int8") / "small.int8.onnx", cast("list[str]", [])
    result = export(ExportOptions(small_run, out, None, None, "int8"), said.append)
    return result, read_model_file(out), said


def test_the_file_computes_in_eight_bits(exported: tuple[ExportResult, ModelFile, list[str]]) -> None:
    """A quarter of the floats' size, every convolution between integers, weights of no more than 7 bits.

    Nothing is left that onnxruntime computes slowly: average pools, or values that are rounded before a Relu.
    """
    result, model, _ = exported
    graph = onnx.load_from_string(model.data).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["QuantizeLinear"] > kinds["Conv"] > 90
    assert (kinds["AveragePool"], kinds["Relu"]) == (0, 0)
    weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    convolutions = [weight for weight in weights if weight.ndim == 4]
    assert len(convolutions) == kinds["Conv"]
    assert max(int(np.abs(weight.astype(int)).max()) for weight in convolutions) <= 64
    assert result.size == len(model.data) < 24e6
    assert (model.spec.precision, model.spec.self_test.tolerance) == ("int8", 0.02)
    said = model.spec.provenance["quantisation"]
    assert said == {"weights": "7 bits by channel", "activations": "8 bits, min-max", "calibration_photos": 32}


def test_the_gate_counts_what_is_lost(exported: tuple[ExportResult, ModelFile, list[str]]) -> None:
    """On the run's own validation photos, in all and by class, since its labels say no more."""
    result, model, said = exported
    assert [loss.group for loss in result.losses] == ["all", "female", "male"]
    assert [loss.lost.total for loss in result.losses] == [8, 4, 4]
    assert (model.spec.gate.photos, model.spec.gate.decisions_changed) == (8, result.losses[0].flips)
    assert "gate: the same photos through PyTorch and onnxruntime" in said


def test_it_answers_much_as_the_float_network(
    exported: tuple[ExportResult, ModelFile, list[str]], small_export: tuple[Any, Any, ModelFile]
) -> None:
    """The same photos through both files."""
    images = np.random.default_rng(3).integers(0, 256, (8, 75, 75, 3)).astype(np.uint8)
    float_side, int8_side = (Session(model, device="cpu").run(images) for model in (small_export[2], exported[1]))
    assert 0 < float(np.abs(float_side - int8_side).max()) < 0.1


@pytest.fixture(scope="module")
def of_sixteen_bits(
    small_run: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExportResult, ModelFile]:
    """A small network in fp16, as its run gives it."""
    out = tmp_path_factory.mktemp("fp16") / "small.fp16.onnx"
    options = ExportOptions(small_run, out, small_data, small_data / "labels.csv", "fp16")
    return export(options, lambda line: None), read_model_file(out)


def test_the_file_computes_in_floats_of_sixteen_bits(
    of_sixteen_bits: tuple[ExportResult, ModelFile], small_export: tuple[Any, Any, ModelFile]
) -> None:
    """Of fp16: every convolution, between the same inputs and outputs; checked and counted as int8 is."""
    result, model = of_sixteen_bits
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model.data)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 90
    assert {kinds[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    puts = [put.type.tensor_type.elem_type for put in (*graph.input, *graph.output)]
    assert puts == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT]
    assert (model.spec.name, model.spec.precision, model.spec.self_test.tolerance) == ("small", "fp16", 0.02)
    assert [loss.lost.total for loss in result.losses] == [48, 24, 24]
    images = np.random.default_rng(3).integers(0, 256, (8, 75, 75, 3)).astype(np.uint8)
    float_side, half_side = (Session(side, device="cpu").run(images) for side in (small_export[2], model))
    assert 0 < float(np.abs(float_side - half_side).max()) < 0.01


# --- losses -----------------------------------------------------------------------------------------------------

ANSWERS = answers_for(False, ("female", "male"))


def parity_of(float_male: list[bool], int8_male: list[bool]) -> Parity:
    """What two sides say of as many photos."""

    def sure(male: list[bool]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([[0.1, 0.9] if is_male else [0.9, 0.1] for is_male in male]).reshape(-1, 2)

    photos = [PhotoFile(str(n), b"") for n in range(len(float_male))]
    return Parity(ANSWERS, photos, sure(float_male), sure(int8_male), 0)  # type: ignore[arg-type]


def truth(male: list[bool], groups: list[str]) -> Truth:
    targets = np.array([[not is_male, is_male] for is_male in male], np.int8).reshape(-1, 2)
    return Truth("x", np.arange(len(male)), targets, np.full(len(male), ""), np.array(groups, "<U9"), has_weights=False)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=1))
def test_losses_are_counted_photo_by_photo(photos: list[tuple[bool, bool, bool, str]]) -> None:
    """As counting by hand gives them, for all photos and for each group."""
    is_male, by_float, by_int8, groups = map(list, zip(*photos, strict=True))
    for loss in losses(parity_of(by_float, by_int8), truth(is_male, groups)):
        chosen = [row for row in photos if loss.group in ("all", row[3])]
        lost = sum(male == first != second for male, first, second, _ in chosen)
        won = sum(male == second != first for male, first, second, _ in chosen)
        assert loss.lost == paired_difference(lost, won, len(chosen))
        assert loss.flips == lost + won


def test_unlabelled_photos_count_nowhere() -> None:
    """Neither those that no label matches, nor those whose label leaves the class open."""
    targets = np.array([[1, 0], [0, 0]], np.int8)
    of_two = Truth("x", np.array([0, 2]), targets, np.array(["", ""]), np.array(["a", "a"]), has_weights=False)
    found = losses(parity_of([False, True, True], [True, False, False]), of_two)
    assert [(loss.group, loss.lost.total, loss.flips) for loss in found] == [("all", 1, 1), ("a", 1, 1)]


@pytest.mark.parametrize(
    ("group", "lost", "total", "is_refused"),
    [
        ("all", 12, 1250, True),
        ("all", 4, 1250, False),  # 0.3 points, which chance alone may give
        ("Black, female", 12, 250, True),
        ("Black, female", 4, 250, False),
    ],
)
def test_a_group_that_surely_loses_ends_the_export(group: str, lost: int, total: int, *, is_refused: bool) -> None:
    """More than half a point of a group's accuracy, or 0.3 of all, at the lower bound of 95 %."""
    found = [Loss("all", 0, paired_difference(0, 0, 1250)), Loss(group, lost, paired_difference(lost, 0, total))]
    if not is_refused:
        check_losses(found, "int8")
        return
    with pytest.raises(GateError) as caught:
        check_losses(found, "int8")
    allowed = 0.3 if group == "all" else 0.5
    assert str(caught.value) == (
        f"int8 loses more than {allowed} points of accuracy; no file was written\n"
        f"  where: {group}: {lost} of {total:,} flipped, lost {found[1].lost}\n"
        "  do:    export with --precision fp32"
    )


def test_a_refused_export_leaves_no_file(
    converted: onnx.ModelProto, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the gate says ends it before anything is written."""

    def refuse(found: list[Loss], precision: str) -> None:
        raise GateError("int8 loses more than 0.5 points of accuracy; no file was written", where="x", do="y")

    monkeypatch.setattr(export_run, "check_losses", refuse)
    monkeypatch.setattr(export_run, "quantised", lambda graph, batches: graph)
    with pytest.raises(GateError, match="int8 loses more than"):
        export(ExportOptions(small_run, tmp_path / "m.onnx", None, None, "int8"), lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_without_labels_nothing_is_known_of_a_loss(
    converted: onnx.ModelProto, small_run: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos that are named with --check need --labels."""
    options = ExportOptions(small_run, tmp_path / "m.onnx", small_data, None, "int8")
    monkeypatch.setattr(export_run, "quantised", lambda graph, batches: graph)
    with pytest.raises(UsageError) as caught:
        export(options, lambda line: None)
    assert str(caught.value) == (
        "what int8 loses is seen on labelled photos alone, and the check photos have no label\n"
        "  where: --precision int8\n  do:    name their labels with --labels"
    )


def test_groups_are_race_and_class_where_the_labels_say_them(fairface: Path) -> None:
    """FairFace's; a photo that no label has belongs nowhere."""
    spec = read_model_file(shipped_model()).spec
    photos = [PhotoFile(name, b"/x/" + name.encode()) for name in ("val/1.jpg", "val/2.jpg", "val/none.jpg")]
    found = truth_of(photos, fairface / "fairface_label_val.csv", spec)  # type: ignore[arg-type]
    rows = (fairface / "fairface_label_val.csv").read_text(encoding="utf-8").splitlines()[1:]
    by_file = {row.split(",")[0]: row.split(",") for row in rows}
    expected = [f"{by_file[p.key][3]}, {by_file[p.key][2].lower()}" for p in photos[:2]]
    assert found.matched.tolist() == [0, 1]
    assert found.groups.tolist() == expected


def test_without_the_runs_training_photos_there_is_no_int8(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    """What it is calibrated on is not what --check names, and the error does not ask for that."""
    shutil.copy(small_run / "best.pt", tmp_path)
    options = ExportOptions(tmp_path, None, small_data, small_data / "labels.csv", "int8")
    with pytest.raises(UsageError) as caught:
        export(options, lambda line: None)
    assert str(caught.value) == (
        f"int8 needs real photos, and the run's own are not here\n  where: {tmp_path / 'split.csv'}\n"
        "  do:    name some with --calibrate PHOTOS"
    )


def test_a_model_file_is_exported_in_sixteen_bits(
    of_sixteen_bits: tuple[ExportResult, ModelFile],
    small_export: tuple[Any, Any, ModelFile],
    small_data: Path,
    tmp_path: Path,
) -> None:
    """As the run it came from would be, under its own name, with what was measured on the float file left behind."""
    path = tmp_path / "small.onnx"
    path.write_bytes(small_export[2].data)
    result = export(ExportOptions(path, None, small_data, small_data / "labels.csv", "fp16"), lambda line: None)
    assert (result.out, result.spec.name) == (tmp_path / "small.fp16.onnx", "small")
    found, expected = read_model_file(result.out).spec, of_sixteen_bits[1].spec
    assert found.provenance["model_sha256"] == read_model_file(path).sha256
    assert found.provenance["checkpoint_sha256"] == expected.provenance["checkpoint_sha256"]
    assert [figure.on for figure in found.figures] == [figure.on for figure in expected.figures]
    np.testing.assert_allclose(found.self_test.probabilities, expected.self_test.probabilities, atol=2e-3)


def test_int8_may_learn_its_ranges_from_named_photos(
    small_export: tuple[Any, Any, ModelFile], small_data: Path, tmp_path: Path
) -> None:
    """Of a model file there are no others: the file says how many there were."""
    path = tmp_path / "small.onnx"
    path.write_bytes(small_export[2].data)
    options = ExportOptions(path, None, small_data, small_data / "labels.csv", "int8", calibrate=small_data)
    spec = export(options, lambda line: None).spec
    assert (spec.precision, spec.provenance["quantisation"]["calibration_photos"]) == ("int8", 48)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "cat.jpg").write_bytes(b"no photo")
    with pytest.raises(UsageError) as caught:
        export(replace(options, calibrate=tmp_path / "none"), lambda line: None)
    assert str(caught.value) == (
        "int8 needs real photos, and none of those given can be read\n  where: 1 tried\n"
        "  do:    name some with --calibrate PHOTOS"
    )


@pytest.mark.parametrize(
    ("changes", "what", "do"),
    [
        ({"precision": "fp32"}, "a model file is no run to export", "add --precision fp16 or int8"),
        (
            {"precision": "fp16", "check": None},
            "the gate needs real photos, and a model file does not say where its run's lie",
            "name some with --check PHOTOS",
        ),
        (
            {"precision": "int8"},
            "int8 needs real photos, and a model file does not say where its run's lie",
            "name some with --calibrate PHOTOS",
        ),
        (
            {"precision": "fp16", "calibrate": Path("more")},
            "fp16 learns nothing from photos",
            "leave it out, or export with --precision int8",
        ),
        ({"precision": "int8", "out": True}, "what is exported would be written over", "choose another --out"),
    ],
)
def test_what_makes_no_sense_of_a_model_file_is_refused(
    small_export: tuple[Any, Any, ModelFile],
    small_data: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    what: str,
    do: str,
) -> None:
    """Each with the option that is missing or in the way, and the file stays as it is."""
    path = tmp_path / "small.onnx"
    path.write_bytes(small_export[2].data)
    if changes.get("out"):
        changes = {**changes, "out": path}
    options = {"run": path, "out": None, "check": small_data, "labels": small_data / "labels.csv", **changes}
    with pytest.raises((UsageError, OutputError)) as caught:
        export(ExportOptions(**options), lambda line: None)
    assert (caught.value.what, caught.value.do) == (what, do)
    assert path.read_bytes() == small_export[2].data
    assert list(tmp_path.iterdir()) == [path]
