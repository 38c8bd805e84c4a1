"""What share of a set of photos belongs to each class, given answers that are sometimes wrong: pure numpy, no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.stats import Z95, Rate, wilson

_DRAWS = 4000
_PSEUDO = 1.0  # what Lang & Reiczigel add to each cell of the confusion
_UNFAMILIAR = 0.25  # five times the share among a model's own validation photos
_EM_STEPS, _EM_CLOSE = 2000, 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def looks_unfamiliar(share: Rate) -> bool:
    """Of the share of photos that are unlike the model's own: whether it was not made for such photos."""
    return share.low > _UNFAMILIAR


def why_not_corrected(*, threshold: float, has_faces: bool, unfamiliar: Rate) -> str:
    """Why the errors here are surely others than those that were counted, in words; empty where they need not be.

    threshold: the confidence below which there was no answer. has_faces: whether faces were looked for. unfamiliar: the
    share of photos that are unlike the model's own.
    """
    if threshold > 0:
        return "with a least confidence other photos are answered than those on which errors were counted"
    if has_faces:
        return "errors were counted on whole photos, not on faces that were found in them"
    if looks_unfamiliar(unfamiliar):
        return "these photos look unlike those on which errors were counted"
    return ""


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


def em_prior_shift(probabilities: NDArray[np.floating], counts: NDArray[np.integer]) -> list[Share] | None:
    """Each class's share by what the calibrated probabilities say once the classes are as frequent as that share.

    Args:
        probabilities: calibrated where the classes were as frequent as ``counts``, ``[N, K]``, rows that sum to 1.
        counts: of the photos of each class there, ``[K]``.

    It assumes that photos of one class look here as they did there, and that only the classes' shares differ. None
    without any photo, or where a class had none there.

    Source: Saerens, Latinne & Decaestecker 2002, Neural Computation 14, equation 9: the EM algorithm for the shares of
    greatest likelihood. The interval is that of the observed information, with what the counts leave open of the shares
    there (delta method), of the share's logit.
    """
    if len(probabilities) == 0 or (counts == 0).any():
        return None
    prior = counts / counts.sum()
    ratios = np.asarray(probabilities, np.float64) / prior
    shares = np.array(prior, np.float64)
    for _ in range(_EM_STEPS):
        before, shares = shares, shares * (ratios / (ratios @ shares)[:, None]).mean(axis=0)
        if np.abs(shares - before).max() < _EM_CLOSE:
            break
    scores = ratios / (ratios @ shares)[:, None]
    # Shares sum to 1: the information lies in the directions that keep the sum.
    directions = np.linalg.svd(np.ones((1, len(shares))))[2][1:].T
    products = scores.T @ scores
    covariance = directions @ np.linalg.pinv(directions.T @ products @ directions) @ directions.T
    # A share there that is greater by a factor acts as ratios do that are smaller by it.
    moved = covariance @ (np.diag(np.full(len(shares), float(len(scores)))) - products * shares)
    covariance += moved @ (np.diag(1 / prior) - 1) @ moved.T / counts.sum()
    return [
        _logit_interval(float(share), math.sqrt(max(0.0, float(variance))), Z95)
        for share, variance in zip(shares, covariance.diagonal(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class HandLabels:
    """What a person said of n photos drawn from a set, of one class.

    scores: the model's probability of the class, float64 ``[n]``. truth: float64 ``[n]`` of 1, 0, and NaN where it
    could not be determined. stratum: int ``[n]`` from 0. sizes: how many photos each stratum has in the set, ``[H]``;
    at least two photos of each are labelled, or all.
    """

    scores: NDArray[np.float64]
    truth: NDArray[np.float64]
    stratum: NDArray[np.intp]
    sizes: NDArray[np.float64]


def prediction_powered(mean_score: float, labels: HandLabels) -> Share | None:
    """A class's share of this very set of photos (of those where it can be determined), from some hand labels of it.

    Args: mean_score: the mean of the model's probability of the class over the whole set.

    Nothing is assumed of the model: its probabilities only make the interval narrower where they go with the truth.
    None where nothing could be determined.

    Source: Angelopoulos, Duchi & Zrnic 2023, PPI++, with the weight of equation 5; for a finite set that was sampled by
    strata, Cochran 1977, sections 5.4 and 7.1 (the regression estimator). Of small samples the variance of a stratum
    takes one residual more, of all strata's mean square, the quantile is Student's with Satterthwaite's degrees of
    freedom, and the interval is one of the share's logit: benchmarks/shares.py shows what it holds.
    """
    known = ~np.isnan(labels.truth)
    if not known.any():
        return None
    drawn = np.bincount(labels.stratum, minlength=len(labels.sizes)).astype(np.float64)
    of_set = labels.sizes / labels.sizes.sum()
    factor = of_set**2 * (1 - drawn / labels.sizes) / drawn

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(labels.stratum, values, len(drawn)) / drawn, np.float64)

    def products(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        one, other = first - means(first)[labels.stratum], second - means(second)[labels.stratum]
        return np.asarray(np.bincount(labels.stratum, one * other, len(drawn)), np.float64)

    def covariances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(products(first, second) / np.maximum(drawn - 1, 1), np.float64)

    is_known, truth, scores = known.astype(np.float64), np.where(known, labels.truth, 0.0), labels.scores
    determined = float(of_set @ means(is_known))
    value, weight = float(of_set @ means(truth)) / determined, 0.0
    spread = float(factor @ covariances(scores, scores))
    for _ in range(3):  # the best weight depends on the share a little, and the share on the weight
        if spread > 0:
            weight = min(1.0, max(0.0, float(factor @ covariances(is_known * (truth - value), scores)) / spread))
        value = (weight * (mean_score - float(of_set @ means(scores))) + float(of_set @ means(truth))) / determined
    residuals = is_known * (truth - value) - weight * scores
    within = products(residuals, residuals)
    pooled = within.sum() / max(1.0, len(scores) - len(drawn))
    variances = factor * (within + pooled) / drawn
    variance = float(variances.sum())
    if variance <= 0:  # all of the set is labelled, or all the same; of a sample the latter tells as much as its size
        return _share(value, value, value) if (drawn == labels.sizes).all() else _of_equals(value, int(known.sum()))
    freedom = max(4.0, variance**2 / float((variances**2 / np.maximum(drawn - 1, 1)).sum()))
    return _logit_interval(value, math.sqrt(variance) / determined, _student(freedom))


def _of_equals(value: float, count: int) -> Share:
    """Where all of a sample say the same, as Wilson 1927 has it."""
    rate = wilson(round(value * count), count)
    return Share(rate.value, rate.low, rate.high)


def _student(freedom: float) -> float:
    """The quantile of a two-sided 95 % interval with at least 4 degrees of freedom.

    Source: Abramowitz & Stegun 1972, 26.7.5.
    """
    terms = (
        Z95,
        (Z95**3 + Z95) / (4 * freedom),
        (5 * Z95**5 + 16 * Z95**3 + 3 * Z95) / (96 * freedom**2),
        (3 * Z95**7 + 19 * Z95**5 + 17 * Z95**3 - 15 * Z95) / (384 * freedom**3),
    )
    return sum(terms)


def _logit_interval(value: float, deviation: float, quantile: float) -> Share:
    """An interval that is symmetric in the logit, so that it stays in [0, 1]; at 0 and 1 a plain one, cut there."""
    if not 0 < value < 1:
        value = min(1.0, max(0.0, value))
        return Share(value, max(0.0, value - quantile * deviation), min(1.0, value + quantile * deviation))
    logit, half = math.log(value / (1 - value)), quantile * deviation / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(-50.0, min(50.0, bound)))) for bound in (logit - half, logit + half))
    return Share(value, min(low, value), max(high, value))


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
