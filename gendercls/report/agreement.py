"""How the paired rows of two CSVs agree, in numbers. Everywhere: M pairs, bool ``[M]`` in the order of the pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.report.labelled import is_its_photo, label_rows
from gendercls.report.pairs import Pairs
from gendercls.rows import NO_FACE, NOT_A_PHOTO, UNCERTAIN, Row
from gendercls.slices import LEAST_PHOTOS, Values
from gendercls.stats import Difference, Rate, benjamini_hochberg, confusion_matrix, mcnemar, paired_difference, wilson

_NO_CLASS = (UNCERTAIN, NO_FACE, "failed", NOT_A_PHOTO)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairedRates:
    """How often something is so in either CSV, of the same rows. difference: the second less the first.

    only_first, only_second: of so many rows it is so in that one alone; p: of McNemar's exact test.
    """

    first: Rate
    second: Rate
    difference: Difference
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, slots=True)
class ChangedSlice:
    """Rows with one value of an attribute. changed: predictions.

    accuracy: None without truth. q: the share of false alarms among all slices that are at least so unlikely by chance.
    """

    attribute: str
    value: str
    changed: Rate
    accuracy: PairedRates | None
    q: float | None

    @property
    def name(self) -> str:
        """In words, such as ``Young=yes``."""
        return f"{self.attribute}={self.value}"


@dataclass(frozen=True, slots=True)
class Apart:
    """Probabilities, of the rows with an answer in both: each row's largest difference. NaN without any.

    largest: of them, and at which path; mean: of all of them.
    """

    largest: float
    at: str
    mean: float


@dataclass(frozen=True)
class PairedTruth:
    """truth: of each pair that can be scored, else empty, ``[M]``. conflicts: pairs that have two truths.

    attributes: values ``[M]`` to look at parts of the pairs by, empty where unknown. has_weights: whether the labels
    were drawn unevenly.
    """

    truth: Values
    conflicts: int
    attributes: dict[str, Values]
    has_weights: bool


def word(row: Row) -> str:
    """What a row says: its label, or why it has none."""
    return "failed" if row.has_failed else row.label or NOT_A_PHOTO


def paired(first: Bools, second: Bools) -> PairedRates:
    """Of something that is so, or not, in either row of each pair."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return PairedRates(
        wilson(int(first.sum()), len(first)),
        wilson(int(second.sum()), len(second)),
        paired_difference(only_second, only_first, len(first)),
        only_first,
        only_second,
        mcnemar(only_first, only_second),
    )


def apart(pairs: Pairs) -> Apart:
    """How far probabilities differ."""
    distance = np.abs(pairs.first.probabilities[pairs.of_first] - pairs.second.probabilities[pairs.of_second])
    largest = distance.max(axis=1)
    known = np.flatnonzero(~np.isnan(largest))
    if not len(known):
        return Apart(math.nan, "", math.nan)
    place = known[largest[known].argmax()]
    return Apart(round(float(largest[place]), 6), pairs.rows[place][0].path, float(largest[known].mean()))


def label_table(pairs: Pairs) -> tuple[list[str], list[list[int]]]:
    """Counts of what the first says (rows) by what the second says (columns), and what these are called."""
    said = [(word(one), word(other)) for one, other in pairs.rows]
    there = {each for both in said for each in both}
    words = [*pairs.first.answers.names, *(each for each in _NO_CLASS if each in there)]
    numbers = {each: number for number, each in enumerate(words)}
    one, other = np.array([[numbers[each] for each in both] for both in said], np.intp).T
    return words, confusion_matrix(one, other, len(words)).tolist()


def shares(pairs: Pairs) -> dict[str, PairedRates]:
    """How often the labels name each class, of the pairs with a label in both."""
    first, second = pairs.first, pairs.second
    known = first.has_label[pairs.of_first] & second.has_label[pairs.of_second]
    one, other = (
        preds.answers.decide(preds.probabilities[numbers[known]])
        for preds, numbers in ((first, pairs.of_first), (second, pairs.of_second))
    )
    return {name: paired(one[:, number], other[:, number]) for number, name in enumerate(first.answers.names)}


def paired_truth(pairs: Pairs, labels: Path | None) -> PairedTruth:
    """What is true of each pair: what the labels say, or without them the CSVs' own columns.

    Raises LabelError as `label_rows` does.
    """
    first, second = (label_rows(preds, labels) for preds in (pairs.first, pairs.second))
    one = np.array(first.truth, np.str_)[pairs.of_first]
    other = np.array(second.truth, np.str_)[pairs.of_second]
    if labels is None:  # a truth is a photo's: a run without labels has that of the other
        one = one if pairs.first.columns.has_truth else other
        other = other if pairs.second.columns.has_truth else one
    conflicts = (one != other) & (one != "") & (other != "")
    if first.of_faces:
        is_scored = _has_one_number(pairs)
    else:  # also where one run has the truth of the other
        is_scored = is_its_photo(pairs.first)[pairs.of_first] & is_its_photo(pairs.second)[pairs.of_second]
    attributes = {name: values[pairs.of_first] for name, values in first.attributes.items()}
    return PairedTruth(
        np.where((one == other) & is_scored, one, ""),
        int((conflicts & is_scored).sum()),
        attributes,
        first.has_weights or second.has_weights,
    )


def _has_one_number(pairs: Pairs) -> Bools:
    """Whether a face has the same number in both, so that a label of that number is about it."""
    return np.array([one.face[:1] == other.face[:1] for one, other in pairs.rows], np.bool_)


def is_right(rows: Iterable[Row], truth: Values) -> Bools:
    """Where the label is the truth; uncertain and failed ones are wrong."""
    return np.array([row.label == true for row, true in zip(rows, truth.tolist(), strict=True)], np.bool_)


def changed_slices(found: PairedTruth, changed: Bools, right: Bools, right_then: Bools) -> list[ChangedSlice]:
    """Every value of every attribute that enough rows have: first where the second CSV surely loses most."""
    parts: list[tuple[str, str, Rate, PairedRates | None]] = []
    for attribute, values in found.attributes.items():
        for value in np.unique(values[values != ""]).tolist():
            chosen = values == value
            scored = chosen & (found.truth != "")
            if chosen.sum() >= LEAST_PHOTOS:
                accuracy = paired(right[scored], right_then[scored]) if scored.any() else None
                parts.append((attribute, value, wilson(int(changed[chosen].sum()), int(chosen.sum())), accuracy))
    p_values = np.array([accuracy.p for *_, accuracy in parts if accuracy], np.float64)
    adjusted = iter(benjamini_hochberg(p_values).tolist())
    slices = [ChangedSlice(*part, next(adjusted) if part[-1] else None) for part in parts]
    return sorted(slices, key=_by_loss)


def _by_loss(part: ChangedSlice) -> tuple[float, float, str]:
    """What is lost even where the interval's better end is true; without truth, the changes that are sure."""
    return part.accuracy.difference.high if part.accuracy else 0.0, -part.changed.low, part.name
