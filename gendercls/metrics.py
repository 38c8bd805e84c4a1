"""How good probabilities and answers are, each figure with its 95 % interval: pure numpy, no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.stats import Z95, Bin, calibration_error, precision_recall

_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def balanced_accuracy(confusion: NDArray[np.int64]) -> Estimate:
    """The mean of the classes' recalls; NaN where a class has no photo.

    Args: confusion: int64 ``[K, A]``, truth by answer, A at least K.

    Source of the interval: Zou & Donner 2008, Statistics in Medicine 27 (MOVER), from each recall's Wilson interval.
    """
    recalls = [precision_recall(confusion, number)[1] for number in range(len(confusion))]
    if any(recall.total == 0 for recall in recalls):
        return Estimate(math.nan, 0.0, 1.0)
    value = sum(recall.value for recall in recalls) / len(recalls)
    below = math.sqrt(sum((recall.value - recall.low) ** 2 for recall in recalls)) / len(recalls)
    above = math.sqrt(sum((recall.high - recall.value) ** 2 for recall in recalls)) / len(recalls)
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def roc_auc(scores: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> Estimate:
    """How often a positive has the greater score than a negative, ties counted half; NaN without one of either.

    Args: scores ``[N]``; is_positive ``[N]``.

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44; the interval is one of the logit. Where no pair is in
    the wrong order, its lower end is that of Hanley & Lippman-Hand 1983: 3 / n of the smaller class.
    """
    positives, negatives = np.asarray(scores)[is_positive], np.asarray(scores)[~is_positive]
    if len(positives) == 0 or len(negatives) == 0:
        return Estimate(math.nan, 0.0, 1.0)
    # Of each positive the share of negatives below it, and the other way round.
    of_positives = (_below(negatives, positives) + _below_or_equal(negatives, positives)) / (2 * len(negatives))
    of_negatives = 1 - (_below(positives, negatives) + _below_or_equal(positives, negatives)) / (2 * len(positives))
    value = float(of_positives.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (of_positives, of_negatives) if len(part) > 1)
    if not 0 < value < 1 or variance == 0:
        least = max(0.0, 1 - 3 / min(len(positives), len(negatives)))
        return Estimate(value, min(value, least), 1.0) if value > 0.5 else Estimate(value, 0.0, max(value, 1 - least))
    logit, half = math.log(value / (1 - value)), Z95 * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(-50.0, min(50.0, bound)))) for bound in (logit - half, logit + half))
    return Estimate(value, low, high)


def brier_score(probabilities: NDArray[np.floating], is_true: NDArray[np.bool_]) -> Estimate:
    """Half the mean squared distance of the probabilities ``[N, K]`` from the truth (one-hot ``[N, K]``), 0 to 1.

    Of two classes it is the mean of (p − y)² of either. NaN at N = 0.

    Source: Brier 1950, Monthly Weather Review 78; the interval is that of a mean.
    """
    if len(probabilities) == 0:
        return Estimate(math.nan, 0.0, 1.0)
    distances = np.square(np.asarray(probabilities, np.float64) - is_true).sum(axis=1) / 2
    value, half = float(distances.mean()), Z95 * float(distances.std(ddof=1 if len(distances) > 1 else 0))
    half /= math.sqrt(len(distances))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """The expected calibration error, its 95 % interval, and what chance alone exceeds in 5 of 100 sets as large."""

    value: float
    low: float
    high: float
    by_chance: float


def expected_calibration_error(bins: list[Bin]) -> CalibrationError:
    """The error of `stats.reliability`'s bins, with what it would be by chance if confidences were exactly right.

    The error is never below 0, so that chance raises it: below ``by_chance`` it is no evidence of a wrong confidence.
    The interval is the basic bootstrap's (Davison & Hinkley 1997, 5.2.1), with each bin's answers drawn anew.
    """
    generator = np.random.default_rng(0)  # the same interval twice
    counts = np.array([b.count for b in bins])
    confidence, accuracy = (np.array([getattr(b, name) for b in bins]) for name in ("confidence", "accuracy"))
    value = calibration_error(bins)
    shares = counts / counts.sum()

    def drawn(chances: NDArray[np.float64]) -> NDArray[np.float64]:
        right = generator.binomial(counts, chances, (_DRAWS, len(counts))) / counts
        return np.asarray(np.abs(right - confidence) @ shares, np.float64)

    low, high = (2 * value - bound for bound in np.percentile(drawn(accuracy), (97.5, 2.5)))
    by_chance = float(np.percentile(drawn(np.clip(confidence, 0, 1)), 95))
    return CalibrationError(value, max(0.0, min(value, float(low))), min(1.0, max(value, float(high))), by_chance)


def _below(of: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.searchsorted(np.sort(of), values, side="left")


def _below_or_equal(of: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.searchsorted(np.sort(of), values, side="right")
