"""Which rows are drawn to be labelled by hand: weights that stand for all rows, and labels where they teach most."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gendercls.answers import answers_for
from gendercls.errors import GenderclsError
from gendercls.report.sample import LEAST, Sample, _allocated, draw


def answers_of(rows: int, classes: int, *, seed: int, failed: float = 0.0) -> NDArray[np.float64]:
    """Probabilities ``[N, K]`` of a model that is mostly sure; NaN for the rows that failed."""
    chance = np.random.default_rng(seed)
    probabilities = chance.dirichlet(np.full(classes, 0.3), rows).round(6)
    probabilities[chance.random(rows) < failed] = np.nan
    return probabilities


def drawn_from(probabilities: NDArray[np.float64], count: int, seed: int = 1) -> Sample:
    names = [f"class-{number}" for number in range(probabilities.shape[1])]
    return draw(answers_for(False, names), probabilities, count, seed)


@given(st.integers(1, 400), st.integers(2, 5), st.integers(0, 2**32), st.integers(10, 300))
def test_each_row_at_most_once_and_all_are_stood_for(rows: int, classes: int, seed: int, count: int) -> None:
    """As many as asked for, or all; no row twice; none without an answer; and the weights sum to the rows with one."""
    probabilities = answers_of(rows, classes, seed=seed, failed=0.2)
    answered = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    assume(len(answered) > 0)
    sample = drawn_from(probabilities, count)
    assert len(sample.rows) == min(count, len(answered))
    assert len(set(sample.rows.tolist())) == len(sample.rows)
    assert set(sample.rows.tolist()) <= set(answered.tolist())
    assert sample.sizes.sum() == len(answered)
    assert sample.weights.sum() == pytest.approx(len(answered))
    assert sample.weights.min() >= 1
    if count >= len(answered):
        assert (sample.weights == 1).all()


@given(st.integers(1, 400), st.integers(2, 5), st.integers(0, 2**32), st.integers(10, 300))
def test_a_stratum_has_one_answer_and_its_least_number(rows: int, classes: int, seed: int, count: int) -> None:
    """Two of each stratum or all of it; a stratum has one answer, and begins where the one before it ends."""
    probabilities = answers_of(rows, classes, seed=seed)
    sample = drawn_from(probabilities, count)
    taken = np.bincount(sample.stratum, minlength=len(sample.sizes))
    assert (taken >= np.minimum(sample.sizes, LEAST)).all()
    assert (taken <= sample.sizes).all()
    answer, confidence = probabilities[sample.rows].argmax(axis=1), probabilities[sample.rows].max(axis=1)
    before = (-1, 0.0)
    for number in range(len(sample.sizes)):
        of_it = sample.stratum == number
        assert len(set(answer[of_it].tolist())) == 1
        here = int(answer[of_it][0])
        assert (here, confidence[of_it].min()) >= before
        before = here, min(0.98, confidence[of_it].max())


@given(st.integers(50, 300), st.integers(0, 2**32))
def test_the_seed_decides(rows: int, seed: int) -> None:
    """The same seed draws the same rows in the same order; another one other rows, or another order."""
    probabilities = answers_of(rows, 2, seed=seed)
    first, again, other = (drawn_from(probabilities, 40, number) for number in (seed, seed, seed + 1))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.stratum.tolist() == again.stratum.tolist()
    assert first.rows.tolist() != other.rows.tolist()


def test_the_order_tells_nothing() -> None:
    """Over many seeds each stratum is as frequent at the first place as it is in the whole sample."""
    probabilities = answers_of(2000, 2, seed=3)
    samples = [drawn_from(probabilities, 100, seed) for seed in range(400)]
    expected = np.bincount(samples[0].stratum) / 100
    found = np.bincount([sample.stratum[0] for sample in samples], minlength=len(expected)) / len(samples)
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / len(samples))


def test_the_estimate_is_right_and_closer_than_one_without_strata() -> None:
    """Weighted labels give the share without bias, and a model as sure as it is right spares half of the labels."""
    probabilities = answers_of(4000, 2, seed=5)
    truth = np.random.default_rng(6).random(4000) < probabilities[:, 1]
    estimates = []
    for seed in range(300):
        sample = drawn_from(probabilities, 200, seed)
        estimates.append(sample.weights @ truth[sample.rows] / 4000)
    variance = np.var(estimates)
    plain = truth.var() / 200 * (1 - 200 / 4000)
    assert np.mean(estimates) == pytest.approx(truth.mean(), abs=4 * np.sqrt(variance / 300))
    assert variance < plain / 2


def test_labels_are_where_they_teach_most() -> None:
    """As many of each as there are where all are equally sure; and of the unsure more than of the sure."""
    alike = np.repeat([[0.9, 0.1], [0.1, 0.9]], (950, 50), axis=0)
    assert drawn_from(alike, 100).weights == pytest.approx(10, rel=0.1)
    unlike = np.repeat([[0.95, 0.05], [0.4, 0.6]], (900, 100), axis=0)
    assert np.unique(drawn_from(unlike, 100).weights).tolist() == [5, 11.25]


@given(st.lists(st.tuples(st.integers(2, 9), st.floats(0.05, 0.5)), min_size=2, max_size=3), st.integers(4, 20))
def test_no_other_allocation_has_less_variance(strata: list[tuple[int, float]], count: int) -> None:
    """Of all ways to draw so many, two of each stratum or all of it: the sum of N² S² / n."""
    sizes, spread = np.array([size for size, _ in strata]), np.array([each for _, each in strata])
    assume(LEAST * len(strata) <= count <= sizes.sum())

    def variance(taken: NDArray[np.intp]) -> float:
        return float((sizes**2 * spread**2 / taken).sum())

    every = [np.array(taken) for taken in product(*(range(LEAST, size + 1) for size in sizes)) if sum(taken) == count]
    assert variance(_allocated(sizes, spread, count)) == pytest.approx(min(map(variance, every)))


def test_no_model_is_believed_to_be_surer_than_it_can_know() -> None:
    """Rows with 98 % and with 99.99 % are drawn alike: off its own data a model is wrong in some of either."""
    sample = drawn_from(np.repeat([[0.9999, 0.0001], [0.98, 0.02]], 500, axis=0), 100)
    assert sample.weights == pytest.approx(10, rel=0.05)


def test_ties_are_no_trouble() -> None:
    """A model that gives every photo the same answer is sampled like any other."""
    sample = drawn_from(np.tile([0.0, 1.0], (1000, 1)), 100)
    assert sample.weights.sum() == pytest.approx(1000)
    assert sample.weights.max() == pytest.approx(10, rel=0.2)


def test_what_cannot_be_drawn_is_refused() -> None:
    """No answers at all, and fewer labels than two of each stratum; the message says how many it takes."""
    with pytest.raises(GenderclsError, match=r"^no row has an answer, so there is none to draw\n"):
        drawn_from(np.full((3, 2), np.nan), 10)
    refused = (
        "so few labels would not say how sure the estimate is\n  where: --n 5\n  do:    draw at least 6: 2 of each"
    )
    with pytest.raises(GenderclsError, match="^" + re.escape(refused)):
        drawn_from(answers_of(500, 3, seed=1), 5)
    assert len(drawn_from(answers_of(500, 3, seed=1), 6).rows) == 6
