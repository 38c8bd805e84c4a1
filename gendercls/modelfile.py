"""The model file: one ONNX file that carries its contract, read without the onnx package.

The few protobuf fields needed before a session is opened are read here. That keeps the onnx package out of the core,
gives the spec in milliseconds, and refuses external data before onnxruntime goes looking for it. What the contract is
made of is loaded where it is read, so that a model can be opened meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gendercls.errors import ModelError
from gendercls.machine import begun

if TYPE_CHECKING:
    from gendercls.spec import ModelSpec

Precision = Literal["fp32", "fp16", "int8"]
"""How a model computes: floats of 32 bits, of 16, or integers of 8."""

# Field numbers from onnx.proto3 (ONNX 1.x). The second: for each message, which fields hold a message with tensors.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_INSIDE = {
    "model": {_MODEL_GRAPH: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_DEEPEST = 32
_MOST_FIELDS = 5_000_000  # read in seconds; the shipped models have 9,000 and 15,000
_MOST_METADATA = 1 << 24  # bytes of an entry
_MOST_BYTES = (1 << 31) - 1  # protobuf's own bound

METADATA_KEY = "gendercls"
"""Of the file's entry that holds the contract."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An ONNX file that is ours: where it lies, its bytes, their SHA-256 and its contract."""

    path: Path
    data: bytes
    sha256: str
    spec: ModelSpec

    @property
    def label(self) -> str:
        """Name and short hash, for people."""
        return f"{self.path.name} ({self.sha256[:6]})"

    @property
    def warning(self) -> str:
        """What a user of the file should know first; empty when there is nothing."""
        from gendercls.spec import FORMAT

        if not self.spec.is_newer:
            return ""
        newer, known = (f"{major}.{minor}" for major, minor in (self.spec.format, FORMAT))
        return f"{self.path.name} has format {newer}, this gendercls knows {known}; what is new in it is not used"

    def to_json(self) -> str:
        """The spec with the file's path and hash, for programs."""
        return json.dumps({"file": str(self.path), "sha256": self.sha256, **self.spec.to_dict()}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file that is whole and says that it is ours.

    text: its contract, not yet read. sha256: of the bytes, which takes as long as it takes.
    """

    path: Path
    data: bytes
    text: str
    sha256: Future[str]

    def with_contract(self) -> ModelFile:
        """Raises ModelError where the contract is none, or of another major format."""
        from gendercls.spec import parse_spec

        spec = parse_spec(self.text, str(self.path))
        return ModelFile(self.path, self.data, self.sha256.result(), spec)


def shipped_model(precision: Precision = "fp32") -> Path:
    """The model that comes with gendercls, in a checkout and in an installed package alike.

    Raises:
        ModelError: the package was built without one of that precision.
    """
    folder = _shipped_folder()
    models = shipped_models(folder)
    if precision not in models:
        raise ModelError(
            f"this installation has no {precision} model",
            where=str(folder),
            do="name one with --model, or install gendercls anew",
        )
    return models[precision]


def shipped_models(folder: Path | None = None) -> dict[Precision, Path]:
    """The models that come with gendercls, by precision."""
    found = sorted((folder or _shipped_folder()).glob("*.onnx"))
    return {"int8" if path.name.endswith(".int8.onnx") else "fp32": path for path in found}


def _shipped_folder() -> Path:
    package = Path(__file__).parent
    return package / "shipped" if (package / "shipped").is_dir() else package.parent / "export"


def read_model_file(path: Path) -> ModelFile:
    """Read an ONNX file and its contract, without opening a session.

    Raises:
        ModelError: no such file, no ONNX, external data, no spec, or a spec of another major format.
    """
    return read_onnx(path).with_contract()


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file. Raises ModelError: no such file, no ONNX, external data, or no spec."""
    try:
        with path.open("rb") as file:
            # Mapped, so that no more is read of what is no model than shows it. Some file systems share no maps.
            metadata, is_external = scan_onnx(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            data = file.read()
    except OSError as error:
        raise ModelError(
            f"the model cannot be read: {error.strerror}", where=str(path), do="check the path given with --model"
        ) from None
    except (ValueError, IndexError):  # an empty file cannot be mapped, which is a ValueError too
        raise ModelError(
            "the model is no ONNX file, or a damaged one", where=str(path), do="give a file made by gendercls export"
        ) from None
    if is_external:
        raise ModelError(
            "the model keeps its weights in another file", where=str(path), do="give one file made by gendercls export"
        )
    if METADATA_KEY not in metadata:
        raise ModelError(
            "the ONNX file has no gendercls spec, so its classes and preprocessing are unknown",
            where=str(path),
            do="give a file made by gendercls export",
        )
    # In a thread, for a model is opened meanwhile.
    sha256 = begun(lambda: hashlib.sha256(data).hexdigest(), "sha256")
    return OnnxFile(path, data, metadata[METADATA_KEY], sha256)


def scan_onnx(data: bytes | mmap.mmap) -> tuple[dict[str, str], bool]:
    """An ONNX file's metadata, and whether any of its tensors lies in another file.

    Raises:
        ValueError, IndexError: the bytes are no protobuf, hold no graph, or more than any model does.
    """
    if len(data) > _MOST_BYTES:
        raise ValueError("too large")
    metadata: dict[str, str] = {}
    message, has_graph, left = memoryview(data), False, iter(range(_MOST_FIELDS))
    for number, value in _fields(message, left):
        if number == _MODEL_METADATA:
            entry = dict(_fields(_bytes(value), left))
            metadata[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        has_graph |= number == _MODEL_GRAPH
    if not has_graph:
        raise ValueError("no graph")
    return metadata, _is_external("model", message, 0, left)


def _is_external(kind: str, message: memoryview, depth: int, left: Iterator[int]) -> bool:
    """Whether a message of that kind, or one within it, is a tensor that lies in another file."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inside = _INSIDE[kind]
    for number, value in _fields(message, left):
        if kind == "tensor" and (number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value)):
            return True
        if number in inside and _is_external(inside[number], _bytes(value), depth + 1, left):
            return True
    return False


def _text(value: int | memoryview | bytes) -> str:
    text = _bytes(value)
    if len(text) > _MOST_METADATA:
        raise ValueError("too long")
    return bytes(text).decode()


def _bytes(value: int | memoryview | bytes) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return memoryview(value)


def _fields(message: memoryview, left: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message: integers as int, everything else as its bytes.

    left: as many as may still be read of the file.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if number == 0 or next(left, None) is None:
            raise ValueError("no field, or too many")
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("cut off")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
