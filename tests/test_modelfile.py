"""The model file, read without the onnx package: its contract, and what must not be in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gendercls.errors import ModelError
from gendercls.images import Preprocessing
from gendercls.labels import ClassRule
from gendercls.modelfile import read_model_file, scan_onnx, shipped_model, shipped_models
from gendercls.spec import GateFigures, ModelSpec, SelfTest

SPEC = ModelSpec(
    name="tiny",
    classes=(ClassRule("female", "!Male"), ClassRule("male", "Male")),
    preprocessing=Preprocessing("crop", 75, 75, "bicubic", 0.25),
    precision="fp32",
    temperature=1.0,
    provenance={"data": "Bilder für alle"},
    figures=(),
    thresholds=(),
    self_test=SelfTest((1,), ((0.25, 0.75),), 2e-3),
    gate=GateFigures(1, 0.0, 1e-4, 0, "1.jpg"),
)


def inside() -> TensorProto:
    return numpy_helper.from_array(np.float32([1, 2]), "weight")


def outside(location: str = "weights.bin") -> TensorProto:
    """A tensor whose numbers lie in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def as_graph(*, nodes: list[onnx.NodeProto] | None = None, tensors: list[TensorProto] | None = None) -> onnx.GraphProto:
    return helper.make_graph(nodes or [], "g", [], [], initializer=tensors or [])


def branch(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The graph within a graph."""
    return as_graph(nodes=[helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=as_graph())])


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.int64([0, 1])), dims=[4])


def function(tensor: TensorProto) -> onnx.ModelProto:
    model = helper.make_model(as_graph())
    model.functions.append(helper.make_function("d", "f", [], ["c"], [constant(tensor)], []))
    return model


def training(tensor: TensorProto) -> onnx.ModelProto:
    model = helper.make_model(as_graph())
    model.training_info.add().algorithm.CopyFrom(as_graph(tensors=[tensor]))
    return model


PLACES: dict[str, Callable[[TensorProto], onnx.GraphProto | onnx.ModelProto]] = {
    "initializer": lambda t: as_graph(tensors=[inside(), t]),
    "constant": lambda t: as_graph(nodes=[constant(inside()), constant(t)]),
    "list of tensors": lambda t: as_graph(nodes=[helper.make_node("Op", [], ["y"], many=[inside(), t])]),
    "subgraph": lambda t: branch(as_graph(tensors=[t])),
    "constant in a subgraph of a subgraph": lambda t: branch(branch(as_graph(nodes=[constant(t)]))),
    "list of graphs": lambda t: as_graph(nodes=[helper.make_node("Op", [], ["y"], many=[as_graph(tensors=[t])])]),
    "sparse initializer": lambda t: onnx.GraphProto(sparse_initializer=[sparse(t)]),
    "sparse constant": lambda t: as_graph(nodes=[helper.make_node("Constant", [], ["c"], sparse_value=sparse(t))]),
    "function": function,
    "training": training,
}


def file_of(graph: onnx.GraphProto | onnx.ModelProto, **metadata: str) -> bytes:
    model = graph if isinstance(graph, onnx.ModelProto) else helper.make_model(graph)
    helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString()
    return data


def nested(depth: int, width: int) -> bytes:
    """Graphs that hold graphs, as deep as they are allowed, beside many that are empty."""
    graph = as_graph()
    for _ in range(depth):
        graph = as_graph(nodes=[helper.make_node("Op", [], ["y"], many=[graph, *[as_graph()] * width])])
    return file_of(graph)


GOOD = file_of(branch(as_graph(nodes=[constant(inside())], tensors=[inside()])), gendercls=SPEC.to_json(), other="ä\n")


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read_model_file(path)
    return str(caught.value).replace(str(path), "FILE")


def test_a_model_file_is_read(tmp_path: Path) -> None:
    """The file's spec, hash and label are there, and its JSON has the file and every key of the spec."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(GOOD)
    model, sha256 = read_model_file(path), hashlib.sha256(GOOD).hexdigest()
    assert (model.path, model.data, model.sha256, model.spec) == (path, GOOD, sha256, SPEC)
    assert model.label == f"tiny.onnx ({sha256[:6]})"
    assert json.loads(model.to_json()) == {"file": str(path), "sha256": sha256, **json.loads(SPEC.to_json())}


def test_all_metadata_is_read() -> None:
    """Keys and values of the metadata come as onnx wrote them; a good file has all its tensors inside."""
    assert scan_onnx(GOOD) == ({"gendercls": SPEC.to_json(), "other": "ä\n"}, False)


@pytest.mark.parametrize("place", PLACES)
def test_tensors_in_another_file_are_found(tmp_path: Path, place: str) -> None:
    """A tensor outside the file is found wherever onnx lets it stand, and the model refused; inside, it is no fault."""
    assert scan_onnx(file_of(PLACES[place](inside())))[1] is False
    assert refusal(tmp_path / "m.onnx", file_of(PLACES[place](outside()), gendercls=SPEC.to_json())) == (
        "the model keeps its weights in another file\n  where: FILE\n  do:    give one file made by gendercls export"
    )


@pytest.mark.parametrize("location", ["/etc/passwd", "../../../etc/passwd", "", "*/_ORT_MEM_ADDR_/*"])
def test_wherever_the_other_file_lies(tmp_path: Path, location: str) -> None:
    """Nobody looks for it: not outside the model's folder, and not at onnxruntime's name for an address in memory."""
    data = file_of(as_graph(tensors=[outside(location)]), gendercls=SPEC.to_json())
    assert refusal(tmp_path / "m.onnx", data).startswith("the model keeps its weights in another file\n")


@pytest.mark.parametrize("field", ["data_location", "external_data"])
def test_either_sign_of_external_data_is_enough(field: str) -> None:
    """Of the two fields that say so, each alone makes a tensor external."""
    tensor = outside()
    tensor.ClearField(field)
    assert scan_onnx(file_of(as_graph(tensors=[tensor])))[1] is True


NO_ONNX = "the model is no ONNX file, or a damaged one\n  where: FILE\n  do:    give a file made by gendercls export"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"\xff" * 100,
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        onnx.ModelProto(ir_version=8).SerializeToString(),
        b"\x38\x01",  # the graph as a number
        b"\0\0" + GOOD,  # a field without a number
        nested(11, 0),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Text, a picture, a truncated file, a model without a graph or nested without sense: all one message."""
    assert refusal(tmp_path / "m.onnx", data) == NO_ONNX


@pytest.mark.parametrize(("bound", "most"), [("_MOST_BYTES", 500), ("_MOST_METADATA", 100), ("_MOST_FIELDS", 20)])
def test_a_file_beyond_all_bounds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """One of more bytes than ONNX has, of endless metadata, and one of so many parts that reading it takes for ever."""
    monkeypatch.setattr(f"gendercls.modelfile.{bound}", most)
    assert refusal(tmp_path / "m.onnx", GOOD) == NO_ONNX


def test_a_file_without_a_spec_is_refused(tmp_path: Path) -> None:
    """Any other ONNX file says that its classes and preprocessing are unknown."""
    assert refusal(tmp_path / "m.onnx", file_of(as_graph(), author="x")) == (
        "the ONNX file has no gendercls spec, so its classes and preprocessing are unknown\n"
        "  where: FILE\n"
        "  do:    give a file made by gendercls export"
    )


def test_a_wrong_spec_is_told_with_its_file(tmp_path: Path) -> None:
    """An error in the spec names the key and the model's file."""
    spec = json.loads(SPEC.to_json())
    del spec["gate"]["photos"]
    message = refusal(tmp_path / "m.onnx", file_of(as_graph(), gendercls=json.dumps(spec)))
    assert message == "spec.gate.photos is missing\n  where: FILE\n  do:    export the model again"


@pytest.mark.parametrize(("name", "reason"), [("no.onnx", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """A missing file and a folder say so."""
    with pytest.raises(ModelError) as caught:
        read_model_file(tmp_path / name)
    assert str(caught.value) == (
        f"the model cannot be read: {reason}\n  where: {tmp_path / name}\n  do:    check the path given with --model"
    )


def scan(data: bytes) -> None:
    """Any bytes: an answer or one of three errors, and soon."""
    began = time.process_time()
    with contextlib.suppress(ValueError, IndexError):  # UnicodeDecodeError is a ValueError
        scan_onnx(data)
    assert time.process_time() - began < 2


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_scanned(data: bytes) -> None:
    """Arbitrary bytes give no other error, and no endless search."""
    scan(data)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(GOOD)))
def test_any_damage_is_survived(changes: list[tuple[int, int]], end: int) -> None:
    """A good file with bytes changed and its end cut off gives no other error."""
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    scan(bytes(data[:end]))
    scan(bytes(data))


def test_many_nested_graphs_are_scanned_quickly() -> None:
    """A file of half a megabyte that is all structure takes no longer than its size."""
    data = nested(9, 10_000)
    assert len(data) > 4e5
    began = time.process_time()
    assert scan_onnx(data)[1] is False
    assert time.process_time() - began < 5


def test_one_network_is_shipped_in_two_precisions() -> None:
    """The package has one file of each; both are of one checkpoint and promise the same."""
    paths = shipped_models()
    assert set(shipped_model().parent.glob("*.onnx")) == set(paths.values())
    assert paths.keys() == {"fp32", "int8"}
    by_float, by_int8 = (read_model_file(paths[precision]) for precision in ("fp32", "int8"))
    for said in ("name", "classes", "preprocessing", "temperature", "thresholds", "familiar_norm"):
        assert getattr(by_float.spec, said) == getattr(by_int8.spec, said), said
    assert by_float.spec.provenance["checkpoint_sha256"] == by_int8.spec.provenance["checkpoint_sha256"]
    assert by_float.spec.class_names == ("female", "male")
    assert "/" not in by_float.spec.provenance["recipe_name"]
    assert len(by_int8.data) < 0.6 * len(by_float.data)


def test_an_installation_without_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package was built without a model, the message names the folder and both ways out."""
    (tmp_path / "gendercls").mkdir()
    monkeypatch.setattr("gendercls.modelfile.__file__", str(tmp_path / "gendercls" / "modelfile.py"))
    with pytest.raises(ModelError) as caught:
        shipped_model()
    assert str(caught.value) == (
        "this installation has no fp32 model\n"
        f"  where: {tmp_path / 'export'}\n"
        "  do:    name one with --model, or install gendercls anew"
    )
