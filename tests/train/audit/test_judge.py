"""The judge has not seen what it judges."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gendercls.train.audit.judge import FOLDS, deal_folds, judge


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), st.integers(0, 1000))
def test_a_group_is_in_one_fold(groups: list[int], seed: int) -> None:
    """Photos of one group share a fold; folds are 0 to 4 and differ in size by less than two of the largest group."""
    fold = deal_folds(np.array(groups), seed)
    assert len({(group, at) for group, at in zip(groups, fold.tolist(), strict=True)}) == len(set(groups))
    sizes = np.bincount(fold, minlength=FOLDS)
    assert len(sizes) == FOLDS
    largest = np.bincount(groups).max()
    assert sizes.max() - len(groups) / FOLDS < largest + 1


def made(photos: int = 400, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features of 40 numbers, the first of which tells the label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, photos)
    features = generator.normal(size=(photos, 40)).astype(np.float32)
    features[:, 0] += 4 * labels
    return features, labels


def one_hot(labels: np.ndarray, classes: int = 2) -> np.ndarray:
    return np.eye(classes, dtype=np.int8)[labels]


def test_what_the_features_tell_is_learnt() -> None:
    """Two classes that one feature separates are told apart, with rows that sum to 1, the same each time."""
    features, labels = made()
    fold = deal_folds(np.arange(len(labels)), 1)
    first, second = (judge(features, one_hot(labels), fold, independent=False) for _ in range(2))
    assert (first.probabilities.argmax(axis=1) == labels).mean() > 0.95
    assert np.allclose(first.probabilities.sum(axis=1), 1)
    assert np.array_equal(first.probabilities, second.probabilities)


def test_labels_at_random_cannot_be_learnt() -> None:
    """More features than photos could fit any labels; out of fold the judge is at chance, so it saw no label."""
    generator = np.random.default_rng(5)
    features = generator.normal(size=(300, 600)).astype(np.float32)
    labels = generator.integers(0, 2, 300)
    found = judge(features, one_hot(labels), deal_folds(np.arange(300), 1), independent=False)
    assert abs((found.probabilities.argmax(axis=1) == labels).mean() - 0.5) < 0.1


def test_copies_in_one_fold_do_not_tell_their_labels() -> None:
    """Each photo is there twice with a label at random: grouped, the copies are at chance; ungrouped, they are not."""
    generator = np.random.default_rng(6)
    features = np.repeat(generator.normal(size=(150, 300)), 2, axis=0).astype(np.float32)
    labels = np.repeat(generator.integers(0, 2, 150), 2)

    def accuracy(groups: np.ndarray) -> float:
        found = judge(features, one_hot(labels), deal_folds(groups, 1), independent=False)
        return float((found.probabilities.argmax(axis=1) == labels).mean())

    assert accuracy(np.arange(300)) > 0.75
    assert accuracy(np.arange(300) // 2) < 0.6


def test_attributes_are_judged_each_by_itself() -> None:
    """Independent attributes need not sum to 1, and an unknown label changes nothing in the other attribute."""
    features, labels = made()
    targets = np.stack([labels, 1 - labels], axis=1).astype(np.int8)
    fold = deal_folds(np.arange(len(labels)), 1)
    found = judge(features, targets, fold, independent=True)
    assert ((found.probabilities > 0.5) == targets).mean() > 0.95
    targets[:100, 0] = -1
    assert ((judge(features, targets, fold, independent=True).probabilities > 0.5)[:, 1] == targets[:, 1]).mean() > 0.95


def test_a_feature_that_never_changes_does_no_harm() -> None:
    """A constant feature leaves all probabilities finite."""
    features, labels = made()
    features[:, 5] = 7
    found = judge(features, one_hot(labels), deal_folds(np.arange(len(labels)), 1), independent=False)
    assert np.isfinite(found.probabilities).all()
