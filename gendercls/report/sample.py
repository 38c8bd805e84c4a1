"""Which rows are labelled by hand: a stratified sample, so that few labels say much of all rows. Pure numpy, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import Answers
from gendercls.errors import GenderclsError

LEAST = 2
"""Labels in a stratum below which nobody knows how much they differ."""

_MOST_STRATA = 8  # more of them gain little (Cochran 1977, section 5A.8)
_LABELS_EACH = 10  # with fewer labels than this for each stratum there are fewer strata
_MOST_SURE = 0.98  # off its own data a model is not as sure as it says, so no more than this is believed


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random within strata.

    sizes: rows with an answer in each of the H strata, ``[H]``. rows: the numbers of the n that were drawn, ``[n]``, in
    an order that tells nothing of them. stratum: of each, below H, ``[n]``.
    """

    sizes: NDArray[np.intp]
    rows: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @property
    def weights(self) -> NDArray[np.float64]:
        """For how many rows each one stands, ``[n]``: of its stratum, all by those drawn."""
        each: NDArray[np.float64] = self.sizes / np.bincount(self.stratum, minlength=len(self.sizes))
        return each[self.stratum]


def draw(answers: Answers, probabilities: NDArray[np.float64], count: int, seed: int) -> Sample:
    """Draw rows to be labelled, more of them where labels teach more; the same ones for the same seed.

    A stratum is of rows with the same answer and much the same confidence. Any first part of the order is a sample of
    the same kind as the whole.

    Args:
        answers: of classes that exclude another.
        probabilities: ``[N, K]``, NaN for a row without an answer, which is not drawn.
        count: how many; all, where there are no more.
        seed: 0 or more.

    Raises:
        GenderclsError: there is no answer, or the count is too small for two of each stratum.
    """
    known = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if not len(known):
        raise GenderclsError("no row has an answer, so there is none to draw", do="classify photos that can be read")
    answered = answers.decide(probabilities[known]).argmax(axis=1)
    confidence = answers.confidence(probabilities[known]).clip(max=_MOST_SURE)
    stratum = _strata(answered, confidence, count)
    sizes = np.bincount(stratum)
    certainty = np.bincount(stratum, confidence) / sizes
    taken = _allocated(sizes, np.sqrt(certainty * (1 - certainty)), min(count, len(known)))
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(np.flatnonzero(stratum == number))[:most] for number, most in enumerate(taken)]
    order = generator.permutation(np.concatenate(drawn))
    return Sample(sizes, known[order], stratum[order])


def _strata(answered: NDArray[np.intp], confidence: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """A stratum for each row, ``[N]``, numbered by class and, within it, from the least sure to the surest.

    Within a class the square roots of p (1 − p) sum to the same in each: the rule under which equally many labels of
    each stratum are best (Särndal, Swensson & Wretman 1992, section 12.4, there called the equal aggregate sigma rule).
    """
    spread = np.sqrt(confidence * (1 - confidence))
    classes = np.unique(answered)
    more = max(0, min(_MOST_STRATA, count // _LABELS_EACH) - len(classes))
    bins = np.zeros(len(answered), np.intp)
    for number in classes:
        members = np.flatnonzero(answered == number)
        members = members[np.argsort(confidence[members], kind="stable")]
        parts = 1 + int(more * spread[members].sum() / spread.sum())
        passed = np.cumsum(spread[members]) - spread[members] / 2  # up to the middle of each
        bins[members] = number * _MOST_STRATA + (parts * passed / spread[members].sum()).astype(np.intp)
    return np.unique(bins, return_inverse=True)[1]


def _allocated(sizes: NDArray[np.intp], spread: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """How many to draw of each stratum, ``[H]``: `LEAST` or all of it, and what makes a total's variance least.

    Source: Neyman 1934; in whole numbers Wright 2012, The American Statistician 66, pages 217-224.
    """
    if count == sizes.sum():
        return sizes
    taken = np.minimum(sizes, LEAST)
    if count < taken.sum():
        raise GenderclsError(
            "so few labels would not say how sure the estimate is",
            where=f"--n {count}",
            do=f"draw at least {taken.sum()}: {LEAST} of each of the {len(sizes)} strata",
        )
    while taken.sum() < count:
        gain = np.where(taken < sizes, sizes * spread / np.sqrt(taken * (taken + 1)), -1)
        taken[gain.argmax()] += 1
    return taken
