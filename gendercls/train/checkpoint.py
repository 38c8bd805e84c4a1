"""Save and load what a run must not lose. Files appear whole or not at all; nothing in them is executed."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gendercls.errors import ModelError, OutputError
from gendercls.wholefile import whole_file

FORMAT = 1

_NAMES = re.compile(
    r"collections OrderedDict|torch (Size|device|\w+Storage|b?float\w+|u?int\d+|bool)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
)
"""What is called to make tensors. Of what else ``weights_only`` lets be called, bytearray alone fills any memory."""

_PICKLES_BEFORE_TENSORS = 5  # in a file of torch's older format
_MOST_PARTS = 1_000_000  # a state of training has some thousands
_MOST_GROWTH = 4  # times the file: one number can be shown as a tensor of any size, one list stand in another often


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values in one step. Raises OutputError; the old file then stands."""
    _write(path, lambda file: torch.save(content, file))


def save_text(path: Path, text: str) -> None:
    """Write a file of a run in one step; a name in it need not be UTF-8. Raises OutputError; the old file stands."""
    _write(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def save_state(path: Path, content: dict[str, Any]) -> None:
    """As `save_tensors`, and the file that was there stays as `previous` of it. Raises OutputError."""

    def keep_the_one_before(_: Path) -> None:
        if path.exists():
            os.replace(path, previous(path))

    _write(path, lambda file: torch.save(content, file), keep_the_one_before)


def previous(path: Path) -> Path:
    """Where the state before the last one lies: ``last.pt`` → ``last.prev.pt``."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def _write(
    path: Path, write: Callable[[BinaryIO], object], before_naming: Callable[[Path], object] = lambda written: None
) -> None:
    try:
        with whole_file(path, before_naming) as file:
            write(file)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        reason = error.strerror if isinstance(error, OSError) else "the disk took only a part of it"
        raise OutputError(
            f"a file of the run could not be written: {reason}",
            where=str(path),
            do="free some disk; what was there before stands, and --resume continues from there",
        ) from None


def load_tensors(path: Path) -> dict[str, Any]:
    """A dictionary of tensors and plain values, read with ``weights_only=True``, so nothing in it can run.

    Raises:
        ModelError: no such file, damaged, or holding something else than tensors.
    """
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise ModelError("no such weights file", where=str(path), do="check the path") from None
    except OSError as error:
        raise ModelError(
            f"the weights file cannot be read: {error.strerror}", where=str(path), do="check the path"
        ) from None
    try:
        _check_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_parts(content, path.stat().st_size)
    except Exception as error:  # on other bytes torch and zipfile raise a dozen kinds with no common base
        raise ModelError(
            "the file is damaged, or holds something else than tensors and plain values; nothing in it was run",
            where=str(path),
            do="give a file that torch.save wrote from a state dict, or a checkpoint made by gendercls train",
        ) from error
    if not isinstance(content, dict) or not content:
        raise ModelError("the file holds no state dict", where=str(path), do="give a dictionary of named tensors")
    return content


def _check_file(path: Path) -> None:
    """Raises where a file is damaged, or would be far more in memory than it is: before torch reads any of it."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\3\4"  # as torch tells; its older format is none, and has no sums
        file.seek(0)
        if is_zip:
            _check_zip(file, path.stat().st_size)
            _check_names(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")))
        else:
            for _ in range(_PICKLES_BEFORE_TENSORS):
                _check_names(file)


def _check_zip(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        # Packed ones, or several in one place, could be of any size. Of two lists of parts torch would see the other:
        # then Python's has no part at the file's begin, or a comment.
        if sum(part.file_size for part in parts) > size or parts[0].header_offset > 0 or archive.comment:
            raise zipfile.BadZipFile("not as torch writes it")
        if (damaged := archive.testzip()) is not None:  # torch itself reads changed tensors without a word
            raise zipfile.BadZipFile(damaged)


def _check_names(pickled: BinaryIO) -> None:
    """Raises ValueError where a pickle calls anything but what makes tensors; it is read, and not run."""
    for operation, name, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL" and not _NAMES.fullmatch(str(name)):
            raise ValueError(name)


def _check_parts(content: object, file_size: int) -> None:
    """Raises ValueError where a file's content stands for far more than the file."""
    size = 0
    for number, part in enumerate(_parts(content)):
        size += part.nbytes if isinstance(part, torch.Tensor) else len(part) if isinstance(part, str | bytes) else 0
        if number > _MOST_PARTS or size > _MOST_GROWTH * file_size:
            raise ValueError("larger than its file")


def _parts(value: object) -> Iterator[object]:
    """A value and all that is in it, as often as it is in it."""
    yield value
    inside: Iterable[object] = ()
    if isinstance(value, dict):
        inside = itertools.chain(value.keys(), value.values())
    elif isinstance(value, list | tuple | set):
        inside = value
    for part in inside:
        yield from _parts(part)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that ``gendercls train`` wrote. Raises ModelError."""
    content = load_tensors(path)
    if not is_checkpoint(content):
        found = content.get("format")
        raise ModelError(
            "the file is no checkpoint that this version of gendercls can read",
            where=f"{path} has format {found if isinstance(found, int) else None}; this version reads {FORMAT}",
            do="give the best.pt of a run made by gendercls train",
        )
    return content


def is_checkpoint(content: dict[str, Any]) -> bool:
    """Whether it is one that ``gendercls train`` wrote, of this format."""
    return isinstance(content.get("format"), int) and content["format"] == FORMAT


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
