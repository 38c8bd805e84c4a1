"""Reading of a run's files: the getters that they need, and what is said of a damaged one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import ModelError
from gendercls.fields import Fields

_REMEDY = "restore the file from a copy of the run, or train the run again"


def read_text(path: Path) -> str | None:
    """A UTF-8 file's text, None where there is no such file; bytes that are not UTF-8 become surrogates.

    Raises:
        ModelError: it is there, but cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(f"{path.name} cannot be read: {error.strerror}", str(path)) from None


def damaged(what: str, where: str) -> ModelError:
    """The error for a file of a run that is not as ``gendercls train`` writes it."""
    return ModelError(what, where=where, do=_REMEDY)


class RunFields(Fields):
    """The getters that a run's JSON and TOML need."""

    kind = "a table"
    remedy = _REMEDY
    most = 2**63 - 1

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def amount(self, key: str) -> float:
        """A finite number, 0 or more."""
        value = self.get(key)
        if not _is_amount(value):
            raise self.wrong(key, "a number, 0 or more", value)
        return float(value)

    def share(self, key: str) -> float:
        """A number in [0, 1]."""
        value = self.amount(key)
        if value > 1:
            raise self.wrong(key, "0 to 1", value)
        return value

    def optional(self, getter: Callable[[str], float], key: str) -> float | None:
        """What one of the getters gives, None where the key is missing or null."""
        return None if self.value.get(key) is None else getter(key)

    def counts(self, key: str, size: int) -> NDArray[np.int64]:
        """A square table of counts: int64 ``[size, size]``."""
        value = self.get(key)
        is_square = isinstance(value, list) and len(value) == size and all(_is_row(row, size) for row in value)
        if not is_square:
            raise self.wrong(key, f"{size} rows of {size} counts", value)
        return np.array(value, np.int64).reshape(size, size)


def _is_amount(value: object) -> bool:
    """Not for what is beyond a float, which JSON and TOML allow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _is_row(value: object, size: int) -> bool:
    return isinstance(value, list) and len(value) == size and all(map(RunFields.is_whole, value))
