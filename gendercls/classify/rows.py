"""A row of the CSV: its columns, how a field is written, and how whole rows are read back."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from gendercls.answers import Answers
from gendercls.errors import OutputError
from gendercls.records import to_line

NOT_A_PHOTO = "not a photo"
UNCERTAIN = "uncertain"
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the CSV, as text. truth and correct are empty without labels or without a label."""

    path: str
    label: str
    confidence: str
    probabilities: tuple[str, ...]
    truth: str = ""
    correct: str = ""
    error: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether a photo could not be read; a file that is no photo has not failed."""
        return bool(self.error) and self.error != NOT_A_PHOTO


@dataclass(frozen=True, slots=True)
class Columns:
    """The CSV's columns: fixed by the model's classes and by whether there are labels."""

    answers: Answers
    has_truth: bool

    def header(self) -> list[str]:
        truth = ["truth", "correct"] if self.has_truth else []
        return ["path", "label", "confidence", *(f"p_{name}" for name in self.answers.names), *truth, "error"]

    def fields(self, row: Row) -> list[str]:
        """The row's fields, defused for spreadsheets."""
        probabilities = row.probabilities or ("",) * len(self.answers.names)
        truth = [defused(row.truth), row.correct] if self.has_truth else []
        return [path_field(row.path), defused(row.label), row.confidence, *probabilities, *truth, defused(row.error)]

    def row(self, fields: Sequence[str]) -> Row:
        """The row behind a line's fields, as `fields` wrote it. Raises ValueError where it is no such row."""
        if len(fields) != len(self.header()):
            raise ValueError(f"{len(fields)} fields instead of {len(self.header())}")
        last = 3 + len(self.answers.names)
        probabilities = tuple(fields[3:last]) if fields[2] else ()
        truth, correct = fields[last : last + 2] if self.has_truth else ("", "")
        label, truth = _plain(fields[1]), _plain(truth)
        for word, others in ((label, (UNCERTAIN, "")), (truth, ("",))):
            if word not in others:
                self.answers.classes_in(word)
        return Row(fields[0], label, fields[2], probabilities, truth, correct, _plain(fields[-1]))


def path_field(path: str) -> str:
    """A path as the CSV has it: one that a spreadsheet would take for a formula gets ``./`` before it."""
    return "./" + path if path.startswith(_FORMULA) else path


def defused(word: str) -> str:
    """A word that a spreadsheet would take for a formula gets a leading ``'``."""
    # A word that has such quotes already gets one more, so that taking one away always gives the word back.
    return "'" + word if word.lstrip("'").startswith(_FORMULA) else word


def _plain(word: str) -> str:
    return word[1:] if word.startswith("'") and word.lstrip("'").startswith(_FORMULA) else word


def encode(fields: Sequence[str]) -> bytes:
    """One line of the CSV; bytes of a name that are not UTF-8 become ``\\xNN``."""
    return to_line(fields).encode("utf-8", "backslashreplace")


def read_records(file: BinaryIO, name: str) -> Iterator[tuple[list[str], int]]:
    """Whole CSV records of a file and the offset at which each ends; a torn last one is left out.

    Raises:
        OutputError: a line in the middle is no CSV or not UTF-8.
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
            raise OutputError(
                f"a row is damaged: {error}", where=f"{name}:{line}", do="repeat with --restart to begin anew"
            ) from None
        yield fields, end
