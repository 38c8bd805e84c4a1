"""Confident learning, by the paper's definitions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gendercls.train.audit.label_errors import (
    class_thresholds,
    confident_classes,
    confident_joint,
    find_label_errors,
)

# Six photos: thresholds are (0.9 + 0.8 + 0.1) / 3 = 0.6 for class 0 and (0.7 + 0.9 + 0.2) / 3 = 0.6 for class 1.
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.1, 0.9], [0.8, 0.2]])


def test_the_threshold_of_a_class_is_its_mean_own_probability() -> None:
    """A class's threshold is the mean probability that photos of that label give it; without photos it is infinite."""
    assert np.allclose(class_thresholds(LABELS, PROBABILITIES), [0.6, 0.6])
    three = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    assert class_thresholds(LABELS, three)[2] == np.inf


def test_a_worked_example() -> None:
    """The joint counts what is confident, and what is off its diagonal is suspected, the widest margin first."""
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1], [1, 2]]
    found = find_label_errors(LABELS, PROBABILITIES)
    assert [(s.number, s.given, s.suggested, round(s.score, 6)) for s in found] == [(2, 0, 1, 0.8), (5, 1, 0, 0.6)]
    assert (found[0].given_probability, found[0].suggested_probability) == (0.1, 0.9)


def test_a_photo_of_which_the_judge_is_unsure_is_no_suspect() -> None:
    """A photo whose other class stays below that class's threshold is not suspected, though it is the likelier."""
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.05, 0.95], [0.1, 0.9]])
    labels = np.array([0, 0, 1, 1])
    assert confident_classes(labels, probabilities).tolist() == [0, -1, 1, -1]
    assert find_label_errors(labels, probabilities) == []


@st.composite
def judged(draw: st.DrawFn) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    photos, classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return generator.integers(0, classes, photos), generator.dirichlet(np.ones(classes), photos)


@given(judged())
def test_suspects_are_what_the_joint_counts_off_its_diagonal(
    case: tuple[NDArray[np.intp], NDArray[np.float64]],
) -> None:
    """As many suspects as the confident joint has off its diagonal, each with its classes, ranked by score."""
    labels, probabilities = case
    joint = confident_joint(labels, probabilities)
    found = find_label_errors(labels, probabilities)
    assert len(found) == joint.sum() - np.trace(joint)
    thresholds = class_thresholds(labels, probabilities)
    for suspect in found:
        assert suspect.given == labels[suspect.number] != suspect.suggested
        assert suspect.suggested_probability >= thresholds[suspect.suggested]
    scores = [suspect.score for suspect in found]
    assert scores == sorted(scores, reverse=True)


@given(judged(), st.randoms(use_true_random=False))
def test_the_order_of_photos_does_not_matter(
    case: tuple[NDArray[np.intp], NDArray[np.float64]], random: np.random.Generator
) -> None:
    """The same photos are suspected in whatever order they come."""
    labels, probabilities = case
    order = list(range(len(labels)))
    random.shuffle(order)
    plain = {s.number for s in find_label_errors(labels, probabilities)}
    moved = {order[s.number] for s in find_label_errors(labels[order], probabilities[order])}
    assert plain == moved


@given(judged())
def test_a_judge_that_agrees_with_every_label_suspects_none(
    case: tuple[NDArray[np.intp], NDArray[np.float64]],
) -> None:
    """Where each label has probability 1, there is no suspect."""
    labels, probabilities = case
    assert find_label_errors(labels, np.eye(probabilities.shape[1])[labels]) == []
