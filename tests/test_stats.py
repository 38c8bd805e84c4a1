"""Intervals, calibration and confusion against independent formulations."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gendercls import stats
from gendercls.stats import (
    WANTED_ERRORS,
    Z95,
    benjamini_hochberg,
    calibration_error,
    confusion_matrix,
    fit_temperature,
    log_loss,
    mcnemar,
    precision_recall,
    reliability,
    sigmoid,
    softmax,
    threshold_table,
    wilson,
)


def test_examples_in_the_docstrings_run() -> None:
    """Every example in a docstring gives what it shows."""
    done = doctest.testmod(stats)
    assert done.attempted > 0
    assert done.failed == 0


# --- wilson -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_bounds(count: int, total: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3, to four decimals."""
    rate = wilson(count, total)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)
    assert (rate.count, rate.total, rate.value) == (count, total, count / total)


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([1.0, Z95, 2.5758293035489004]))
def test_wilson_solves_its_quadratic(total: int, part: float, z: float) -> None:
    """The bounds are where the score test just rejects: ``(share - p)² = z² p (1 - p) / n``."""
    rate = wilson(round(part * total), total, z)
    a, b, c = 1 + z * z / total, -(2 * rate.value + z * z / total), rate.value**2
    low, high = sorted(np.roots([a, b, c]).real)
    assert rate.low == pytest.approx(low, abs=1e-7)
    assert rate.high == pytest.approx(high, abs=1e-7)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


@pytest.mark.parametrize("total", [1, 7, 10**9])
def test_wilson_is_exact_at_none_and_at_all(total: int) -> None:
    """At 0 and at n one bound is the share itself and the other is ``z² / (n + z²)`` away."""
    width = Z95**2 / (total + Z95**2)
    none, everyone = wilson(0, total), wilson(total, total)
    assert (none.low, everyone.high) == (0.0, 1.0)
    assert none.high == pytest.approx(width, rel=1e-9)
    assert everyone.low == pytest.approx(1 - width, rel=1e-9)


def test_wilson_of_nothing_says_nothing() -> None:
    """Where nothing was counted the share is no number and the interval everything."""
    rate = wilson(0, 0)
    assert math.isnan(rate.value)
    assert (rate.low, rate.high) == (0.0, 1.0)


# --- mcnemar and benjamini_hochberg -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (0, 6, 2 / 64), (1, 9, 22 / 1024), (9, 1, 22 / 1024), (3, 8, 464 / 2048)],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, p_value: float) -> None:
    """Twice the binomial's tail, counted out; which of the two is better does not matter."""
    assert mcnemar(only_first, only_second) == pytest.approx(p_value, rel=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_sign_test(only_first: int, only_second: int) -> None:
    """The tail summed in whole numbers, which are exact."""
    fewer, total = min(only_first, only_second), only_first + only_second
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    exact = float(min(Fraction(1), Fraction(2 * tail, 2**total)))
    assert mcnemar(only_first, only_second) == pytest.approx(exact, rel=1e-9, abs=1e-300)


def test_mcnemar_of_very_many_photos_is_a_number() -> None:
    """A million discordant photos neither overflow nor take long; a normal tail is close to the exact one there."""
    p_value = mcnemar(501_000, 499_000)
    assert p_value == pytest.approx(math.erfc((2_000 - 1) / math.sqrt(2 * 1_000_000)), rel=1e-3)
    assert mcnemar(10**6, 0) == 0


def test_benjamini_hochberg_finds_what_was_published() -> None:
    """Benjamini & Hochberg 1995, section 4: at 0.05 the first four of these fifteen, where Bonferroni finds three."""
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    published += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert np.flatnonzero(benjamini_hochberg(np.array(published)) <= 0.05).tolist() == [0, 1, 2, 3]


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 1))
def test_benjamini_hochberg_is_the_step_up_procedure(p_values: list[float], rate: float) -> None:
    """At any rate q, found are the k smallest for the largest k whose p-value is at most k q / M; order is kept."""
    values = np.array(p_values)
    ordered, count = np.sort(values), len(values)
    adjusted = benjamini_hochberg(values)
    assert all(np.diff(adjusted[np.argsort(values, kind="stable")]) >= 0)
    assert all((values <= adjusted) & (adjusted <= 1))
    passed = [k for k in range(1, count + 1) if ordered[k - 1] * (count / k) <= rate]
    assert (adjusted <= rate).sum() == max((np.sum(values <= ordered[k - 1]) for k in passed), default=0)


# --- softmax and temperature ------------------------------------------------------------------------------------


def test_softmax_divides_by_the_temperature() -> None:
    """``softmax(logits / T)``: rows sum to 1, logits of any size are safe, and odds are powers of 1/T."""
    logits = np.array([[2.0, 0.0], [1e4, 0.0], [-1e4, -1e4]], np.float32)
    assert softmax(logits).sum(axis=1) == pytest.approx([1, 1, 1])
    assert softmax(logits)[0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert softmax(logits, 4.0)[0, 0] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert softmax(logits)[1:].tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_log_loss_is_the_mean_surprise() -> None:
    """The mean of -log p of the true class; a class held impossible costs much but not infinity."""
    assert log_loss(np.array([0.8, 0.4])) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert 600 < log_loss(np.zeros(1)) < 700
    with pytest.raises(ValueError, match=r"^log_loss needs at least one labelled photo$"):
        log_loss(np.empty(0))


@given(st.lists(st.floats(-800, 800), min_size=1, max_size=20), st.floats(0.05, 20))
def test_sigmoid_is_the_softmax_against_zero(logits: list[float], temperature: float) -> None:
    """A sigmoid is the share of a logit in a softmax beside 0, at any size and temperature."""
    values = np.array(logits)
    beside = softmax(np.stack([values, np.zeros_like(values)], axis=1), temperature)[:, 0]
    np.testing.assert_allclose(sigmoid(values, temperature), beside, rtol=1e-9, atol=1e-300)


def loss_at(logits: NDArray[np.float32], truth: NDArray[np.int64], temperature: float) -> float:
    return log_loss(softmax(logits, temperature)[np.arange(len(truth)), truth])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_simulated_logits_is_found(temperature: float) -> None:
    """Logits made too sure by a known factor give that factor back within 3 %, and it beats its neighbours."""
    generator = np.random.default_rng(7)
    logits = generator.normal(0, 2, (20_000, 3))
    drawn = (softmax(logits).cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    scaled = (logits * temperature).astype(np.float32)
    found = fit_temperature(lambda t: loss_at(scaled, drawn, t))
    assert found == pytest.approx(temperature, rel=0.03)
    best = loss_at(scaled, drawn, found)
    assert best <= min(loss_at(scaled, drawn, found * 0.999), loss_at(scaled, drawn, found * 1.001))


@pytest.mark.parametrize(("truth", "bound"), [(0, 0.05), (1, 20.0)])
def test_the_temperature_stays_within_its_range(truth: int, bound: float) -> None:
    """Answers that are always right or always wrong end at the range's edge."""
    logits, truths = np.tile(np.float32([3.0, 0.0]), (10, 1)), np.full(10, truth)
    assert fit_temperature(lambda t: loss_at(logits, truths, t)) == pytest.approx(bound, rel=1e-3)


# --- calibration ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_bins_have_equal_mass_and_lose_nothing(answers: list[tuple[float, bool]], bins: int) -> None:
    """Bins differ by one answer at most, rise in confidence, and together are all answers."""
    confidence, right = np.array([c for c, _ in answers]), np.array([r for _, r in answers])
    found = reliability(confidence, right, bins)
    counts = [b.count for b in found]
    assert len(found) == min(bins, len(answers))
    assert sum(counts) == len(answers)
    assert max(counts) - min(counts) <= 1
    assert all(one.confidence <= other.confidence + 1e-12 for one, other in pairwise(found))
    assert sum(b.accuracy * b.count for b in found) == pytest.approx(right.sum())
    assert 0 <= calibration_error(found) <= 1


def test_answers_drawn_from_their_confidence_are_calibrated() -> None:
    """Answers that are right as often as they are sure have next to no error; made surer than that, they have one."""
    generator = np.random.default_rng(5)
    confidence = generator.uniform(0.5, 1, 40_000)
    right = generator.random(40_000) < confidence
    assert calibration_error(reliability(confidence, right)) < 0.01
    assert calibration_error(reliability(np.sqrt(confidence), right)) == pytest.approx(
        (np.sqrt(confidence) - confidence).mean(), abs=0.01
    )


def test_no_answers_have_no_bins() -> None:
    """Nothing to bin is an error that says so."""
    with pytest.raises(ValueError, match=r"^reliability needs at least one answer$"):
        reliability(np.empty(0), np.empty(0, np.bool_))


# --- confusion --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=50))
def test_the_confusion_matrix_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    """Row t, column a holds how many photos of class t were answered a; answers may be more than classes."""
    truth, answer = np.array(pairs, np.intp).reshape(-1, 2).T
    matrix = confusion_matrix(truth, answer, 3, answers=4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[pairs.count((t, a)) for a in range(4)] for t in range(3)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_the_confusion_of_many_classes_does_not_overflow(dtype: type[np.integer]) -> None:
    """Small integer types hold the classes, and the count of pairs of 100 classes is still right."""
    classes = np.arange(100, dtype=dtype)
    assert np.array_equal(confusion_matrix(classes, classes, 100), np.eye(100, dtype=np.int64))


def test_precision_and_recall_of_each_class() -> None:
    """Precision is right answers among answers, recall among the truth; uncertain ones count against recall."""
    confusion = np.array([[50, 10, 5], [20, 60, 1]])  # the third column is `uncertain`
    assert precision_recall(confusion, 0) == (wilson(50, 70), wilson(50, 65))
    assert precision_recall(confusion, 1) == (wilson(60, 70), wilson(60, 81))


# --- thresholds -------------------------------------------------------------------------------------------------

answers = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=300)


@given(answers)
def test_each_threshold_keeps_its_promise(answers: list[tuple[int, bool]]) -> None:
    """On its own data each row's confidence keeps the wanted error, with the coverage and the error it states."""
    confidence = np.array([level / 40 for level, _ in answers])
    correct = np.array([right for _, right in answers], bool)
    for row in threshold_table(confidence, correct):
        answered = confidence >= row.confidence
        assert row.coverage == answered.mean()
        assert row.error == (~correct[answered]).mean()
        assert row.error <= row.wanted_error + 1e-12


@given(answers)
def test_thresholds_are_the_least_that_keep_the_error(answers: list[tuple[int, bool]]) -> None:
    """Below a row's confidence none keeps its wanted error, and an error without a row cannot be kept at all."""
    confidence = np.array([level / 40 for level, _ in answers])
    correct = np.array([right for _, right in answers], bool)
    rows = {row.wanted_error: row.confidence for row in threshold_table(confidence, correct)}
    for wanted in WANTED_ERRORS:
        below = [level for level in np.unique(confidence) if level < rows.get(wanted, math.inf)]
        assert all((~correct[confidence >= level]).mean() > wanted for level in below)


@given(answers)
def test_thresholds_fall_as_the_allowed_error_grows(answers: list[tuple[int, bool]]) -> None:
    """A larger wanted error never needs a higher confidence nor answers fewer photos."""
    confidence = np.array([level / 40 for level, _ in answers])
    table = threshold_table(confidence, np.array([right for _, right in answers], bool))
    assert [row.wanted_error for row in table] == sorted({row.wanted_error for row in table})
    assert [row.confidence for row in table] == sorted((row.confidence for row in table), reverse=True)
    assert [row.coverage for row in table] == sorted(row.coverage for row in table)


def test_a_threshold_by_hand() -> None:
    """Of ten answers in falling confidence the ninth is wrong: 10 % is kept by all ten, less by the first eight."""
    confidence = np.linspace(1.0, 0.55, 10)
    correct = np.arange(10) != 8
    by_error = {row.wanted_error: row for row in threshold_table(confidence, correct)}
    assert set(by_error) == set(WANTED_ERRORS)
    assert (by_error[0.1].coverage, by_error[0.1].error) == (1.0, 0.1)
    assert (by_error[0.075].confidence, by_error[0.075].coverage) == (confidence[7], 0.8)


def test_a_rate_is_printed_with_its_interval_and_counts() -> None:
    """A share reads as per cent, interval and counts."""
    assert str(wilson(0, 1234)) == "0.00 % [0.00, 0.31] (0/1,234)"
