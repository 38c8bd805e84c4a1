"""Typed reading of nested JSON and TOML: an error names the file, the key and what stands there instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from gendercls.errors import ModelError

_DEEPEST = 32  # far beyond any file of ours, and short of Python's recursion limit whatever is done with the value


def parse_json(text: str) -> Any:
    """The value of a JSON text that can be shown and written again.

    Raises:
        ValueError: no JSON, a number of thousands of digits, half of a surrogate pair, or too deep a nest.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not _is_within(_DEEPEST, value):
        raise ValueError("nested too deeply")
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _is_within(levels: int, value: object) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_within(levels - 1, item) for item in inner)


class Fields:
    """Typed getters over one table. Who reads a kind of file adds the getters that it needs.

    kind: what a table is called in that file; remedy: what to do about one that is not as it should be; most: the
    largest whole number in it.

    Args:
        value: what should be a table.
        where: the file, with its line where it has many.
        place: the table's own key, empty at the top.

    Raises:
        ModelError: from every getter: the key is missing or its value is of another kind.
    """

    kind: ClassVar[str]
    remedy: ClassVar[str]
    most: ClassVar[int]

    def __init__(self, value: object, where: str, place: str = "") -> None:
        self.where, self.place = where, place
        if not isinstance(value, dict):
            raise self.wrong("", self.kind, value)
        self.value: dict[str, Any] = value

    def wrong(self, key: str, expected: str, value: object) -> ModelError:
        return self.refused(f"{self.named(key)} should be {expected}, but is {self.shown(value)}")

    def refused(self, what: str) -> ModelError:
        return ModelError(what, where=self.where, do=self.remedy)

    def named(self, key: str) -> str:
        """The key with its way from the top."""
        return ".".join(filter(None, (self.place, key))) or "the whole"

    def shown(self, value: object) -> str:
        """A value for a message, and no more of it than fits."""
        text = json.dumps(value, default=str)
        return text if len(text) <= 60 else text[:60] + " …"

    def get(self, key: str) -> Any:
        if key not in self.value:
            raise self.refused(f"{self.named(key)} is missing")
        return self.value[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "text", value)
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def whole(self, key: str) -> int:
        value = self.get(key)
        if not self.is_whole(value):
            raise self.wrong(key, "a whole number, 0 or more", value)
        return int(value)

    def inner(self, key: str) -> Self:
        return type(self)(self.get(key), self.where, self.named(key))

    def items(self, key: str) -> Iterator[Self]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return (type(self)(item, self.where, f"{self.named(key)}[{number}]") for number, item in enumerate(value))

    @classmethod
    def is_whole(cls, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= cls.most
