"""How errors differ between groups of photos, and which differences are more than chance: pure numpy, no I/O.

A slice is the photos that have one value of an attribute, or of two. Everywhere: right, bool ``[N]``, of the photos
with a truth; an attribute's values, str ``[N]``, are empty where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gendercls.metrics import Estimate
from gendercls.stats import Z95, Difference, Rate, benjamini_hochberg, confusion_matrix, wilson

LEAST_PHOTOS = 20
"""A smaller slice is left out: its interval would hold nearly everything."""

_Z80 = 0.8416212335729143  # the normal quantile of a power of 80 %
_DRAWS = 1000

Values = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Slice:
    """Photos that have these values, against all others of which the attributes are known.

    accuracy: how many are right. gap: its accuracy less that of the others, in [-1, 1]. q: the share of false alarms
    among all slices that are at least so unlikely by chance. detectable: the smallest gap that so many photos would
    have shown in 80 of 100 such sets.
    """

    attributes: tuple[str, ...]
    values: tuple[str, ...]
    accuracy: Rate
    gap: Difference
    q: float
    detectable: float

    @property
    def name(self) -> str:
        """In words, such as ``Young=yes, race=Black``."""
        return ", ".join(f"{a}={v}" for a, v in zip(self.attributes, self.values, strict=True))


def slices(attributes: Mapping[str, Values], right: NDArray[np.bool_]) -> list[Slice]:
    """Each value of each attribute, the lowest accuracy first; of yes and no only the first is compared."""
    cells = [
        ((name,), (value,), values == value, values != "")
        for name, values in attributes.items()
        for value in _compared(values)
    ]
    return _judged(cells, right)


def intersections(attributes: Mapping[str, Values], right: NDArray[np.bool_]) -> list[Slice]:
    """Each two values of each two attributes, the lowest accuracy first."""
    masks = {name: {value: values == value for value in _values(values)} for name, values in attributes.items()}
    known = {name: values != "" for name, values in attributes.items()}
    cells = (
        ((first, second), (one, other), of_one & of_other, known[first] & known[second])
        for first, second in combinations(attributes, 2)
        for one, of_one in masks[first].items()
        for other, of_other in masks[second].items()
    )
    return _judged(cells, right)


Cell = tuple[tuple[str, ...], tuple[str, ...], NDArray[np.bool_], NDArray[np.bool_]]


def _judged(cells: Iterable[Cell], right: NDArray[np.bool_]) -> list[Slice]:
    found, p_values = [], []
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(right) + 1)))])
    for attributes, values, chosen, known in cells:
        total, others = int(chosen.sum()), int((known & ~chosen).sum())
        if min(total, others) < LEAST_PHOTOS:
            continue
        count, of_others = int((right & chosen).sum()), int((right & known & ~chosen).sum())
        here, there = wilson(count, total), wilson(of_others, others)
        p_values.append(fisher_exact(total - count, total, others - of_others, others, log_factorials))
        found.append((attributes, values, here, newcombe(here, there), detectable_gap(here, there)))
    adjusted = benjamini_hochberg(np.array(p_values, np.float64))
    judged = [Slice(*parts[:4], float(q), parts[4]) for parts, q in zip(found, adjusted, strict=True)]
    return sorted(judged, key=lambda slice_: (slice_.accuracy.value, slice_.name))


def newcombe(first: Rate, second: Rate) -> Difference:
    """The first share less the second, of different photos.

    Source: Newcombe 1998, Statistics in Medicine 17, pages 873-890, method 10.
    """
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    gap = first.value - second.value
    return Difference(first.total + second.total, gap, max(-1.0, gap - below), min(1.0, gap + above))


def detectable_gap(first: Rate, second: Rate) -> float:
    """The smallest difference that would be found in 80 of 100 such pairs of samples, at a level of 5 %.

    Source: Fleiss, Levin & Paik 2003, Statistical Methods for Rates and Proportions, section 4.2, solved for the gap.
    """
    share = (first.count + second.count) / (first.total + second.total)
    share = min(max(share, 1 / (first.total + second.total)), 1 - 1 / (first.total + second.total))
    return (Z95 + _Z80) * math.sqrt(share * (1 - share) * (1 / first.total + 1 / second.total))


def fisher_exact(wrong: int, total: int, wrong_others: int, others: int, log_factorials: NDArray[np.float64]) -> float:
    """How likely two groups differ at least so much by chance: Fisher's exact test, two-sided.

    log_factorials: of 0 to at least total + others. Source: Fisher 1935, the sum over all tables no likelier than this.
    """
    all_wrong = wrong + wrong_others
    counts = np.arange(max(0, all_wrong - others), min(all_wrong, total) + 1)

    def log_choose(n: int, k: NDArray[np.int_]) -> NDArray[np.float64]:
        return np.asarray(log_factorials[n] - log_factorials[k] - log_factorials[n - k], np.float64)

    logs = log_choose(total, counts) + log_choose(others, all_wrong - counts)
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    here = chances[wrong - counts[0]]
    return float(min(1.0, chances[chances <= here * (1 + 1e-9)].sum()))


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the groups of an attribute are apart, by fairlearn's names; 0 where they are alike.

    demographic_parity_difference: the greatest difference of the share that gets a class's answer.
    equalized_odds_difference: the greater one of the greatest differences of the true and of the false positive rate.
    Each over all groups of at least `LEAST_PHOTOS`, and the greatest over the classes. groups: how many there are.
    """

    attribute: str
    groups: int
    demographic_parity_difference: Estimate
    equalized_odds_difference: Estimate


def parity(name: str, values: Values, truth: NDArray[np.intp], answer: NDArray[np.intp], classes: int) -> Parity | None:
    """Of one attribute; None with fewer than two groups that have enough photos of each class.

    Args: truth, answer: int ``[N]`` from 0 to K - 1; answer may be -1 for none.

    The interval draws each group's counts anew (parametric bootstrap, percentiles): a greatest difference of small
    groups is never 0 by chance.
    """
    counts = []
    for value in _values(values):
        # Truth by answer of this group; the last column is of those without an answer, since -1 modulo K + 1 is K.
        cells = confusion_matrix(truth[values == value], answer[values == value] % (classes + 1), classes, classes + 1)
        if cells.sum(axis=1).min() >= LEAST_PHOTOS:
            counts.append(cells)
    if len(counts) < 2:
        return None
    groups = np.array(counts)
    generator = np.random.default_rng(0)  # the same interval twice
    totals = groups.sum(axis=2)
    draws = generator.multinomial(totals, groups / totals[..., None], (_DRAWS, *totals.shape))
    selected, odds = (
        _around(float(value[0]), spread) for value, spread in zip(_apart(groups[None]), _apart(draws), strict=True)
    )
    return Parity(name, len(groups), selected, odds)


def _apart(counts: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of counts ``[D, G, K, K + 1]`` the greatest differences between the G groups: of answers, and of both rates."""
    right = np.diagonal(counts, axis1=2, axis2=3)
    answered, totals = counts[..., :-1].sum(axis=2), counts.sum(axis=3)
    of_all = totals.sum(axis=2, keepdims=True)
    rates = answered / of_all, right / totals, (answered - right) / (of_all - totals)
    selected, true_positive, false_positive = (np.ptp(rate, axis=1).max(axis=1) for rate in rates)
    return selected, np.maximum(true_positive, false_positive)


def _around(value: float, draws: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(draws, (2.5, 97.5)).tolist()
    return Estimate(value, min(value, low), max(value, high))


def _values(values: Values) -> list[str]:
    return [str(value) for value in np.unique(values) if value]


def _compared(values: Values) -> list[str]:
    found = _values(values)
    return ["yes"] if found == ["no", "yes"] else found
