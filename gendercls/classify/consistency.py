"""Whether each row of a CSV follows from its own numbers: what can be checked without a photo or a model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import Answers, IndependentAnswers
from gendercls.preds import Predictions
from gendercls.rows import NO_FACE, UNCERTAIN, Row

_SHARE = re.compile(r"[01]\.\d{6}")


def contradictions(preds: Predictions, answers: Answers, threshold: float) -> Iterator[tuple[str, str]]:
    """The paths of the rows that say what does not follow from their own numbers, and what that is.

    Args:
        answers: how the model's probabilities are read.
        threshold: the confidence below which a row is uncertain.
    """
    known = np.nan_to_num(preds.probabilities)
    labels, confidence = answers.labels(known), answers.confidence(known).tolist()
    is_whole = _is_whole(answers, preds.probabilities)
    for numbers in preds.photos:
        rows = [preds.rows[number] for number in numbers]
        if preds.columns.has_faces and (fault := _fault_of_faces(rows)):
            yield rows[0].path, fault
        for number, row in zip(numbers, rows, strict=True):
            label = labels[number] if preds.confidence[number] >= threshold else UNCERTAIN
            fault = (
                _fault_of_answer(row, preds.probabilities[number], label, confidence[number], is_whole[number])
                if preds.has_answer[number]
                else _fault_without_answer(row, preds.probabilities[number])
            )
            if fault := fault or _fault_of_score(row, rows, has_faces=preds.columns.has_faces):
                yield row.path, fault


def _is_whole(answers: Answers, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows' probabilities sum to 1 but for their rounding, where they have to."""
    if isinstance(answers, IndependentAnswers):
        return np.ones(len(probabilities), np.bool_)
    rounding = 1e-6 * probabilities.shape[1]
    whole: NDArray[np.bool_] = np.abs(probabilities.sum(axis=1) - 1) <= rounding
    return whole


def _fault_of_answer(
    row: Row, probabilities: NDArray[np.float64], label: str, confidence: float, is_whole: np.bool_
) -> str:
    if row.error:
        return f"has probabilities and an error: {row.error}"
    if row.probabilities != tuple(f"{probability:.6f}" for probability in probabilities):
        return "has a probability that is not written with 6 decimals"
    if not is_whole:
        return f"has probabilities that sum to {probabilities.sum():.6f}"
    if row.confidence != f"{confidence:.6f}":
        return f"has the confidence {row.confidence}; its probabilities give {confidence:.6f}"
    if row.label != label:
        return f"has the label {row.label or 'of none'!r}; its probabilities give {label!r}"
    return ""


def _fault_without_answer(row: Row, probabilities: NDArray[np.float64]) -> str:
    if not np.isnan(probabilities).all():
        return "has probabilities and no confidence"
    if row.label == NO_FACE and row.face == ("0",) and not row.error:
        return ""
    if row.label:
        return f"has the label {row.label!r} and no probabilities"
    return "" if row.error else "has neither an answer nor an error"


def _fault_of_score(row: Row, rows: list[Row], *, has_faces: bool) -> str:
    """Of ``correct``: with faces, a truth is that of a photo's only face."""
    is_scored = row.truth != "" and (not has_faces or (len(rows) == 1 and len(row.face) > 1))
    correct = str(int(row.label == row.truth)) if is_scored else ""
    if row.correct != correct:
        return f"has {row.correct or 'nothing'} as correct, where it should have {correct or 'nothing'}"
    return ""


def _fault_of_faces(rows: list[Row]) -> str:
    faces = [row.face for row in rows]
    if faces == [()]:
        return "" if rows[0].error else "has neither a face nor an error"
    if faces == [("0",)]:
        return "" if rows[0].label == NO_FACE else f"has no face, and the label {rows[0].label!r}"
    if not all(len(face) > 1 for face in faces):
        return "has rows with a face and rows without"
    if [face[0] for face in faces] != [str(number) for number in range(1, len(faces) + 1)]:
        return f"has faces numbered {', '.join(face[0] for face in faces)}"
    if not all(_SHARE.fullmatch(face[5]) for face in faces):
        return "has a face_confidence that is no share of 6 decimals"
    boxes = [tuple(map(int, face[1:5])) for face in faces]
    return "" if boxes == sorted(boxes) else "has faces that are not in the order of their boxes"
