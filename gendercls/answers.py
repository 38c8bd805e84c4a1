"""What a model's probabilities say: labels, confidence, and whether they are right. Pure numpy, no I/O.

Two kinds of model, one interface: `ExclusiveAnswers`, where a photo has exactly one class and probabilities are a
softmax; and `IndependentAnswers`, where every class is an attribute that is there or not, and probabilities are
sigmoids. Everything that turns probabilities into words or counts asks here, so that a row of the CSV, a figure in the
model file, the gate and training agree.

Everywhere: probabilities float ``[N, K]`` in [0, 1], rounded to `DECIMALS` before anything is read from them; targets
int8 ``[N, K]`` of 1 yes, 0 no, -1 unknown (exclusive ones are one-hot, all 0 without a class).

>>> answers = answers_for(True, ["Smiling", "Young"])
>>> answers.labels(np.array([[0.9, 0.6], [0.2, 0.3]]))
['Smiling Young', 'none']
>>> answers.confidence(np.array([[0.9, 0.6], [0.2, 0.3]])).tolist()
[0.54, 0.56]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.labels.rules import NONE
from gendercls.stats import Rate, fit_temperature, log_loss, sigmoid, softmax, wilson

DECIMALS = 6
"""As many as the CSV has: whatever is decided, is decided from what it shows."""

Targets = NDArray[np.int8]


def answers_for(independent: bool, names: Sequence[str]) -> Answers:
    """How to read a model with these K class names: of independent attributes, or of classes that exclude another."""
    return IndependentAnswers(tuple(names)) if independent else ExclusiveAnswers(tuple(names))


def rounded(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities as they are shown and decided from."""
    return np.asarray(probabilities, np.float64).round(DECIMALS)


@dataclass(frozen=True)
class Answers(ABC):
    """How to read a model's probabilities. names: its K classes, in the order of the columns."""

    names: tuple[str, ...]

    @abstractmethod
    def probabilities(self, logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
        """Calibrated probabilities ``[N, K]``, from logits ``[N, K]`` and a temperature above 0."""

    @abstractmethod
    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which classes the answer names: ``[N, K]``."""

    @abstractmethod
    def confidence(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """The probability that the whole answer is right: ``[N]``, in [0, 1], rounded."""

    @abstractmethod
    def is_settled(self, probabilities: NDArray[np.floating], tolerance: float) -> NDArray[np.bool_]:
        """Which decisions ``[N, K]`` are further from a tie than the tolerance."""

    @abstractmethod
    def is_known(self, targets: Targets) -> NDArray[np.bool_]:
        """Which photos ``[N]`` have a whole truth."""

    @abstractmethod
    def confusion(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.int64]:
        """Counts of truth (rows) by answer (columns): ``[K, K]``, or ``[K, 2, 2]`` for no and yes of each attribute."""

    @abstractmethod
    def probability_of_truth(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.float64]:
        """What was given to the truth, ``[M]``: one number a photo, or one for each known attribute of each photo."""

    @abstractmethod
    def decisions(
        self, probabilities: NDArray[np.floating], targets: Targets
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How sure each single decision is and whether it is right, ``[M]`` each, M as in `probability_of_truth`."""

    @abstractmethod
    def classes_in(self, label: str) -> list[int]:
        """The classes that a label names, the inverse of `labels`. Raises ValueError for what is no such label."""

    @abstractmethod
    def _words(self, chosen: NDArray[np.bool_]) -> list[str]:
        """The labels that name the chosen classes ``[N, K]``."""

    def fit_temperature(self, logits: NDArray[np.floating], targets: Targets) -> float:
        """The temperature at which the logits ``[N, K]`` give their targets the least log-loss; N is 1 or more."""
        return fit_temperature(
            lambda temperature: log_loss(self.probability_of_truth(self.probabilities(logits, temperature), targets))
        )

    def labels(self, probabilities: NDArray[np.floating]) -> list[str]:
        """What the answers say, in words."""
        return self._words(self.decide(probabilities))

    def truth(self, targets: Targets) -> list[str]:
        """What the targets say, in the words of `labels`; empty where they do not tell."""
        known = self.is_known(targets).tolist()
        return [word if is_known else "" for word, is_known in zip(self._words(targets == 1), known, strict=True)]

    def correct(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.bool_]:
        """Where the whole answer is right: ``[N]``; no where the truth is not known."""
        right: NDArray[np.bool_] = np.all(self.decide(probabilities) == (targets == 1), axis=1)
        return self.is_known(targets) & right


class ExclusiveAnswers(Answers):
    """One class a photo: the most probable one, ties to the first. Its probability is the confidence."""

    def probabilities(self, logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
        return softmax(logits, temperature)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = rounded(probabilities).argmax(axis=1)[:, None] == np.arange(len(self.names))
        return chosen

    def confidence(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        most: NDArray[np.float64] = rounded(probabilities).max(axis=1)
        return most

    def is_settled(self, probabilities: NDArray[np.floating], tolerance: float) -> NDArray[np.bool_]:
        top = np.sort(probabilities, axis=1)
        return np.broadcast_to((top[:, -1] - top[:, -2] > tolerance)[:, None], probabilities.shape)

    def is_known(self, targets: Targets) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = np.any(targets == 1, axis=1)
        return known

    def confusion(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = (targets == 1).T.astype(np.int64) @ self.decide(probabilities)
        return counts

    def probability_of_truth(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.float64]:
        given: NDArray[np.float64] = np.asarray(probabilities, np.float64)[targets == 1]
        return given

    def decisions(
        self, probabilities: NDArray[np.floating], targets: Targets
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        known = self.is_known(targets)
        return self.confidence(probabilities)[known], self.correct(probabilities, targets)[known]

    def classes_in(self, label: str) -> list[int]:
        if label not in self.names:
            raise ValueError(f"{label[:80]!r} is none of the classes")
        return [self.names.index(label)]

    def _words(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [self.names[number] for number in chosen.argmax(axis=1).tolist()]


class IndependentAnswers(Answers):
    """Attributes that are there from a probability of one half on. A label names them in order; else it is ``none``.

    The confidence is the product of each part's own, max(p, 1 - p): exact if the attributes were independent.
    """

    def probabilities(self, logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
        return sigmoid(logits, temperature)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = rounded(probabilities) >= 0.5
        return chosen

    def confidence(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        shown = rounded(probabilities)
        product = np.ones(len(shown))
        for column in np.maximum(shown, 1 - shown).T:  # in the order of the columns, so that no bit depends on N
            product *= column
        return rounded(product)

    def is_settled(self, probabilities: NDArray[np.floating], tolerance: float) -> NDArray[np.bool_]:
        settled: NDArray[np.bool_] = np.abs(probabilities - 0.5) > tolerance
        return settled

    def is_known(self, targets: Targets) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = np.all(targets >= 0, axis=1)
        return known

    def confusion(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.int64]:
        """Each attribute is counted over the photos where it is known, whatever else is."""
        answer = self.decide(probabilities)
        cells = [[(targets == t) & (answer == a) for a in (False, True)] for t in (0, 1)]
        return np.moveaxis(np.array(cells).sum(axis=2, dtype=np.int64), 2, 0)

    def probability_of_truth(self, probabilities: NDArray[np.floating], targets: Targets) -> NDArray[np.float64]:
        return np.where(targets == 1, probabilities, 1 - np.asarray(probabilities, np.float64))[targets >= 0]

    def decisions(
        self, probabilities: NDArray[np.floating], targets: Targets
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        known, shown = targets >= 0, rounded(probabilities)
        right = self.decide(probabilities) == (targets == 1)
        return np.maximum(shown, 1 - shown)[known], right[known]

    def classes_in(self, label: str) -> list[int]:
        wanted = [] if label == NONE else label.split(" ")
        found = [number for number, name in enumerate(self.names) if name in wanted]
        if [self.names[number] for number in found] != wanted:
            raise ValueError(f"{label[:80]!r} is neither '{NONE}' nor names of the attributes, in order")
        return found

    def _words(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [" ".join(compress(self.names, row)) or NONE for row in chosen.tolist()]


@dataclass(frozen=True, slots=True)
class AttributeScore:
    """How often the answers are right about one attribute. Counts of photos by truth and answer, 95 % intervals."""

    name: str
    true_no: int
    false_yes: int
    false_no: int
    true_yes: int

    @property
    def total(self) -> int:
        return self.true_no + self.false_yes + self.false_no + self.true_yes

    @property
    def accuracy(self) -> Rate:
        return wilson(self.true_no + self.true_yes, self.total)

    @property
    def precision(self) -> Rate:
        """Of the photos answered yes, the share that is."""
        return wilson(self.true_yes, self.false_yes + self.true_yes)

    @property
    def recall(self) -> Rate:
        """Of the photos that are, the share answered yes."""
        return wilson(self.true_yes, self.false_no + self.true_yes)

    @property
    def prevalence(self) -> Rate:
        """The share of the photos that have the attribute by their labels."""
        return wilson(self.false_no + self.true_yes, self.total)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs: name, the 2×2 confusion (truth by answer, no before yes), and four rates."""
        rates = {key: asdict(getattr(self, key)) for key in ("accuracy", "precision", "recall", "prevalence")}
        confusion = [[self.true_no, self.false_yes], [self.false_no, self.true_yes]]
        return {"name": self.name, "confusion": confusion, **rates}


def attribute_scores(
    names: Sequence[str], confusion: NDArray[np.int64] | Sequence[Sequence[Sequence[int]]]
) -> list[AttributeScore]:
    """One score for each attribute, from its 2×2 counts: ``[K, 2, 2]`` as `IndependentAnswers.confusion` gives."""
    return [
        AttributeScore(name, int(no[0]), int(no[1]), int(yes[0]), int(yes[1]))
        for name, (no, yes) in zip(names, confusion, strict=True)
    ]


def mean_accuracy(scores: Sequence[AttributeScore]) -> float:
    """The mean over the attributes of how often each is right, in [0, 1]; NaN where no photo was counted.

    It has no interval: a photo's attributes are not independent of each other.
    """
    counted = [score.accuracy.value for score in scores if score.total]
    return sum(counted) / len(counted) if counted else math.nan
