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
