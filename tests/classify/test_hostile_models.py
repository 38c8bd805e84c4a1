"""Model files from strangers: what asks too much is refused with the reason, in bounded time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gendercls.classify.detector import Detector
from gendercls.classify.session import Device, Session
from gendercls.detectorfile import read_detector
from gendercls.errors import ModelError
from gendercls.faces import SIDE, STRIDES
from gendercls.modelfile import read_model_file

Change = Callable[[onnx.ModelProto], None]
Refused = Callable[..., "Ended"]
GB = 1 << 30


# --- models -----------------------------------------------------------------------------------------------------


def constant(graph: onnx.GraphProto, name: str, value: np.generic | np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def before(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Let the model compute that first, and let its answer need the last one's output."""
    graph, needed = model.graph, nodes[-1].output[0]
    rest = list(graph.node)
    rest[-1].output[0] = "answer"
    del graph.node[:]
    zero = constant(graph, "nothing", np.float32(0))
    graph.node.extend(nodes)
    graph.node.extend(rest)
    graph.node.append(helper.make_node("Cast", [needed], ["floats of it"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("ReduceMax", ["floats of it"], ["most of it"], keepdims=0))
    graph.node.append(helper.make_node("Mul", ["most of it", zero], ["none of it"]))
    graph.node.append(helper.make_node("Add", ["answer", "none of it"], ["probabilities"]))


def tensor(*dims: int) -> Change:
    """A tensor among the weights that says it is that large, and has no numbers."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims))
        before(model, helper.make_node("Identity", ["w"], ["same"]))

    return change


def zeros(*dims: int) -> Change:
    """As many zeros, for each photo of a batch, so that nobody knows before it runs."""

    def change(model: onnx.ModelProto) -> None:
        shape, first = constant(model.graph, "dims", np.int64(dims)), constant(model.graph, "first", np.int64([0]))
        before(
            model,
            helper.make_node("Shape", ["images"], ["sizes"]),
            helper.make_node("Gather", ["sizes", first], ["photos"]),
            helper.make_node("Mul", ["photos", shape], ["so many"]),
            helper.make_node("ConstantOfShape", ["so many"], ["zeros"]),
        )

    return change


def loop(graph: onnx.GraphProto) -> onnx.NodeProto:
    """A node that doubles a number 2^62 times."""
    inputs = [("i", TensorProto.INT64), ("goes on", TensorProto.BOOL), ("x", TensorProto.FLOAT)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes on"], ["still"]), helper.make_node("Add", ["x", "x"], ["twice"])],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in inputs],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), helper.make_tensor_value_info("twice", 1, [])],
    )
    values = {"n": np.int64(2**62), "yes": np.bool_(True), "one": np.float32(1)}
    given = [constant(graph, name, value) for name, value in values.items()]
    return helper.make_node("Loop", given, ["looped"], body=body)


def node(kind: str, domain: str = "") -> Change:
    """An operator that nobody knows."""

    def change(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid(domain, 1))
        before(model, helper.make_node(kind, ["images"], ["x"], domain=domain))

    return change


def versions(*, opset: int = 17, ir: int = 8) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version, model.ir_version = opset, ir

    return change


def answers(kind: str, **inputs: list[int]) -> Change:
    """Probabilities of another shape than the model says."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "answer"
        given = [constant(model.graph, f"its {name}", np.int64(value)) for name, value in inputs.items()]
        model.graph.node.append(helper.make_node(kind, ["answer", *given], ["probabilities"]))

    return change


def size(side: int) -> Change:
    """Photos of that size, in the spec and in the graph."""

    def change(model: onnx.ModelProto) -> None:
        entry = model.metadata_props[0]
        spec = json.loads(entry.value)
        spec["preprocessing"] |= {"height": side, "width": side}
        entry.value = json.dumps(spec)
        for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
            dim.dim_value = side

    return change


Make = Callable[[Change], Path]


@pytest.fixture
def make(null_model: Path, tmp_path: Path) -> Make:
    """``make(change)``: the model that costs nothing, but for that."""

    def change_it(change: Change) -> Path:
        model = onnx.load(null_model)
        change(model)
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return change_it


# --- what onnxruntime and the contract refuse -------------------------------------------------------------------

REFUSED: dict[str, tuple[Change, str]] = {
    "an operator of an unknown domain": (node("Steal", "evil.example"), "evil.example"),
    "an operator that does not exist": (node("Steal"), "Steal"),
    "a newer operator set": (versions(opset=999), "999"),
    "a newer ONNX": (versions(ir=999), "999"),
    "a tensor of 4 TB": (tensor(2**40), ""),
    "a tensor of more numbers than can be counted": (tensor(2**33, 2**33), "verflow"),
    "a tensor of less than no numbers": (tensor(-1), ""),
    "zeros, more than can be counted": (zeros(2**33, 2**33), "verflow"),
    "no row": (answers("Slice", begin=[0], end=[0]), "one row for each photo: [[0, 2]]"),
    "too many rows": (answers("Tile", times=[3, 1]), "one row for each photo: [[3, 2]]"),
    "photos of a terapixel": (size(10**6), "1000000×1000000; each side must be 1 to 4096 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_ask_for_what_cannot_be(make: Make, name: str) -> None:
    """The error names the file, and has the reason within its first line."""
    change, reason = REFUSED[name]
    path = make(change)
    with pytest.raises(ModelError) as caught:
        Session(read_model_file(path), device="cpu")
    assert reason in caught.value.what
    assert "/onnxruntime_src/" not in caught.value.what
    assert str(path) in caught.value.where


# --- what the guard bounds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """What a command said as it failed, and the most memory of its processes, in bytes."""

    said: str
    memory: int


# In a process between: what the tests' own process takes would be counted as its child's.
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """``refused(*options, seconds=…, memory=…)``: ``classify`` fails, with those bounds for models to be opened."""
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")

    def run(*options: object, seconds: float = 60, memory: int = 4 * GB) -> Ended:
        bounds = f"process.Opening = functools.partial(process.Opening, seconds={seconds}, memory={memory})"
        (tmp_path / "sitecustomize.py").write_text(f"import functools\nfrom gendercls import process\n{bounds}\n")
        words = ["classify", "photo.png", "--out", "o.csv", "--device", "cpu", "--photo-timeout", "1", *options]
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "gendercls", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        status, most = map(int, done.stdout.split())
        assert (status, list(tmp_path.glob("o.csv*"))) == (1, [])
        return Ended(done.stderr, most * 1024)

    return run


DO = (
    "  do:    name another file, such as one made by gendercls export; one that is only slow needs a larger "
    "--photo-timeout; gendercls doctor examines the machine\n"
)


def test_a_model_that_never_ends_is_given_up(make: Make, refused: Refused) -> None:
    """In its self-test, before any photo could be blamed."""
    path = make(lambda model: before(model, loop(model.graph)))
    assert refused("--model", path, seconds=1).said == (
        f"Error: opening the model and its self-test took more than 1 s\n  where: {path}\n{DO}"
    )


def test_a_model_that_takes_too_much_memory_is_given_up(make: Make, refused: Refused) -> None:
    """It may take some, and some more for each byte of its file."""
    path = make(zeros(2**30))
    with path.open("ab") as file:
        file.write(onnx.ModelProto(doc_string="x" * 10**7).SerializeToString())
    ended = refused("--model", path, memory=240_000_000)
    assert ended.said == (
        f"Error: opening the model and its self-test took more than 0.4 GB of memory\n  where: {path}\n{DO}"
    )
    assert ended.memory < 2 * GB


def test_a_model_that_asks_for_terabytes_is_refused(make: Make, refused: Refused) -> None:
    """By onnxruntime where the system does not give them, else by the guard."""
    path = make(zeros(2**40))
    ended = refused("--model", path)
    assert ended.said.splitlines()[1].startswith(f"  where: {path}")
    assert ended.memory < 5 * GB


NO_MODEL = "the model is no ONNX file, or a damaged one"
NO_DETECTOR = "the file is no face detector: no ONNX file, or not all in one, or far too large"


@pytest.mark.parametrize(
    ("options", "what"),
    [(["--model"], NO_MODEL), (["--faces", "--face-model"], NO_DETECTOR)],
    ids=["model", "detector"],
)
def test_two_gigabytes_of_zeros_are_not_read(refused: Refused, tmp_path: Path, options: list[str], what: str) -> None:
    """No more of them than shows that they are no model, also after a good begin."""
    path = tmp_path / "zeros.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    os.truncate(path, 2 * GB - 1)
    ended = refused(*options, path)
    assert ended.said.splitlines()[:2] == [f"Error: {what}", f"  where: {path}"]
    assert ended.memory < GB // 2


# --- the face detector ------------------------------------------------------------------------------------------


def detector(*, more: int = 0, is_endless: bool = False) -> onnx.ModelProto:
    """Looks like YuNet and finds no face. more: numbers that its outputs have beyond what it says, along each side."""
    graph = helper.make_graph([], "d", [helper.make_tensor_value_info("input", 1, [1, 3, SIDE, SIDE])], [])
    graph.node.append(helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0))
    graph.node.append(helper.make_node("Cast", ["most"], ["none"], to=TensorProto.INT64))
    if is_endless:
        graph.node.append(loop(graph))
    for stride in STRIDES:
        for kind, width in {"kps": 10, "cls": 1, "obj": 1, "bbox": 4}.items():
            name, shape = f"{kind}_{stride}", [1, (SIDE // stride) ** 2, width]
            graph.output.append(helper.make_tensor_value_info(name, 1, shape))
            said = constant(graph, f"{name} shape", np.int64(shape) + more)
            graph.node.append(helper.make_node("Add", ["none", said], [f"{name} real"]))
            graph.node.append(helper.make_node("ConstantOfShape", [f"{name} real"], [name]))
    if is_endless:
        graph.node[-1].output[0] = "last"
        graph.node.append(helper.make_node("Mul", ["last", "looped"], [name]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def open_detector(path: Path) -> Detector:
    return Detector(read_detector(path), Device("cpu"))


def test_another_detector_is_taken(tmp_path: Path) -> None:
    """One that has YuNet's input and outputs."""
    onnx.save(detector(), tmp_path / "d.onnx")
    found = open_detector(tmp_path / "d.onnx").run(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert found["bbox_8"].shape == (1, 6400, 4)


def test_a_detector_whose_outputs_are_not_what_it_says(tmp_path: Path) -> None:
    """At once, or with the first photo on which it is seen."""
    path = tmp_path / "d.onnx"
    message = (
        "the face detector cannot be run: its outputs are not as large as it says\n"
        f"  where: {path}\n"
        "  do:    name another with --face-model, or get it: gendercls faces download"
    )
    onnx.save(detector(more=1), path)
    with pytest.raises(ModelError) as caught:
        open_detector(path)
    assert str(caught.value) == message
    onnx.save(detector(), path)
    opened = open_detector(path)
    with pytest.raises(ModelError) as caught:
        opened.run(np.ones((1, 3, SIDE, SIDE), np.float32))
    assert str(caught.value) == message


def outside(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)


def enlarge(model: onnx.ModelProto) -> None:
    model.doc_string = "x" * 4_000_000


@pytest.mark.parametrize("change", [outside, enlarge])
def test_a_detector_that_is_none(tmp_path: Path, change: Change) -> None:
    """One that names other files, and one that is far larger than the right one."""
    model, path = detector(), tmp_path / "d.onnx"
    change(model)
    onnx.save(model, path)
    with pytest.raises(ModelError) as caught:
        open_detector(path)
    assert caught.value.what == NO_DETECTOR


def test_a_detector_that_never_ends_is_given_up(refused: Refused, tmp_path: Path) -> None:
    """So is a detector that is not the known one."""
    path = tmp_path / "d.onnx"
    onnx.save(detector(is_endless=True), path)
    assert refused("--faces", "--face-model", path, seconds=1).said == (
        f"Error: opening the model and its self-test took more than 1 s\n  where: {path}\n{DO}"
    )
