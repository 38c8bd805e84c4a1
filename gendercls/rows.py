"""A row of the CSV: its columns, how a field is written, and how whole rows are read back."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from gendercls.answers import Answers, answers_for
from gendercls.errors import DamagedRowError
from gendercls.records import FORMULA, defused, plain, to_line

NOT_A_PHOTO = "not a photo"
UNCERTAIN = "uncertain"
NO_FACE = "no face"
_MOST_DIGITS = 9  # of a face's number and its pixels
_NO_CLASS = (UNCERTAIN, NO_FACE, "")
_FACE_COLUMNS = ("face", "x", "y", "w", "h", "face_confidence")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the CSV, as text.

    truth and correct are empty without labels or without a label. face: its number, box and confidence; a 0 alone where
    the photo has none, and nothing where faces were not looked for, or could not be.
    """

    path: str
    label: str
    confidence: str
    probabilities: tuple[str, ...]
    truth: str = ""
    correct: str = ""
    error: str = ""
    face: tuple[str, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether the rows of a photo begin here."""
        return not self.face or self.face[0] in ("0", "1")

    @property
    def has_failed(self) -> bool:
        """Whether a photo could not be read; a file that is no photo has not failed."""
        return bool(self.error) and self.error != NOT_A_PHOTO


@dataclass(frozen=True, slots=True)
class Columns:
    """The CSV's columns: fixed by the model's classes, and by whether there are labels and faces are looked for."""

    answers: Answers
    has_truth: bool
    has_faces: bool = False

    @classmethod
    def of_header(cls, header: list[str], *, independent: bool) -> Self | None:
        """Those of a CSV with that header; None where no run writes such a one."""
        names = [name.removeprefix("p_") for name in header if name.startswith("p_")]
        if not names:
            return None
        columns = cls(answers_for(independent, names), "truth" in header, "face" in header)
        return columns if columns.header() == header else None

    def header(self) -> list[str]:
        face = _FACE_COLUMNS if self.has_faces else ()
        truth = ["truth", "correct"] if self.has_truth else []
        probabilities = (f"p_{name}" for name in self.answers.names)
        return ["path", *face, "label", "confidence", *probabilities, *truth, "error"]

    def fields(self, row: Row) -> list[str]:
        """The row's fields, defused for spreadsheets."""
        face = row.face + ("",) * (len(_FACE_COLUMNS) - len(row.face)) if self.has_faces else ()
        probabilities = row.probabilities or ("",) * len(self.answers.names)
        truth = [defused(row.truth), row.correct] if self.has_truth else []
        answer = [defused(row.label), row.confidence, *probabilities]
        return [path_field(row.path), *face, *answer, *truth, defused(row.error)]

    def row(self, fields: Sequence[str]) -> Row:
        """The row behind a line's fields, as `fields` wrote it. Raises ValueError where it is no such row."""
        first = 1 + (len(_FACE_COLUMNS) if self.has_faces else 0)
        last = first + 2 + len(self.answers.names)
        width = last + (3 if self.has_truth else 1)
        if len(fields) != width:
            raise ValueError(f"{len(fields)} fields instead of {width}")
        face = _face(fields[1:first]) if self.has_faces else ()
        label, confidence, *probabilities = fields[first:last]
        truth, correct = fields[last : last + 2] if self.has_truth else ("", "")
        label, truth = plain(label), plain(truth)
        if label not in _NO_CLASS:
            self.answers.classes_in(label)
        if truth:
            self.answers.classes_in(truth)
        answer = tuple(probabilities) if confidence or any(probabilities) else ()
        return Row(fields[0], label, confidence, answer, truth, correct, plain(fields[-1]), face)


def _face(fields: Sequence[str]) -> tuple[str, ...]:
    """The face columns' fields as a row keeps them. Raises ValueError where they are none."""
    face = tuple(filter(None, fields))
    are_numbers = all(number.isdecimal() and len(number) <= _MOST_DIGITS for number in face[:5])
    if len(face) not in (0, 1, len(fields)) or not are_numbers:
        raise ValueError(f"{','.join(fields)!r:.200} is no face")
    return face


def path_field(path: str) -> str:
    """A path as the CSV has it: one that a spreadsheet would take for a formula gets ``./`` before it."""
    return "./" + path if path.startswith(FORMULA) else path


def encode(fields: Sequence[str]) -> bytes:
    """One line of the CSV; bytes of a name that are not UTF-8 become ``\\xNN``."""
    return to_line(fields).encode("utf-8", "backslashreplace")


def read_records(file: BinaryIO, name: str) -> Iterator[tuple[list[str], int]]:
    """Whole CSV records of a file and the offset at which each ends; a torn last one is left out.

    Raises:
        DamagedRowError: a line in the middle is no CSV or not UTF-8.
    """
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8")

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            if "unexpected end of data" in str(error):
                return  # torn within quotes
            # A line that is not UTF-8 never came to the reader, which so has not counted it.
            line = reader.line_num + isinstance(error, UnicodeDecodeError)
            raise DamagedRowError(
                f"a row is damaged: {error}", where=f"{name}:{line}", do="repeat with --restart to begin anew"
            ) from None
        yield fields, end
