"""What a run's rows add up to; the finished CSV alone gives the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gendercls.answers import Answers
from gendercls.rows import NO_FACE, UNCERTAIN, Row
from gendercls.scores import Agreement, Scores, agreement_for
from gendercls.stats import Rate, wilson


@dataclass
class Tally:
    """Counts over the rows of photos.

    files: photos, and files that are none. by_faces: photos in which faces were looked for, by how many there were: 0,
    1, or 2 for several. by_faces_with_truth: the same of those with a truth. labels: answers by each class that their
    label names. failures: by reason, without its details. agreement: with the labels; None without any.
    """

    answers: Answers
    has_truth: bool
    has_faces: bool = False
    files: int = 0
    not_photos: int = 0
    uncertain: int = 0
    answered: int = 0
    by_faces: Counter[int] = field(default_factory=Counter)
    by_faces_with_truth: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.agreement: Agreement | None = agreement_for(self.answers) if self.has_truth else None

    def add(self, rows: Sequence[Row]) -> None:
        """Count all rows of one photo."""
        self.files += 1
        for row in rows:
            self._add_answer(row)
        if self.has_faces and not any(row.error for row in rows):
            faces = 0 if rows[0].label == NO_FACE else min(len(rows), 2)
            self.by_faces[faces] += 1
            self.by_faces_with_truth[faces] += bool(rows[0].truth)

    def _add_answer(self, row: Row) -> None:
        if row.has_failed:
            self.failures[row.error.partition(":")[0]] += 1
        elif row.error:
            self.not_photos += 1
        elif row.label == UNCERTAIN:
            self.uncertain += 1
        elif row.label != NO_FACE:
            self.answered += 1
            self.labels.update(self.answers.names[number] for number in self.answers.classes_in(row.label))
        if row.correct and self.agreement is not None:
            self.agreement.add(row.truth, row.label)

    @property
    def faces(self) -> int:
        """How many faces have an answer."""
        return self.answered + self.uncertain

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def photos_by_faces(self) -> dict[str, int]:
        """How many photos have no face, one face, several."""
        return {words: self.by_faces[count] for count, words in enumerate(("no face", "one face", "several faces"))}

    def labelled_with_faces(self) -> Rate:
        """In how many of the photos with a truth there is a face."""
        total = self.by_faces_with_truth.total()
        return wilson(total - self.by_faces_with_truth[0], total)

    def shares(self) -> dict[str, Rate]:
        """Each class's share of the answers; those of independent attributes need not sum to 1."""
        return {name: wilson(self.labels[name], self.answered) for name in self.answers.names}

    def scores(self) -> Scores | None:
        """How often the answers agree with the labels; None without any labelled photo."""
        return self.agreement.scores() if self.agreement is not None and self.agreement.labelled else None
