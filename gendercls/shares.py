"""What share of a set of photos belongs to each class, given answers that are sometimes wrong: pure numpy, no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.stats import Z95

_DRAWS = 4000
_PSEUDO = 1.0  # what Lang & Reiczigel add to each cell of the confusion


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def rogan_gladen(answers: NDArray[np.integer], confusion: NDArray[np.integer]) -> list[Share] | None:
    """Each class's share, corrected for the errors that the confusion shows.

    Args:
        answers: how many photos got each class, ``[K]``.
        confusion: counts ``[K, K]`` of labelled photos elsewhere, rows the truth, columns the answer.

    It assumes that the errors of each class are as frequent among these photos as they were there. None where that
    cannot be, since there are fewer answers of a class than these errors alone would give; and without any answer, or
    where answers say nothing of the truth.

    Source: Rogan & Gladen 1978 for the estimate. Of two classes the interval is that of Lang & Reiczigel 2014,
    Preventive Veterinary Medicine 113, pages 13-22; of more, percentiles of draws from the Dirichlet posteriors of the
    confusion's rows and of the answers.
    """
    rows = confusion.sum(axis=1)
    if answers.sum() == 0 or (rows == 0).any():
        return None
    if len(answers) == 2:
        second = _of_two(int(answers[1]), int(answers.sum()), confusion)
        if second is None:
            return None
        return [Share(1 - second.value, 1 - second.high, 1 - second.low), second]
    recall = confusion / rows[:, None]
    others = recall.copy()
    np.fill_diagonal(others, 0)
    if (recall.diagonal() <= others.max(axis=0)).any():  # some class gets an answer no more often than another does
        return None
    value = _unmixed(answers / answers.sum(), recall)
    generator = np.random.default_rng(0)  # the same interval twice
    mixes = generator.dirichlet(answers + 0.5, _DRAWS)
    draws = np.stack([generator.dirichlet(row + 0.5, _DRAWS) for row in confusion], axis=1)
    shares = np.stack([_unmixed(mix, draw) for mix, draw in zip(mixes, draws, strict=True)])
    found = [_share(*bounds) for bounds in zip(value, *np.percentile(shares, (2.5, 97.5), axis=0), strict=True)]
    return None if None in found else [share for share in found if share is not None]


def _of_two(positive: int, total: int, confusion: NDArray[np.integer]) -> Share | None:
    """The second class's share."""
    (true_negative, false_positive), (false_negative, true_positive) = confusion.tolist()
    negatives, positives = true_negative + false_positive, false_negative + true_positive
    if true_positive / positives + true_negative / negatives <= 1:
        return None
    value = (positive / total + true_negative / negatives - 1) / (
        true_positive / positives + true_negative / negatives - 1
    )
    apparent = (positive + Z95**2 / 2) / (total + Z95**2)
    sensitivity = (true_positive + _PSEUDO) / (positives + 2 * _PSEUDO)
    specificity = (true_negative + _PSEUDO) / (negatives + 2 * _PSEUDO)
    youden = sensitivity + specificity - 1
    if youden <= 0:
        return None
    centre = (apparent + specificity - 1) / youden
    of_sensitivity = sensitivity * (1 - sensitivity) / (positives + 2 * _PSEUDO)
    of_specificity = specificity * (1 - specificity) / (negatives + 2 * _PSEUDO)
    variance = apparent * (1 - apparent) / (total + Z95**2)
    variance += of_sensitivity * centre**2 + of_specificity * (1 - centre) ** 2
    shift = 2 * Z95**2 * (centre * of_sensitivity - (1 - centre) * of_specificity)
    half = Z95 * math.sqrt(variance) / youden
    return _share(value, centre + shift - half, centre + shift + half)


def _unmixed(mix: NDArray[np.floating], recall: NDArray[np.floating]) -> NDArray[np.float64]:
    """What ``[K]`` would give that mix of answers by the rows of recall ``[K, K]``; sums to 1, may be below 0."""
    return np.asarray(np.linalg.lstsq(recall.T, mix, rcond=None)[0])


def _share(value: float, low: float, high: float) -> Share | None:
    """As a share can be; None where its whole interval could not, so that the errors here must be others."""
    if high < 0 or low > 1:
        return None
    value, low, high = (float(min(1.0, max(0.0, bound))) for bound in (value, low, high))
    return Share(value, min(low, value), max(high, value))
