"""Intervals, calibration and confusion: pure numpy, no I/O. Each formula names its source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""

WANTED_ERRORS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1)
"""The error rates for which a model's file says which confidence keeps them."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval: count of total, value and bounds in [0, 1]."""

    count: int
    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}] ({self.count:,}/{self.total:,})"


@dataclass(frozen=True, slots=True)
class Threshold:
    """Answers at this confidence and above were wrong at most this often on the validation part.

    wanted_error and error in [0, 1]; coverage is the share of photos still answered.
    """

    wanted_error: float
    confidence: float
    coverage: float
    error: float


def wilson(count: int, total: int, z: float = Z95) -> Rate:
    """A share and its Wilson score interval; (0, 1) when nothing was counted.

    Source: Wilson 1927; Brown, Cai & DasGupta 2001, equation 4.

    >>> print(wilson(4456, 5000))
    89.12 % [88.23, 89.95] (4,456/5,000)
    """
    if total == 0:
        return Rate(0, 0, math.nan, 0.0, 1.0)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At 0 and at 1 the bound is exact; rounding must not move it past the share.
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Rate(count, total, share, low, high)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much less often one of two is right on the same photos: a share in [-1, 1] with its 95 % interval."""

    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} points [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


def paired_difference(only_first: int, only_second: int, total: int) -> Difference:
    """The first one's accuracy less the second one's, of that many photos; [-1, 1] when there is none.

    Args: only_first, only_second: photos that it alone gets right.

    Source: Agresti & Min 2005, Statistics in Medicine 24: half a photo is added to each of the four cells.

    >>> print(paired_difference(8, 3, 1250))
    +0.40 points [-0.14, +0.94]
    """
    if total == 0:
        return Difference(0, math.nan, -1.0, 1.0)
    discordant, net, cells = only_first + only_second + 1, only_first - only_second, total + 2
    half = Z95 * math.sqrt(discordant - net * net / cells) / cells
    return Difference(total, net / total, max(-1.0, net / cells - half), min(1.0, net / cells + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two that are right equally often would differ at least so much: a two-sided p-value in [0, 1].

    Args: only_first, only_second: photos that it alone gets right.

    Source: McNemar 1947, Psychometrika 12, pages 153-157; exact: of their sum, either count is binomial with one half.

    >>> round(mcnemar(8, 3), 4)
    0.2266
    """
    fewer, total = min(only_first, only_second), only_first + only_second
    last = math.lgamma(total + 1) - math.lgamma(fewer + 1) - math.lgamma(total - fewer + 1) - total * math.log(2)
    # The tail's terms, each from the one above it: no factorial is ever too large.
    counts = np.arange(fewer, 0, -1)
    tail = 1 + float(np.cumprod(counts / (total - counts + 1)).sum())
    return min(1.0, 2 * math.exp(last) * tail)


def benjamini_hochberg(p_values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each of M p-values as the least false discovery rate at which it would be called a finding, ``[M]`` in [0, 1].

    Of all that are at most 0.05 then, 5 % are expected to be chance alone, however many were looked at.

    Source: Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57, pages 289-300.

    >>> benjamini_hochberg(np.array([0.01, 0.5, 0.02])).tolist()
    [0.03, 0.5, 0.03]
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    adjusted = np.empty(count)
    adjusted[order] = np.minimum.accumulate(p_values[order] * (count / np.arange(count, 0, -1)))
    return np.minimum(adjusted, 1)


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities ``[N, K]`` whose rows sum to 1, from logits ``[N, K]`` divided by the temperature (above 0)."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def log_loss(probability_of_truth: NDArray[np.floating]) -> float:
    """Mean negative log of the probabilities ``[M]`` that were given to what is true. Raises ValueError at M = 0."""
    if len(probability_of_truth) == 0:
        raise ValueError("log_loss needs at least one labelled photo")
    return float(-np.log(np.maximum(probability_of_truth, 1e-300)).mean())


def sigmoid(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Independent probabilities in [0, 1] of any shape, from logits divided by the temperature (above 0)."""
    scaled = np.asarray(logits, np.float64) / temperature
    small = np.exp(-np.abs(scaled))  # never overflows
    return np.where(scaled >= 0, 1 / (1 + small), small / (1 + small))


def fit_temperature(loss_at: Callable[[float], float]) -> float:
    """The temperature in [0.05, 20] with the least loss.

    Args: loss_at: the log-loss of a validation part at a temperature.

    Source: Guo et al. 2017, section 4.2. The log-loss is unimodal in log T, so golden-section search finds it.
    """
    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss_at(math.exp(left)), loss_at(math.exp(right))
    while high - low > 1e-6:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss_at(math.exp(left))
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss_at(math.exp(right))
    return math.exp((low + high) / 2)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: its mean, the share that was right, and how many there are."""

    confidence: float
    accuracy: float
    count: int


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> list[Bin]:
    """Answers by rising confidence in bins of equal mass; fewer bins where there are fewer answers.

    Args: confidence ``[N]`` in [0, 1]; correct ``[N]``. Raises ValueError at N = 0.

    Source: equal-mass bins as Nixon et al. 2019, section 3.
    """
    if len(confidence) == 0:
        raise ValueError("reliability needs at least one answer")
    order = np.argsort(confidence, kind="stable")
    return [
        Bin(float(np.mean(confidence[chosen], dtype=np.float64)), float(np.mean(correct[chosen])), len(chosen))
        for chosen in np.array_split(order, min(bins, len(order)))
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, weighted by answers; 0 is perfect.

    Source: Guo et al. 2017, equation 3.

    >>> round(calibration_error(reliability(np.array([0.8, 0.6]), np.array([True, False]), bins=2)), 3)
    0.4
    """
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / total


def confusion_matrix(
    truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int, answers: int | None = None
) -> NDArray[np.int64]:
    """Counts int64 ``[K, A]``: rows are the truth, columns the answer. truth ``[N]`` below K, answer ``[N]`` below A.

    A is K unless ``answers`` says more, for answers such as ``uncertain`` that are no class.
    """
    columns = classes if answers is None else answers
    flat = np.bincount(np.asarray(truth, np.int64) * columns + answer, minlength=classes * columns)
    return flat.reshape(classes, columns).astype(np.int64)


def precision_recall(confusion: NDArray[np.int64], number: int) -> tuple[Rate, Rate]:
    """Precision and recall of one class with Wilson intervals; confusion int64 ``[K, A]``, A at least K."""
    right = int(confusion[number, number])
    return wilson(right, int(confusion[:, number].sum())), wilson(right, int(confusion[number].sum()))


def threshold_table(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> list[Threshold]:
    """For each of `WANTED_ERRORS` the least confidence that keeps it, where one does.

    Args: confidence ``[N]`` in [0, 1]; correct ``[N]``. Equal confidences are answered together or not at all.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = np.asarray(confidence, np.float64)[order]
    errors = np.cumsum(~correct[order])
    answered = np.arange(1, len(order) + 1)
    last_of_equals = np.append(ordered[1:] != ordered[:-1], True)
    table = []
    for wanted in WANTED_ERRORS:
        kept = np.flatnonzero(last_of_equals & (errors <= wanted * answered))
        if kept.size:
            n = int(kept[-1])
            error, coverage = errors[n] / answered[n], answered[n] / len(order)
            table.append(Threshold(wanted, float(ordered[n]), float(coverage), float(error)))
    return table
