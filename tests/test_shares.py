"""Shares without the classifier's errors: right where the errors are known, and with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendercls.shares import HandLabels, em_prior_shift, prediction_powered, rogan_gladen


@given(st.integers(0, 1000), st.integers(700, 1000), st.integers(700, 1000))
def test_known_errors_are_taken_out(second: int, right_first: int, right_second: int) -> None:
    """A million photos whose answers are exactly what their shares and the errors give: the shares come out again."""
    share = second / 1000
    confusion = np.array([[right_first, 1000 - right_first], [1000 - right_second, right_second]])
    answered = round(1000 * (share * right_second + (1 - share) * (1000 - right_first)))
    found = rogan_gladen(np.array([1_000_000 - answered, answered]), confusion)
    assert found is not None
    assert found[1].value == pytest.approx(share, abs=1e-5)
    assert found[0].value + found[1].value == pytest.approx(1)
    assert (found[0].low, found[0].high) == pytest.approx((1 - found[1].high, 1 - found[1].low))
    assert 0 <= found[1].low <= found[1].value <= found[1].high <= 1


def test_three_classes() -> None:
    """The mix of answers is taken apart into the shares that made it."""
    recall = np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.1, 0.2, 0.7]])
    shares = np.array([0.2, 0.5, 0.3])
    found = rogan_gladen((100_000 * shares @ recall).round().astype(int), (1000 * recall).astype(int))
    assert found is not None
    assert [share.value for share in found] == pytest.approx(shares, abs=1e-4)
    assert all(share.low < share.value < share.high < share.low + 0.15 for share in found)


def test_the_interval_holds_the_truth() -> None:
    """In 95 of 100 sets, with a confusion as uncertain as a model's; benchmarks/shares.py makes many more."""
    chance = np.random.default_rng(5)
    held = 0
    for _ in range(1000):
        second = chance.binomial(2000, 0.25)
        answered = chance.binomial(second, 0.92) + chance.binomial(2000 - second, 0.1)
        right = chance.binomial([300, 300], [0.9, 0.92])
        confusion = np.array([[right[0], 300 - right[0]], [300 - right[1], right[1]]])
        found = rogan_gladen(np.array([2000 - answered, answered]), confusion)
        assert found is not None
        held += found[1].low <= 0.25 <= found[1].high
    assert 930 <= held <= 970


@pytest.mark.parametrize(
    ("answers", "confusion"),
    [
        ([0, 0], [[9, 1], [1, 9]]),
        ([5, 5], [[5, 5], [5, 5]]),
        ([5, 5], [[1, 9], [9, 1]]),
        ([5, 5], [[0, 0], [1, 9]]),
        ([5, 5, 5], [[10, 10, 10]] * 3),
        ([30, 40, 30], [[50, 45, 5], [30, 40, 30], [0, 10, 90]]),  # the second answer is given to the first class more
        ([30, 60, 10], [[0, 10, 0], [10, 0, 0], [0, 0, 10]]),  # classes that change places
        ([4700, 300], [[535, 50], [58, 607]]),  # the first one's errors alone would give 400
        ([100, 0], [[535, 50], [58, 607]]),
        ([980, 10, 10], [[90, 5, 5], [5, 90, 5], [5, 5, 90]]),
    ],
)
def test_where_nothing_can_be_said_no_share_is(answers: list[int], confusion: list[list[int]]) -> None:
    """Without answers, with answers that say nothing of the truth, and with fewer than the errors would give."""
    assert rogan_gladen(np.array(answers), np.array(confusion)) is None


def test_one_photo_is_hardly_any_knowledge() -> None:
    """The interval says so."""
    found = rogan_gladen(np.array([5, 5]), np.array([[1, 0], [1, 1]]))
    assert found is None or found[1].high - found[1].low > 0.9


def test_the_same_interval_comes_out_twice() -> None:
    """Also where it comes from draws."""
    arguments = np.array([50, 30, 20]), np.array([[90, 5, 5], [5, 90, 5], [5, 5, 90]])
    assert rogan_gladen(*arguments) == rogan_gladen(*arguments)


def test_errors_that_are_known_leave_the_answers_interval() -> None:
    """Of countless labelled photos elsewhere: the interval of the answers (Agresti & Coull), each end corrected."""
    answers, total, right = 300, 1000, (0.95, 0.85)
    counts = [[right[0], 1 - right[0]], [1 - right[1], right[1]]]
    found = rogan_gladen(np.array([total - answers, answers]), (1e12 * np.array(counts)).astype(np.int64))
    assert found is not None
    squared = 1.959963984540054**2
    centre = (answers + squared / 2) / (total + squared)
    half = np.sqrt(squared * centre * (1 - centre) / (total + squared))
    ends = ((centre + sign * half + right[0] - 1) / (sum(right) - 1) for sign in (-1, 1))
    assert (found[1].low, found[1].high) == pytest.approx(tuple(ends), abs=1e-5)


@pytest.mark.parametrize(("share", "right"), [(0.9, (30, 24)), (0.1, (25, 28)), (0.5, (27, 27))])
def test_few_counted_errors_widen_the_interval_to_one_side(share: float, right: tuple[int, int]) -> None:
    """It is much what Bayes' rule gives, of 30 photos of each class and flat priors: off by a few points at most."""
    chance, draws = np.random.default_rng(2), 200_000
    negative, positive = (chance.beta(count + 1, 31 - count, draws) for count in right)
    answered = round(2000 * (share * right[1] / 30 + (1 - share) * (1 - right[0] / 30)))
    answers = chance.beta(answered + 1, 2001 - answered, draws)
    shares = np.clip((answers + negative - 1) / (negative + positive - 1), 0, 1)
    found = rogan_gladen(
        np.array([2000 - answered, answered]), np.array([[right[0], 30 - right[0]], [30 - right[1], right[1]]])
    )
    assert found is not None
    assert (found[1].low, found[1].high) == pytest.approx(tuple(np.percentile(shares, (2.5, 97.5))), abs=0.03)


# --- by the probabilities ---------------------------------------------------------------------------------------


def calibrated(chance: np.random.Generator, second: np.ndarray, prior: float) -> np.ndarray:
    """Probabilities ``[N, 2]`` that are calibrated where that share is of the second class."""
    score = chance.normal(np.where(second, 1.5, -1.5))
    odds = np.exp(3 * score) * prior / (1 - prior)
    return np.column_stack([1 / (1 + odds), odds / (1 + odds)])


def test_shifted_classes_are_found_again() -> None:
    """In 95 of 100 sets the interval holds a share that is far from the one the probabilities were made for."""
    chance, held = np.random.default_rng(6), 0
    for _ in range(400):
        found = em_prior_shift(calibrated(chance, chance.random(1000) < 0.15, 0.5), np.array([5000, 5000]))
        assert found is not None
        assert found[0].value + found[1].value == pytest.approx(1)
        held += found[1].low <= 0.15 <= found[1].high
    assert 0.92 * 400 <= held <= 0.98 * 400


def test_what_is_unknown_of_the_shares_before_is_counted_in() -> None:
    """Where probabilities were calibrated on 60 photos, the interval holds the share as often, and is wider for it."""
    chance, held, sets = np.random.default_rng(8), 0, 300
    for _ in range(sets):
        before = chance.binomial(60, 0.5)
        found = em_prior_shift(calibrated(chance, chance.random(4000) < 0.5, 0.5), np.array([60 - before, before]))
        assert found is not None
        held += found[1].low <= 0.5 <= found[1].high
    assert 0.92 * sets <= held <= 0.985 * sets


def test_probabilities_that_shift_nothing() -> None:
    """Where nothing is certain of any photo the shares stay those of before, and may be anything; none without any."""
    found = em_prior_shift(np.full((50, 2), [0.3, 0.7]), np.array([30, 70]))
    assert found is not None
    assert [share.value for share in found] == pytest.approx([0.3, 0.7])
    assert em_prior_shift(np.zeros((0, 2)), np.array([30, 70])) is None
    assert em_prior_shift(np.full((50, 2), 0.5), np.array([0, 70])) is None
    certain = em_prior_shift(np.full((50, 2), [1.0, 0.0]), np.array([50, 50]))
    assert certain is not None
    assert (certain[0].value, certain[1].value) == pytest.approx((1, 0))


# --- by hand ----------------------------------------------------------------------------------------------------


def drawn(chance: np.random.Generator, scores: np.ndarray, truth: np.ndarray, each: int) -> HandLabels:
    """That many labels of each of four parts of the set, by score."""
    parts = np.array_split(np.argsort(scores), 4)
    chosen = np.concatenate([chance.choice(part, each, replace=False) for part in parts])
    sizes = np.array([len(part) for part in parts], float)
    return HandLabels(scores[chosen], truth[chosen], np.repeat(np.arange(4), each), sizes)


def test_hand_labels_are_right_whatever_the_model_says() -> None:
    """The interval holds the share of this very set, with a good model and with one that says the opposite."""
    chance, sets = np.random.default_rng(7), 300
    for sign in (1, -1):
        held, width = 0, 0.0
        for _ in range(sets):
            truth = chance.random(2000) < 0.3
            scores = calibrated(chance, truth, 0.5)[:, 1]
            scores = scores if sign > 0 else 1 - scores
            found = prediction_powered(scores.mean(), drawn(chance, scores, truth.astype(float), 40))
            assert found is not None
            held += found.low <= truth.mean() <= found.high
            width += (found.high - found.low) / sets
        assert 0.92 * sets <= held <= 0.985 * sets, sign
        assert width < 0.11  # a plain sample of 160 has 0.14


@pytest.mark.parametrize("unknown", [0, 0.4])
def test_without_strata_it_is_the_regression_estimate(unknown: float) -> None:
    """One sample of 60 of 500, some of which nobody can determine: Cochran's sections 7.3 and 6.4, of the logit."""
    chance = np.random.default_rng(9)
    scores = chance.random(500)
    truth = (chance.random(500) < scores).astype(float)
    truth[chance.random(500) < unknown * 2 * scores] = np.nan  # more of those that the model finds likely
    chosen = chance.choice(500, 60, replace=False)
    said, score = truth[chosen], scores[chosen]
    found = prediction_powered(scores.mean(), HandLabels(score, said, np.zeros(60, int), np.array([500.0])))
    assert found is not None
    known, said = ~np.isnan(said), np.nan_to_num(said)
    slope = np.clip(np.cov(known * (said - found.value), score)[0, 1] / score.var(ddof=1), 0, 1)
    value = (said.mean() + slope * (scores.mean() - score.mean())) / known.mean()
    residuals = known * (said - value) - slope * score
    error = np.sqrt(residuals.var(ddof=1) / 60 * (1 - 60 / 500)) / known.mean()
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    half = scipy_stats.t.ppf(0.975, 59) * error / (value * (1 - value))
    expected = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + half * np.array([-1, 1]))))
    assert found.value == pytest.approx(value, abs=1e-4)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=2e-4)


def test_strata_are_weighted_by_their_sizes() -> None:
    """Of a model that says nothing: the strata's means, by how many photos they stand for (Cochran, section 5.4)."""
    truth = np.array([1, 0, 1, 1, 0, 0, 0, 1], float)
    labels = HandLabels(np.full(8, 0.5), truth, np.repeat([0, 1], 4), np.array([300.0, 100.0]))
    found = prediction_powered(0.5, labels)
    assert found is not None
    assert found.value == pytest.approx(0.75 * 3 / 4 + 0.25 * 1 / 4)
    unknown = HandLabels(labels.scores, np.where(np.arange(8) == 1, np.nan, truth), labels.stratum, labels.sizes)
    found = prediction_powered(0.5, unknown)
    assert found is not None
    assert found.value == pytest.approx((0.75 * 3 / 4 + 0.25 * 1 / 4) / (1 - 0.75 / 4))


def test_who_labels_all_knows_all() -> None:
    """The share of a set that is labelled whole has no interval; what cannot be determined is left out of it."""
    truth = np.array([1, 1, 0, 1, 0, 0, 1, np.nan])
    labels = HandLabels(np.linspace(0, 1, 8), truth, np.zeros(8, int), np.array([8.0]))
    found = prediction_powered(0.5, labels)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((4 / 7,) * 3)
    assert prediction_powered(0.5, HandLabels(labels.scores, truth * np.nan, labels.stratum, labels.sizes)) is None


def test_labels_that_all_say_the_same_are_no_proof() -> None:
    """Twenty photos of one class, of a thousand: the interval is that of twenty photos."""
    labels = HandLabels(np.full(20, 0.9), np.ones(20), np.zeros(20, int), np.array([1000.0]))
    found = prediction_powered(0.9, labels)
    assert found is not None
    assert found.value == pytest.approx(1)
    assert 0.8 < found.low < 0.9
