"""Which real photos an export looks at, and what their labels say."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import UsageError
from gendercls.labels import Labels, read_labels
from gendercls.labels.match import LabelIndex
from gendercls.sources import Photo, PhotoFile, readable_name
from gendercls.spec import ModelSpec

T = TypeVar("T")


def photos_of_run(
    checkpoint_path: Path, checkpoint: dict[str, Any], part: str, most: int, *, purpose: str, do: str
) -> list[Photo]:
    """Photos of a part of the run's own split: all, or that many, evenly from the first to the last.

    Args: purpose, do: what needs them, and what to do without them, for the person.

    Raises:
        UsageError: the run's split or its photos are not here.
    """
    split = checkpoint_path.with_name("split.csv")
    folder = Path(checkpoint["record"]["photos_folder"])
    if not split.exists() or not folder.is_dir():
        raise UsageError(
            f"{purpose} needs real photos, and the run's own are not here",
            where=f"{split if not split.exists() else folder}",
            do=do,
        )
    with split.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        keys = [os.fsencode(row["path"]) for row in csv.DictReader(file) if row["split"] == part]
    return [PhotoFile(readable_name(key), os.path.join(os.fsencode(folder), key)) for key in evenly(keys, most)]


def evenly(things: Sequence[T], most: int) -> list[T]:
    """All, or that many, evenly from the first to the last."""
    chosen = np.linspace(0, len(things) - 1, min(most, len(things)), dtype=int)
    return [things[number] for number in chosen.tolist()]


@dataclass(frozen=True, slots=True)
class Truth:
    """What labels say of those M of N photos that have one.

    matched: their numbers, ``[M]``. targets: int8 ``[M, K]``. parts, groups: ``[M]``, the part of the labels' split and
    race and class where the labels have them, empty where not. has_weights: whether the labels do; none counts here.
    """

    source: str
    matched: NDArray[np.intp]
    targets: NDArray[np.int8]
    parts: NDArray[np.str_]
    groups: NDArray[np.str_]
    has_weights: bool


def truth_of(photos: Sequence[Photo], label_file: Path, spec: ModelSpec) -> Truth:
    """Raises LabelError where the labels cannot be read or do not have what the classes need."""
    labels = read_labels(label_file)
    index = LabelIndex(labels.keys)
    found = np.array([index.find(photo.path)[1] for photo in photos], np.intp)
    matched = np.flatnonzero(found >= 0)
    rows = found[matched]
    targets = labels.truth_for(spec.classes, independent=spec.independent)[rows]
    parts = labels.split[rows] if labels.split is not None else np.full(len(rows), "")
    groups = _groups(labels, rows, spec.answers.truth(targets))
    return Truth(labels.source, matched, targets, parts, groups, labels.weight is not None)


def _groups(labels: Labels, rows: NDArray[np.intp], words: list[str]) -> NDArray[np.str_]:
    races = labels.columns.get("race")
    if races is None:
        return np.array(words)
    return np.array([f"{race}, {word}" if race and word else "" for race, word in zip(races[rows], words, strict=True)])
