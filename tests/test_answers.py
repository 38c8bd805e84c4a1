"""What probabilities say, for both kinds of model: in words, in numbers, and against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gendercls.answers import (
    Answers,
    AttributeScore,
    answers_for,
    attribute_scores,
    mean_accuracy,
    rounded,
)
from gendercls.stats import precision_recall, wilson

NAMES = ("Male", "Young", "Hat")
EXCLUSIVE, INDEPENDENT = answers_for(False, NAMES), answers_for(True, NAMES)
BOTH = pytest.mark.parametrize("answers", [EXCLUSIVE, INDEPENDENT], ids=["exclusive", "independent"])

near_a_tie = st.sampled_from([0.0, 0.5, 0.4999996, 0.4999994, 0.5000004, 1.0])
probabilities = st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (n, 3), elements=near_a_tie | st.floats(0, 1)))


def targets_for(answers: Answers, count: int, seed: int) -> NDArray[np.int8]:
    """Targets of that kind of model, some unknown."""
    generator = np.random.default_rng(seed)
    if answers is INDEPENDENT:
        return generator.choice(np.array([-1, 0, 0, 0, 1, 1, 1], np.int8), (count, 3))
    return np.equal.outer(generator.integers(-1, 3, count), np.arange(3)).astype(np.int8)


# --- one row at a time ------------------------------------------------------------------------------------------


@given(probabilities)
@example(np.array([[0.5, 0.5, 0.1], [0.0, 0.0, 0.0]]))
def test_exclusive_answers_follow_from_the_rounded_numbers(given_: NDArray[np.float64]) -> None:
    """Contract 3: probabilities are rounded to 6 decimals first; label and confidence are theirs, ties to the first."""
    for row, label, confidence in zip(given_, EXCLUSIVE.labels(given_), EXCLUSIVE.confidence(given_), strict=True):
        shown = [float(f"{value:.6f}") for value in row.round(6)]
        assert (label, confidence) == (NAMES[shown.index(max(shown))], max(shown))


@given(probabilities)
@example(np.array([[0.5, 0.4999996, 0.4999994], [0.0, 0.0, 0.0]]))
def test_independent_answers_follow_from_the_rounded_numbers(given_: NDArray[np.float64]) -> None:
    """Contract 2: the label names the attributes from one half on; the confidence is the product of max(p, 1 - p)."""
    for row, label, confidence in zip(given_, INDEPENDENT.labels(given_), INDEPENDENT.confidence(given_), strict=True):
        shown = [float(f"{value:.6f}") for value in row.round(6)]
        assert label == (" ".join(n for n, p in zip(NAMES, shown, strict=True) if p >= 0.5) or "none")
        assert confidence == np.float64(math.prod(max(p, 1 - p) for p in shown)).round(6)


@BOTH
@given(given_=probabilities)
def test_a_row_does_not_depend_on_its_neighbours(answers: Answers, given_: NDArray[np.float64]) -> None:
    """However photos are grouped, each one's label and confidence are the same bits."""
    alone = [(answers.labels(row[None])[0], answers.confidence(row[None])[0]) for row in given_]
    assert alone == list(zip(answers.labels(given_), answers.confidence(given_), strict=True))


@BOTH
@given(given_=probabilities)
def test_a_label_names_what_was_decided(answers: Answers, given_: NDArray[np.float64]) -> None:
    """`classes_in` gives back the classes that `decide` chose, from the word alone."""
    for label, chosen in zip(answers.labels(given_), answers.decide(given_), strict=True):
        assert answers.classes_in(label) == np.flatnonzero(chosen).tolist()


def test_probabilities_are_calibrated_in_their_own_way() -> None:
    """Exclusive classes share one sum, attributes do not; both are of logits divided by the temperature."""
    logits = np.array([[2.0, -4.0, 0.0]])
    assert EXCLUSIVE.probabilities(logits, 2.0).tolist() == [
        pytest.approx([math.exp(x) / (math.e + math.exp(-2) + 1) for x in (1, -2, 0)])
    ]
    assert INDEPENDENT.probabilities(logits, 2.0).tolist() == [
        pytest.approx([1 / (1 + math.exp(-x)) for x in (1, -2, 0)])
    ]


def test_forty_sure_attributes_are_not_a_sure_label() -> None:
    """The confidence is that of the whole label: 40 times 0.98 is 0.446."""
    many = answers_for(True, [f"A{n}" for n in range(40)])
    assert many.confidence(np.full((1, 40), 0.98)).tolist() == [0.4457]
    assert many.confidence(np.full((1, 40), 0.5)).tolist() == [0.0]


@BOTH
def test_what_is_no_number_has_no_confidence(answers: Answers) -> None:
    """A probability that is no number makes a confidence that is none, wherever it stands."""
    for place in range(3):
        row = np.full((1, 3), 0.9)
        row[0, place] = np.nan
        assert np.isnan(answers.confidence(row)).all()


# --- against the truth ------------------------------------------------------------------------------------------


def test_truth_is_written_as_answers_are() -> None:
    """One class, or all that are there, or ``none``; nothing where the targets do not tell."""
    assert EXCLUSIVE.truth(np.array([[0, 1, 0], [0, 0, 0]], np.int8)) == ["Young", ""]
    each = np.array([[1, 0, 1], [0, 0, 0], [1, -1, 1]], np.int8)
    assert INDEPENDENT.truth(each) == ["Male Hat", "none", ""]


@BOTH
@given(given_=probabilities, seed=st.integers(0, 99))
def test_correct_is_where_label_is_truth(answers: Answers, given_: NDArray[np.float64], seed: int) -> None:
    """What the CSV would say: 1 where the label is the truth's word, and never without a truth."""
    targets = targets_for(answers, len(given_), seed)
    pairs = zip(answers.labels(given_), answers.truth(targets), strict=True)
    assert answers.correct(given_, targets).tolist() == [label == truth for label, truth in pairs]


@given(given_=probabilities, seed=st.integers(0, 99))
def test_attributes_are_counted_where_they_are_known(given_: NDArray[np.float64], seed: int) -> None:
    """Each attribute has its own 2×2 counts over the photos where it is known, whatever else is unknown."""
    targets = targets_for(INDEPENDENT, len(given_), seed)
    confusion = INDEPENDENT.confusion(given_, targets)
    assert (confusion.shape, confusion.dtype) == ((3, 2, 2), np.int64)
    for column, counts in enumerate(confusion):
        yes = rounded(given_)[:, column] >= 0.5
        expected = [[int(((targets[:, column] == t) & (yes == a)).sum()) for a in (False, True)] for t in (0, 1)]
        assert counts.tolist() == expected


@given(given_=probabilities, seed=st.integers(0, 99))
def test_classes_are_counted_by_truth_and_answer(given_: NDArray[np.float64], seed: int) -> None:
    """Rows are the truth, columns the answer; a photo without a class is in none."""
    targets = targets_for(EXCLUSIVE, len(given_), seed)
    expected = np.zeros((3, 3), int)
    for label, truth in zip(EXCLUSIVE.labels(given_), EXCLUSIVE.truth(targets), strict=True):
        if truth:
            expected[NAMES.index(truth), NAMES.index(label)] += 1
    assert EXCLUSIVE.confusion(given_, targets).tolist() == expected.tolist()


@BOTH
def test_ties_are_not_settled(answers: Answers) -> None:
    """A decision is settled when it is further than the tolerance from where it would turn."""
    rows = np.array([[0.50004, 0.5, 0.1], [0.9, 0.02, 0.50011]])
    expected = [[False] * 3, [True] * 3] if answers is EXCLUSIVE else [[False, False, True], [True, True, True]]
    assert answers.is_settled(rows, 1e-4).tolist() == expected


@BOTH
def test_nothing_gives_nothing(answers: Answers) -> None:
    """No photos have no labels, and counts of zero."""
    none, targets = np.zeros((0, 3)), np.zeros((0, 3), np.int8)
    assert (answers.labels(none), answers.truth(targets), answers.confidence(none).tolist()) == ([], [], [])
    assert not answers.confusion(none, targets).any()


# --- an attribute's score ---------------------------------------------------------------------------------------


def test_an_attributes_rates_are_those_of_its_counts() -> None:
    """Accuracy over all, precision over yes answers, recall over true ones, and how often it is there."""
    (score,) = attribute_scores(["Hat"], np.array([[[50, 5], [10, 35]]]))
    assert score == AttributeScore("Hat", 50, 5, 10, 35)
    assert score.to_dict() == {
        "name": "Hat",
        "confusion": [[50, 5], [10, 35]],
        **{
            key: {"count": r.count, "total": r.total, "value": r.value, "low": r.low, "high": r.high}
            for key, r in {
                "accuracy": wilson(85, 100),
                "precision": wilson(35, 40),
                "recall": wilson(35, 45),
                "prevalence": wilson(45, 100),
            }.items()
        },
    }
    assert (score.precision, score.recall) == precision_recall(np.array([[50, 5], [10, 35]]), 1)


def test_the_mean_is_over_attributes_that_were_counted() -> None:
    """An attribute that no photo tells has no say; of none at all there is no mean."""
    scores = attribute_scores(["a", "b", "c"], [[[1, 1], [0, 0]], [[4, 0], [0, 0]], [[0, 0], [0, 0]]])
    assert mean_accuracy(scores) == 0.75
    assert math.isnan(mean_accuracy(scores[2:]))
