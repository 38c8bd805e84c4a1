"""What a run's rows add up to; the finished CSV alone gives the same numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gendercls.answers import Answers
from gendercls.classify.rows import UNCERTAIN, Row
from gendercls.classify.scores import Agreement, Scores, agreement_for
from gendercls.stats import Rate, wilson


@dataclass
class Tally:
    """Counts over rows.

    labels: answered photos by each class that their label names. failures: by reason, without its details. agreement:
    with the labels; None without any.
    """

    answers: Answers
    has_truth: bool
    rows: int = 0
    not_photos: int = 0
    uncertain: int = 0
    answered: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.agreement: Agreement | None = agreement_for(self.answers) if self.has_truth else None

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
            self.answered += 1
            self.labels.update(self.answers.names[number] for number in self.answers.classes_in(row.label))
        if row.truth and self.agreement is not None:
            self.agreement.add(row.truth, row.label)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def shares(self) -> dict[str, Rate]:
        """Each class's share of the answered photos; those of independent attributes need not sum to 1."""
        return {name: wilson(self.labels[name], self.answered) for name in self.answers.names}

    def scores(self) -> Scores | None:
        """How often the answers agree with the labels; None without any labelled photo."""
        return self.agreement.scores() if self.agreement is not None and self.agreement.labelled else None
