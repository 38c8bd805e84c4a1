"""Which rows of two CSVs are of the same photo, or of the same face in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gendercls.preds import Predictions
from gendercls.rows import Row

_SAME_FACE = 0.5  # of two boxes, intersection over union
Box = tuple[int, ...]


@dataclass(frozen=True)
class Pairs:
    """Two CSVs and their M pairs of rows.

    of_first, of_second: the rows' numbers, ``[M]`` each. only_first, only_second: rows without a partner.
    """

    first: Predictions
    second: Predictions
    of_first: NDArray[np.intp]
    of_second: NDArray[np.intp]
    only_first: NDArray[np.intp]
    only_second: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.of_first)

    @cached_property
    def rows(self) -> list[tuple[Row, Row]]:
        """The pairs themselves."""
        return [
            (self.first.rows[one], self.second.rows[other])
            for one, other in zip(self.of_first.tolist(), self.of_second.tolist(), strict=True)
        ]


def pair_rows(first: Predictions, second: Predictions) -> Pairs:
    """Pair rows by path. Where a photo has one row in either they are a pair; of faces those at one place."""
    by_path = {second.rows[numbers[0]].path: numbers for numbers in second.photos}
    found: list[tuple[int, int]] = []
    for numbers in first.photos:
        others = by_path.get(first.rows[numbers[0]].path)
        if others is not None:
            found.extend(_of_photo(first.rows, second.rows, numbers, others))
    pairs = np.array(found, np.intp).reshape(-1, 2)
    left = (np.setdiff1d(np.arange(len(preds)), taken) for preds, taken in zip((first, second), pairs.T, strict=True))
    return Pairs(first, second, pairs[:, 0], pairs[:, 1], *left)


def _of_photo(
    first: tuple[Row, ...], second: tuple[Row, ...], numbers: range, others: range
) -> Iterator[tuple[int, int]]:
    boxes, other_boxes = {n: _box(first[n]) for n in numbers}, {n: _box(second[n]) for n in others}
    if len(numbers) == len(others) == 1 and not (boxes[numbers[0]] and other_boxes[others[0]]):
        yield numbers[0], others[0]
        return
    overlaps = [(_overlap(box, other), n, m) for n, box in boxes.items() for m, other in other_boxes.items()]
    for overlap, n, m in sorted(overlaps, key=lambda found: (-found[0], *found[1:])):  # equal boxes first
        if overlap >= _SAME_FACE and n in boxes and m in other_boxes:
            del boxes[n], other_boxes[m]
            yield n, m


def _box(row: Row) -> Box:
    """Left, top, width, height of a face; empty for a row that is of none."""
    return tuple(map(int, row.face[1:5]))


def _overlap(box: Box, other: Box) -> float:
    """Intersection over union."""
    if not box or not other:
        return 0.0
    width, height = (
        max(0, min(box[axis] + box[axis + 2], other[axis] + other[axis + 2]) - max(box[axis], other[axis]))
        for axis in (0, 1)
    )
    common = width * height
    return common / max(1, box[2] * box[3] + other[2] * other[3] - common)
