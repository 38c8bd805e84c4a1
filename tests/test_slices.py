"""Differences between groups of photos, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from gendercls.slices import detectable_gap, fisher_exact, intersections, newcombe, parity, slices
from gendercls.stats import wilson

COUNTS = st.tuples(st.integers(0, 60), st.integers(1, 60)).map(lambda pair: (min(pair), max(1, max(pair))))


@given(COUNTS, COUNTS)
def test_fishers_test_is_scipys(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Two-sided, of any two groups."""
    (wrong, total), (wrong_others, others) = first, second
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + others + 1)))])
    table = [[wrong, total - wrong], [wrong_others, others - wrong_others]]
    expected = scipy_stats.fisher_exact(table).pvalue
    assert fisher_exact(wrong, total, wrong_others, others, logs) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_gaps_interval_is_newcombes() -> None:
    """Newcombe 1998, table II, examples (a) and (b), method 10."""
    found = newcombe(wilson(56, 70), wilson(48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    found = newcombe(wilson(9, 10), wilson(3, 10))
    assert (found.low, found.high) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_a_detectable_gap_is_detected() -> None:
    """In about 80 of 100 sets, by the test that is used."""
    chance, found, sets = np.random.default_rng(2), 0, 300
    gap = detectable_gap(wilson(270, 300), wilson(810, 900))
    for _ in range(sets):
        wrong = chance.binomial([300, 900], [0.1 + gap * 0.75, 0.1 - gap * 0.25])
        table = [[wrong[0], 300 - wrong[0]], [wrong[1], 900 - wrong[1]]]
        found += scipy_stats.chi2_contingency(table, correction=False).pvalue < 0.05
    assert 0.73 * sets <= found <= 0.87 * sets


@pytest.fixture
def photos() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """2,000 photos with 30 attributes of chance, and one on which answers are wrong more often."""
    chance = np.random.default_rng(1)
    attributes = {f"a{n:02}": np.array(["no", "yes"])[chance.integers(0, 2, 2000)] for n in range(30)}
    attributes["hat"] = np.array(["no", "yes", ""])[chance.choice(3, 2000, p=[0.8, 0.1, 0.1])]
    right = chance.random(2000) < np.where(attributes["hat"] == "yes", 0.7, 0.95)
    return attributes, right


def test_many_groups_do_not_cry_wolf(photos: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    """Of 31 attributes the one that matters is found, and hardly any other; unknown values are nobody's."""
    attributes, right = photos
    found = slices(attributes, right)
    assert found[0].name == "hat=yes"
    assert [each.name for each in found if each.q <= 0.05] == ["hat=yes"]
    assert found[0].gap.total == (attributes["hat"] != "").sum()
    assert found[0].gap.high < 0
    pairs = intersections(attributes, right)
    worse = [each.name for each in pairs if each.q <= 0.05 and each.gap.value < 0]
    assert len(worse) > 30
    assert all("hat=yes" in name for name in worse)
    assert all(each.accuracy.total >= 20 for each in pairs)


def test_parity_is_fairlearns() -> None:
    """The greatest differences between groups, by hand; small groups are left out."""
    group = np.repeat(["a", "b", "c"], [200, 200, 10])
    truth = np.tile([0, 1], 205)
    answer = truth.copy()
    answer[:40:2] = 1  # of a's 100 photos of class 0, 20 are answered 1
    answer[201:221:2] = -1  # of b's 100 photos of class 1, 10 have no answer
    found = parity("group", group, truth, answer, 2)
    assert found is not None
    assert found.groups == 2
    assert found.demographic_parity_difference.value == pytest.approx(0.15)  # 120/200 against 90/200
    assert found.equalized_odds_difference.value == pytest.approx(0.2)  # the false positives of class 1
    assert found.equalized_odds_difference.low < 0.2 < found.equalized_odds_difference.high < 0.3
    assert parity("group", group[200:], truth[200:], answer[200:], 2) is None
