"""What labels say of each row of a preds.csv: its truth, its groups, and for how many photos it stands."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels import Labels, read_labels, rules
from gendercls.labels.match import LabelIndex
from gendercls.labels.table import CLASS_COLUMN, UNDETERMINED
from gendercls.preds import Predictions
from gendercls.shares import HandLabels
from gendercls.slices import Values
from gendercls.sources import readable_name

MOST_VALUES = 50
"""A column of more values, such as names of people, makes no groups."""

FOLDER = "folder"


@dataclass(frozen=True)
class Labelled:
    """Of N rows. source: the labels, in words. truth: the label that would be right, empty where that is not known, as
    of a photo's faces where it has not just one.

    is_undetermined: bool ``[N]``, a labeller could not tell. attributes: values ``[N]`` of everything but the classes
    themselves, empty where unknown. weight: float64 ``[N]``, for how many photos a row stands that was drawn to be
    labelled by hand, NaN for all others; None where the labels have no weights. stratum: ``[N]``, where it was drawn.
    matches: how many rows were matched by path, by name, or not. has_weights: whether the labels were drawn unevenly,
    also where a CSV kept what they said and not their weights. of_faces: whether each face has a label of its own.
    """

    source: str
    truth: tuple[str, ...]
    is_undetermined: NDArray[np.bool_]
    attributes: dict[str, Values] = field(default_factory=dict)
    weight: NDArray[np.float64] | None = None
    stratum: Values | None = None
    matches: Counter[str] = field(default_factory=Counter)
    has_weights: bool = False
    of_faces: bool = False

    @property
    def has_truth(self) -> NDArray[np.bool_]:
        return np.array([word != "" for word in self.truth], np.bool_)


def label_rows(preds: Predictions, path: Path | None) -> Labelled:
    """The labels of a file or folder or, without one, those that the CSV has in its own column.

    Raises:
        LabelError: they cannot be read, do not have what the classes need, or none is of these photos.
    """
    folders = _folders(preds)
    if path is None:
        truth = _about_rows(preds, tuple(row.truth for row in preds.rows))
        drawn = preds.record is not None and preds.record.labels_weighted
        source = "the CSV’s column truth" + ", which has labels drawn unevenly and not their weights" * drawn
        return Labelled(source, truth, np.zeros(len(preds), np.bool_), folders, has_weights=drawn)
    labels = read_labels(path)
    numbers, matches = _matched(preds, labels)
    if not (numbers >= 0).any():
        raise LabelError(
            f"none of the {len(preds):,} rows is in the labels",
            where=str(path),
            do="give the labels of these photos; they match by path, else by a file name that only one has",
        )
    truth = _truth(preds, labels, numbers)
    truth = truth if labels.of_faces else _about_rows(preds, truth)
    words = labels.columns.get(CLASS_COLUMN)
    return Labelled(
        labels.source,
        truth,
        np.zeros(len(preds), np.bool_) if words is None else _taken(words, numbers) == UNDETERMINED,
        _attributes(preds, labels, numbers, truth) | folders,
        None if labels.weight is None else np.where(numbers >= 0, labels.weight[numbers], np.nan),
        None if labels.stratum is None else _taken(labels.stratum, numbers),
        matches,
        labels.weight is not None,
        labels.of_faces,
    )


def is_its_photo(preds: Predictions) -> NDArray[np.bool_]:
    """Which rows a photo's truth is about, ``[N]``: where faces were looked for, that of its only one."""
    if not preds.columns.has_faces:
        return np.ones(len(preds), np.bool_)
    alone = np.zeros(len(preds), np.bool_)
    alone[[rows[0] for rows in preds.photos if len(rows) == 1 and len(preds.rows[rows[0]].face) > 1]] = True
    return alone


def _about_rows(preds: Predictions, truth: tuple[str, ...]) -> tuple[str, ...]:
    """What is true of photos, for the rows that stand for theirs."""
    return tuple(word if is_alone else "" for word, is_alone in zip(truth, is_its_photo(preds).tolist(), strict=True))


def disputed_rows(preds: Predictions, labelled: Labelled) -> list[int]:
    """The numbers of the rows with a label that is not the truth, the surest first."""
    wrong = [
        number
        for number, (row, truth) in enumerate(zip(preds.rows, labelled.truth, strict=True))
        if truth and preds.has_label[number] and row.label != truth
    ]
    return sorted(wrong, key=lambda number: -preds.confidence[number])


def hand_labels(
    preds: Predictions, labelled: Labelled, scores: NDArray[np.float64], is_so: NDArray[np.bool_]
) -> HandLabels | None:
    """What was said by hand of a sample that was drawn from the rows with an answer; None where the labels are none.

    Args: scores, is_so: of all rows, ``[N]``: what the model says, and what the labels say where they are known.

    Raises:
        LabelError: a weight is none, they stand for other photos than these, or a stratum has too few of them.
    """
    if labelled.weight is None:
        return None
    chosen = preds.has_answer & (labelled.has_truth | labelled.is_undetermined)
    weight = labelled.weight[chosen]
    if not ((weight > 0) & (weight < np.inf)).all():
        raise LabelError(
            "a weight is no number above 0: each says for how many photos its row stands",
            where=labelled.source,
            do="give labels.csv as the sheet of gendercls sample saved it, or leave out the column",
        )
    names = weight.astype(str) if labelled.stratum is None else labelled.stratum[chosen]
    _, stratum = np.unique(names, return_inverse=True)
    sizes, drawn = np.bincount(stratum, weight), np.bincount(stratum)
    total, answered = float(sizes.sum()), int(preds.has_answer.sum())
    if abs(total - answered) > max(1.0, 1e-6 * answered):
        raise LabelError(
            f"the hand labels stand for {total:,.0f} photos, and {answered:,} here have an answer",
            where=labelled.source,
            do="give the labels of a sample of this very CSV",
        )
    if ((drawn < 2) & (sizes > drawn + 0.5)).any():
        raise LabelError(
            "a stratum has fewer than two hand labels, so nothing can be said of its error",
            where=labelled.source,
            do="label more of the sheet, and save it again",
        )
    truth = np.where(labelled.is_undetermined, np.nan, is_so)[chosen]
    return HandLabels(scores[chosen], truth, stratum, np.maximum(sizes, drawn))


def _matched(preds: Predictions, labels: Labels) -> tuple[NDArray[np.intp], Counter[str]]:
    """The label of each row, -1 for none; where labels are of photos and rows of faces, of photos with one face."""
    index = LabelIndex([key if key.isascii() else readable_name(os.fsencode(key)) for key in labels.keys])
    inputs = preds.record.inputs if preds.record is not None else ()
    above = f"{inputs[0].rstrip('/')}/" if len(inputs) == 1 else ""
    faces = Counter(row.path for row in preds.rows) if preds.columns.has_faces and not labels.of_faces else Counter()
    matches: Counter[str] = Counter()
    numbers = np.full(len(preds), -1, np.intp)
    for place, row in enumerate(preds.rows):
        if faces[row.path] > 1:
            matches["several faces"] += 1
            continue
        face = f"/{row.face[0] if row.face else 0}" if labels.of_faces else ""
        match, number = index.find(above + row.path.removeprefix("./") + face)
        if match == "name" and labels.of_faces:  # the name would be the face's number alone
            match, number = "missing", -1
        numbers[place] = number
        matches[match] += 1
    return numbers, matches


def _truth(preds: Predictions, labels: Labels, numbers: NDArray[np.intp]) -> tuple[str, ...]:
    targets = labels.truth_for(preds.classes, independent=preds.independent)
    names = np.array([*preds.answers.truth(targets), ""], np.str_)
    return tuple(str(name) for name in names[numbers])


def _taken(words: NDArray[np.str_], numbers: NDArray[np.intp]) -> Values:
    """Of each row; empty where it has no label."""
    return np.where(numbers >= 0, words[numbers], "")


def _attributes(
    preds: Predictions, labels: Labels, numbers: NDArray[np.intp], truth: tuple[str, ...]
) -> dict[str, Values]:
    """All that the labels tell beside the classes: what tells those too would only say that wrong answers are wrong."""
    words = np.array(["no", "yes", ""])
    every = {name: _taken(words[flags], numbers) for name, flags in labels.flags.items()}
    every |= {name: _taken(column, numbers) for name, column in labels.columns.items()}
    read = {name for rule in preds.classes for name in rules.attributes_of(rule.rule)}
    is_true = np.array(truth)
    return {
        name: values
        for name, values in every.items()
        if name not in read and 2 <= len(found := _values(values)) <= MOST_VALUES and not _tells(values, found, is_true)
    }


def _values(values: Values) -> list[str]:
    return [value for value in np.unique(values).tolist() if value]


def _tells(values: Values, found: Sequence[str], truth: Values) -> bool:
    """Whether each value goes with one truth alone. found: the values that there are."""
    truths = [set(np.unique(truth[values == value]).tolist()) - {""} for value in found]
    return max(map(len, truths)) <= 1 and len(set().union(*truths)) > 1


def _folders(preds: Predictions) -> dict[str, Values]:
    """The folder that each photo lies in, where there are several and not too many."""
    folders = np.array([row.path.rpartition("/")[0] or "." for row in preds.rows], np.str_)
    return {FOLDER: folders} if 2 <= len(_values(folders)) <= MOST_VALUES else {}
