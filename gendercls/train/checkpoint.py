"""Save and load what a run must not lose. Files appear whole or not at all; nothing in them is executed."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gendercls.errors import ModelError, OutputError
from gendercls.wholefile import whole_file

FORMAT = 1


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
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on other bytes torch and zipfile raise a dozen kinds with no common base
        raise ModelError(
            "the file is damaged, or holds something else than tensors and plain values; nothing in it was run",
            where=str(path),
            do="give a file that torch.save wrote from a state dict, or a checkpoint made by gendercls train",
        ) from error
    if not isinstance(content, dict) or not content:
        raise ModelError("the file holds no state dict", where=str(path), do="give a dictionary of named tensors")
    return content


def _check_sums(path: Path) -> None:
    """Raises zipfile.BadZipFile where a byte has changed: torch itself reads changed tensors without a word."""
    if zipfile.is_zipfile(path):  # torch's older format is none, and has no sums
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(damaged)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that ``gendercls train`` wrote. Raises ModelError."""
    content = load_tensors(path)
    if content.get("format") != FORMAT:
        raise ModelError(
            "the file is no checkpoint that this version of gendercls can read",
            where=f"{path} has format {content.get('format')!r}; this version reads {FORMAT}",
            do="give the best.pt of a run made by gendercls train",
        )
    return content


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
