"""Whether a photo's rows follow from their own numbers: what can be checked without the photo or the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from gendercls.answers import Answers, IndependentAnswers
from gendercls.rows import NO_FACE, UNCERTAIN, Columns, Row

_SHARE = re.compile(r"0\.[0-9]{6}|1\.0{6}")
_WHOLE = re.compile(r"0|[1-9][0-9]*")


def contradictions(
    rows: Sequence[Row], columns: Columns, threshold: float, *, may_be_torn: bool = False
) -> Iterator[str]:
    """What the rows of one photo say that does not follow from their own numbers: one fault of each, at most.

    Args:
        threshold: the confidence below which a row is uncertain.
        may_be_torn: whether the photo may have had more rows.
    """
    if columns.has_faces and (fault := _fault_of_faces(rows)):
        yield fault
    for row in rows:
        fault = _fault_of_answer(row, columns.answers, threshold) if row.confidence else _fault_without_answer(row)
        is_scored = not columns.has_faces or (len(rows) == 1 and len(row.face) > 1)
        if not fault and (row.correct or not (columns.has_faces and may_be_torn)):
            fault = _fault_of_score(row, is_scored=is_scored)
        if fault:
            yield fault


def sums(rows: Sequence[Row], answers: Answers) -> Iterator[str]:
    """Where probabilities that have to sum to 1 do not, but for their rounding: an edit, or a fault of the model."""
    if isinstance(answers, IndependentAnswers):
        return
    for row in rows:
        total = sum(map(float, row.probabilities))
        if row.probabilities and abs(total - 1) > 1e-6 * len(row.probabilities):
            yield f"has probabilities that sum to {total:.6f}"


def _fault_of_answer(row: Row, answers: Answers, threshold: float) -> str:
    if row.error:
        return f"has probabilities and an error: {row.error!r}"
    if not all(map(_SHARE.fullmatch, row.probabilities)):
        return "has a probability that is not written with 6 decimals"
    probabilities = np.array([row.probabilities], np.float64)
    confidence = answers.confidence(probabilities)[0]
    if row.confidence != f"{confidence:.6f}":
        return f"has the confidence {row.confidence!r}; its probabilities give {confidence:.6f}"
    label = answers.labels(probabilities)[0] if confidence >= threshold else UNCERTAIN
    if row.label != label:
        return f"has the label {row.label or 'of none'!r}; its probabilities give {label!r}"
    return ""


def _fault_without_answer(row: Row) -> str:
    if row.probabilities:
        return "has probabilities and no confidence"
    if row.label == NO_FACE and row.face == ("0",) and not row.error:
        return ""
    if row.label:
        return f"has the label {row.label!r} and no probabilities"
    return "" if row.error else "has neither an answer nor an error"


def _fault_of_score(row: Row, *, is_scored: bool) -> str:
    correct = str(int(row.label == row.truth)) if is_scored and row.truth else ""
    if row.correct != correct:
        return f"has {row.correct!r} as correct, where it should have {correct!r}"
    return ""


def _fault_of_faces(rows: Sequence[Row]) -> str:
    faces = [row.face for row in rows]
    if faces == [()]:
        return "" if rows[0].error else "has neither a face nor an error"
    if faces == [("0",)]:
        return "" if rows[0].label == NO_FACE else f"has no face, and the label {rows[0].label!r}"
    if not all(len(face) > 1 for face in faces):
        return "has rows with a face and rows without"
    if [face[0] for face in faces] != [str(number) for number in range(1, len(faces) + 1)]:
        return f"has faces numbered {', '.join(face[0] for face in faces)}"
    if not all(_WHOLE.fullmatch(number) for face in faces for number in face[1:5]):
        return "has a box that is not in whole numbers"
    if not all(_SHARE.fullmatch(face[5]) for face in faces):
        return "has a face_confidence that is no share of 6 decimals"
    boxes = [tuple(map(int, face[1:5])) for face in faces]
    return "" if boxes == sorted(boxes) else "has faces that are not in the order of their boxes"
