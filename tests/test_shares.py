"""Shares without the classifier's errors: right where the errors are known, and with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendercls.shares import rogan_gladen


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
    """In 95 of 100 sets, with a confusion as uncertain as a model's; benchmarks/coverage.py makes many more."""
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
