"""``predictions.csv``: what the kept weights answered on each photo, and which of their mistakes are the worst."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from gendercls.answers import Answers
from gendercls.report.fields import damaged, read_text


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of the test part. truth is empty and is_right None where the photo's labels are not all known.

    path: below the photos folder; bytes that are not UTF-8 are surrogates. probabilities: one per class, in [0, 1].
    """

    path: str
    label: str
    confidence: float
    truth: str
    is_right: bool | None
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong answer. about: the attribute that it is about, empty where a photo has one class.

    labelled, answered: in words. sureness: the probability given to the answer, in [0, 1]. others: how many more
    attributes of the photo were answered wrongly.
    """

    path: str
    about: str
    labelled: str
    answered: str
    sureness: float
    others: int


def read_predictions(path: Path, answers: Answers) -> tuple[Prediction, ...] | None:
    """The test part's rows, None where there is no such file. Raises ModelError that names the line."""
    text = read_text(path)
    if text is None:
        return None
    shares = [f"p_{name}" for name in answers.names]
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        if next(rows, []) != ["path", "split", "label", "confidence", *shares, "truth", "correct"]:
            raise ValueError("its columns are not those of this run's classes")
        for fields in rows:
            if len(fields) != 6 + len(shares):
                raise ValueError(f"{len(fields)} fields instead of {6 + len(shares)}")
            if fields[1] == "test":
                found.append(_prediction(fields, answers))
    except (csv.Error, ValueError) as error:
        raise damaged(f"predictions.csv is damaged: {error}", f"{path}:{rows.line_num}") from None
    return tuple(found)


def worst_mistakes(predictions: tuple[Prediction, ...], answers: Answers, *, is_independent: bool) -> list[Mistake]:
    """Every wrong answer, the surest first; of independent attributes, each photo's surest wrong one."""
    wrong = [row for row in predictions if row.is_right is False]
    mistakes = [_attribute_mistake(row, answers) if is_independent else _class_mistake(row) for row in wrong]
    return sorted(mistakes, key=lambda mistake: (-mistake.sureness, mistake.path))


def _prediction(fields: list[str], answers: Answers) -> Prediction:
    path, _, label, confidence, *shares, truth, correct = fields
    if (truth, correct) != ("", "") and (not truth or correct not in ("0", "1")):
        raise ValueError(f"truth is {truth!r} and correct is {correct!r}")
    for word in filter(None, (label, truth)):
        answers.classes_in(word)
    is_right = correct == "1" if correct else None
    return Prediction(path, label, _share(confidence), truth, is_right, tuple(map(_share, shares)))


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is no probability")
    return value


def _class_mistake(row: Prediction) -> Mistake:
    return Mistake(row.path, "", row.truth, row.label, row.confidence, 0)


def _attribute_mistake(row: Prediction, answers: Answers) -> Mistake:
    """The attribute whose true part was given the lowest probability stands for the photo."""
    true = set(answers.classes_in(row.truth))
    given_to_truth = [p if number in true else 1 - p for number, p in enumerate(row.probabilities)]
    lowest = min(given_to_truth)
    worst = given_to_truth.index(lowest)
    labelled, answered = ("yes", "no") if worst in true else ("no", "yes")
    wrong = true ^ set(answers.classes_in(row.label))
    return Mistake(row.path, answers.names[worst], labelled, answered, 1 - lowest, len(wrong - {worst}))
