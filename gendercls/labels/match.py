"""Which label belongs to which photo: by path, else by a file name that only one label has. Never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Match = Literal["path", "name", "missing", "ambiguous"]
"""How the search went: by path, by the file name alone, no such label, or several of that file name."""


class LabelIndex:
    """Finds a photo's label.

    A label's key matches when it is the end of the photo's path (``val/1.jpg`` for ``/data/fairface/val/1.jpg``;
    the longest such key wins). Failing that, a file name serves where exactly one label has it.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._by_key = {key: number for number, key in enumerate(keys)}
        self._depth = max((key.count("/") for key in keys), default=0) + 1
        self._by_name: dict[str, int] = {}
        for number, key in enumerate(keys):
            name = key.rpartition("/")[2]
            self._by_name[name] = -1 if name in self._by_name else number

    def find(self, path: str) -> tuple[Match, int]:
        """The label of the photo at that path (absolute, or as long as it is known): how it went, and its number."""
        parts = path.split("/")
        for depth in range(min(self._depth, len(parts)), 0, -1):
            number = self._by_key.get("/".join(parts[-depth:]))
            if number is not None:
                return "path", number
        number = self._by_name.get(parts[-1], None)
        if number is None:
            return "missing", -1
        return ("ambiguous", -1) if number < 0 else ("name", number)
