"""Save and load what a run must not lose. Files appear whole or not at all; nothing in them is executed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from gendercls.errors import ModelError, OutputError

FORMAT = 1


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values in one step. Raises OutputError; the old file then stands."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"the checkpoint could not be written: {error}",
            where=str(path),
            do="free some disk; the checkpoint before it stands, and --resume continues from there",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, Any]:
    """A dictionary of tensors and plain values, read with ``weights_only=True``, so nothing in it can run.

    Raises:
        ModelError: no such file, damaged, or holding something else than tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("no such weights file", where=str(path), do="check the path") from None
    except OSError as error:
        raise ModelError(
            f"the weights file cannot be read: {error.strerror}", where=str(path), do="check the path"
        ) from None
    except Exception as error:  # on bytes that are no checkpoint torch raises a dozen kinds with no common base
        raise ModelError(
            "the weights file is damaged, or holds something else than tensors and plain values; nothing in it was run",
            where=str(path),
            do="give a file that torch.save wrote from a state dict, or a checkpoint made by gendercls train",
        ) from error
    if not isinstance(content, dict) or not content:
        raise ModelError("the file holds no state dict", where=str(path), do="give a dictionary of named tensors")
    return content


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
