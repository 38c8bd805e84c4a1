"""Typed reading of a run's files: an error names the file, the key and what stands there instead."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import ModelError


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
    return ModelError(what, where=where, do="restore the file from a copy of the run, or train the run again")


class Fields:
    """Typed getters over one table of a JSON or TOML file.

    Args:
        value: what should be a table.
        where: the file, with its line where it has many.
        place: the table's own key, empty at the top.

    Raises:
        ModelError: from every getter: the key is missing or its value is of another kind.
    """

    def __init__(self, value: object, where: str, place: str = "") -> None:
        self.where, self.place = where, place
        if not isinstance(value, dict):
            raise self.wrong("", "a table", value)
        self.value: dict[str, Any] = value

    def wrong(self, key: str, expected: str, value: object) -> ModelError:
        shown = json.dumps(value, default=str)
        shown = shown if len(shown) <= 60 else shown[:60] + " …"
        return damaged(f"{self._named(key)} should be {expected}, but is {shown}", self.where)

    def get(self, key: str) -> Any:
        if key not in self.value:
            raise damaged(f"{self._named(key)} is missing", self.where)
        return self.value[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "text", value)
        return value

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

    def whole(self, key: str) -> int:
        value = self.get(key)
        if not _is_whole(value):
            raise self.wrong(key, "a whole number, 0 or more", value)
        return int(value)

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def counts(self, key: str, size: int) -> NDArray[np.int64]:
        """A square table of counts: int64 ``[size, size]``."""
        value = self.get(key)
        is_square = isinstance(value, list) and len(value) == size and all(_is_row(row, size) for row in value)
        if not is_square:
            raise self.wrong(key, f"{size} rows of {size} counts", value)
        return np.array(value, np.int64).reshape(size, size)

    def inner(self, key: str) -> Fields:
        return Fields(self.get(key), self.where, self._named(key))

    def items(self, key: str) -> Iterator[Fields]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return (Fields(item, self.where, f"{self._named(key)}[{number}]") for number, item in enumerate(value))

    def _named(self, key: str) -> str:
        return ".".join(filter(None, (self.place, key))) or "the whole"


def _is_amount(value: object) -> bool:
    """Not for what is beyond a float, which JSON and TOML allow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_row(value: object, size: int) -> bool:
    return isinstance(value, list) and len(value) == size and all(map(_is_whole, value))
