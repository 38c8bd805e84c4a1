"""Figures of probabilities, held against scipy and against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from gendercls.metrics import balanced_accuracy, brier_score, expected_calibration_error, roc_auc
from gendercls.stats import reliability

SCORES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60)


@given(SCORES)
def test_auc_is_how_often_a_positive_is_above_a_negative(pairs: list[tuple[int, bool]]) -> None:
    """As the Mann-Whitney statistic counts it, ties half; NaN without one of either."""
    scores, positive = np.array([score for score, _ in pairs]), np.array([is_positive for _, is_positive in pairs])
    found = roc_auc(scores, positive)
    if positive.all() or not positive.any():
        assert math.isnan(found.value)
        return
    statistic = scipy_stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert found.value == pytest.approx(statistic / (positive.sum() * (~positive).sum()))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_intervals_hold_the_truth() -> None:
    """Of AUC, balanced accuracy and the Brier score, in 95 of 100 sets of photos."""
    chance, sets = np.random.default_rng(3), 600
    truth_auc = scipy_stats.norm.cdf(2 / math.sqrt(2))
    recalls = np.array([0.9, 0.8])
    held = dict.fromkeys(("auc", "balanced", "brier"), 0)
    for _ in range(sets):
        positive = np.arange(300) < 90
        scores = chance.normal(np.where(positive, 2.0, 0.0))
        auc = roc_auc(scores, positive)
        held["auc"] += auc.low <= truth_auc <= auc.high
        right = chance.binomial([150, 60], recalls)
        balanced = balanced_accuracy(np.array([[right[0], 150 - right[0]], [60 - right[1], right[1]]]))
        held["balanced"] += balanced.low <= 0.85 <= balanced.high
        probability = chance.uniform(0, 1, 300)
        is_true = chance.random(300) < probability
        brier = brier_score(np.column_stack([1 - probability, probability]), np.column_stack([~is_true, is_true]))
        held["brier"] += brier.low <= 1 / 6 <= brier.high
    assert all(0.925 * sets <= count <= 0.98 * sets for count in held.values()), held


def test_the_calibration_error_of_chance_is_said() -> None:
    """A model without any error shows one; it is above what is said to be chance in about 5 of 100 sets, not more."""
    chance, above, sets = np.random.default_rng(4), 0, 200
    for _ in range(sets):
        confidence = chance.uniform(0.5, 1, 1000)
        error = expected_calibration_error(reliability(confidence, chance.random(1000) < confidence))
        assert error.low <= error.value <= error.high
        above += error.value > error.by_chance
    assert above <= 0.09 * sets
    wrong = expected_calibration_error(reliability(np.full(1000, 0.9), np.arange(1000) % 10 < 7))
    assert wrong.value == pytest.approx(0.2)
    assert wrong.by_chance < 0.05 < wrong.low


def test_figures_of_nothing_are_no_numbers() -> None:
    """Where there is no photo, or none of a class, there is no figure, and its interval is everything."""
    assert math.isnan(brier_score(np.zeros((0, 2)), np.zeros((0, 2), bool)).value)
    found = balanced_accuracy(np.array([[5, 1], [0, 0]]))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0, 1)


def test_answers_without_mistakes_have_an_interval_still() -> None:
    """Twenty photos in the right order do not show that all are."""
    found = roc_auc(np.arange(20), np.arange(20) >= 10)
    assert found.value == 1
    assert found.low == pytest.approx(0.7)
