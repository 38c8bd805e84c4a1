"""How often a run's answers agree with the labels: counted row by row, for either kind of model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import Answers, AttributeScore, IndependentAnswers, attribute_scores, mean_accuracy
from gendercls.rows import UNCERTAIN
from gendercls.stats import Rate, precision_recall, wilson


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement with the labels.

    accuracy: over all labelled photos, failed and uncertain ones counted wrong. answered_accuracy: over those with
    an answer. coverage: the share with an answer. An answer is right where its whole label is.
    """

    accuracy: Rate
    answered_accuracy: Rate
    coverage: Rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClassScores(Scores):
    """Of classes that exclude each other.

    precision, recall: per class, over the answered. confusion: int64 ``[K, K + 2]``, truth by answer, the last two
    columns being uncertain and failed.
    """

    precision: dict[str, Rate]
    recall: dict[str, Rate]
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"confusion": self.confusion.tolist()}


@dataclass(frozen=True, slots=True)
class AttributeScores(Scores):
    """Of independent attributes: one score each, over the answered photos."""

    attributes: list[AttributeScore]

    @property
    def mean_accuracy(self) -> float:
        """Of one attribute, meaned over all of them; NaN where nothing was answered."""
        return mean_accuracy(self.attributes)

    def to_dict(self) -> dict[str, Any]:
        attributes = [score.to_dict() for score in self.attributes]
        return asdict(self) | {"mean_accuracy": self.mean_accuracy, "attributes": attributes}


class Agreement(ABC):
    """Counts of labelled rows by truth and answer."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.labelled = self.answered = self.right = 0

    def add(self, truth: str, label: str) -> None:
        """Count one row that has a truth; its label may be ``uncertain``, or empty for a photo that failed."""
        self.labelled += 1
        self.answered += label not in (UNCERTAIN, "")
        self.right += label == truth
        self._count(truth, label)

    @abstractmethod
    def scores(self) -> Scores:
        """What the counts say."""

    @abstractmethod
    def _count(self, truth: str, label: str) -> None: ...

    def _rates(self) -> tuple[Rate, Rate, Rate]:
        """Accuracy, accuracy of the answered, coverage."""
        right, labelled, answered = self.right, self.labelled, self.answered
        return wilson(right, labelled), wilson(right, answered), wilson(answered, labelled)


def agreement_for(answers: Answers) -> Agreement:
    """Nothing counted yet."""
    return _AttributeAgreement(answers) if isinstance(answers, IndependentAnswers) else _ClassAgreement(answers)


class _ClassAgreement(Agreement):
    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self._columns = {name: number for number, name in enumerate([*answers.names, UNCERTAIN, ""])}
        self.confusion = np.zeros((len(answers.names), len(self._columns)), np.int64)

    def _count(self, truth: str, label: str) -> None:
        self.confusion[self._columns[truth], self._columns[label]] += 1

    def scores(self) -> ClassScores:
        names = self.answers.names
        rates = [precision_recall(self.confusion[:, : len(names)], number) for number in range(len(names))]
        precision = {name: rate for name, (rate, _) in zip(names, rates, strict=True)}
        recall = {name: rate for name, (_, rate) in zip(names, rates, strict=True)}
        return ClassScores(*self._rates(), precision, recall, self.confusion)


class _AttributeAgreement(Agreement):
    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self.confusion = np.zeros((len(answers.names), 2, 2), np.int64)

    def _count(self, truth: str, label: str) -> None:
        if label not in (UNCERTAIN, ""):
            self.confusion[np.arange(len(self.confusion)), self._is_in(truth), self._is_in(label)] += 1

    def _is_in(self, label: str) -> NDArray[np.intp]:
        """1 where the label names the attribute, else 0: ``[K]``."""
        named = np.zeros(len(self.confusion), np.intp)
        named[self.answers.classes_in(label)] = 1
        return named

    def scores(self) -> AttributeScores:
        return AttributeScores(*self._rates(), attribute_scores(self.answers.names, self.confusion))
