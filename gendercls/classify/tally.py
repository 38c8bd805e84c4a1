"""What a run's rows add up to; the finished CSV alone gives the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.classify.rows import UNCERTAIN, Row
from gendercls.stats import Rate, precision_recall, wilson


@dataclass
class Tally:
    """Counts over rows.

    failures: by reason, without its details. confusion: int64 ``[K, K + 2]``, truth by answer, the last two columns
    being uncertain and failed; None without labels.
    """

    classes: Sequence[str]
    has_truth: bool
    rows: int = 0
    not_photos: int = 0
    uncertain: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    confusion: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self._answers = {name: number for number, name in enumerate([*self.classes, UNCERTAIN, ""])}
        if self.has_truth:
            self.confusion = np.zeros((len(self.classes), len(self._answers)), np.int64)

    def add(self, row: Row) -> None:
        """Count one row."""
        self.rows += 1
        if row.has_failed:
            self.failures[row.error.partition(":")[0]] += 1
        elif row.error:
            self.not_photos += 1
        elif row.label == UNCERTAIN:
            self.uncertain += 1
        else:
            self.labels[row.label] += 1
        if row.truth and self.confusion is not None:
            self.confusion[self._answers[row.truth], self._answers[row.label]] += 1

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def answered(self) -> int:
        return sum(self.labels.values())

    def shares(self) -> dict[str, Rate]:
        """Each class's share of the answered photos."""
        return {name: wilson(self.labels[name], self.answered) for name in self.classes}

    def scores(self) -> Scores | None:
        """How often the answers agree with the labels; None without any labelled photo."""
        if self.confusion is None or not self.confusion.sum():
            return None
        return Scores.of(self.confusion, self.classes)


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement with the labels.

    accuracy: over all labelled photos, failed and uncertain ones counted wrong. answered_accuracy: over those with
    an answer. coverage: the share with an answer. precision, recall: per class, over the answered.
    """

    accuracy: Rate
    answered_accuracy: Rate
    coverage: Rate
    precision: dict[str, Rate]
    recall: dict[str, Rate]
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        plain = asdict(replace(self, confusion=np.zeros(0, np.int64)))
        return plain | {"confusion": self.confusion.tolist()}

    @classmethod
    def of(cls, confusion: NDArray[np.int64], classes: Sequence[str]) -> Scores:
        right, total = int(np.trace(confusion)), int(confusion.sum())
        answered = confusion[:, : len(classes)]
        rates = {name: precision_recall(answered, number) for number, name in enumerate(classes)}
        return cls(
            wilson(right, total),
            wilson(right, int(answered.sum())),
            wilson(int(answered.sum()), total),
            {name: precision for name, (precision, _) in rates.items()},
            {name: recall for name, (_, recall) in rates.items()},
            confusion,
        )
