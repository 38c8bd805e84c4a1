"""What the labels say of each photo, in the classes of a model."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gendercls.answers import answers_for
from gendercls.errors import LabelError
from gendercls.labels import ClassRule, Labels, read_labels
from gendercls.labels.match import LabelIndex
from gendercls.sources import Photo, readable_name


class TruthTable:
    """Labels matched to photos; counts how that went. Their weights are not used: has_weights tells of them.

    Args:
        path: a label file or folder.
        classes: a model's, which the labels are read in.
        independent: whether each class is an attribute by itself.
        split: keep only photos of this part of the labels' split.

    Raises:
        LabelError: the labels cannot be read, are of faces, do not have what the classes need, or have no such split.
    """

    def __init__(self, path: Path, classes: tuple[ClassRule, ...], *, independent: bool, split: str | None) -> None:
        labels = read_labels(path)
        if labels.of_faces:
            raise LabelError(
                "these labels are of faces, and here those of photos are needed",
                where=str(path),
                do="give them to gendercls report or gendercls compare",
            )
        self.source = labels.source
        self.has_weights = labels.weight is not None
        self.path = path
        self.split = split
        answers = answers_for(independent, [rule.name for rule in classes])
        self._names = answers.truth(labels.truth_for(classes, independent=independent))
        self._splits = _splits(labels, split)
        keys = [readable_name(os.fsencode(key)) for key in labels.keys]  # as photos are called
        self._index = LabelIndex(keys)
        self.matches: Counter[str] = Counter()
        digest = hashlib.sha256()
        for row in zip(keys, self._names, self._splits or [""] * len(labels), strict=True):
            digest.update("\0".join(row).encode() + b"\n")
        self.sha256 = digest.hexdigest()

    def of(self, photo: Photo) -> str:
        """What the photo's label should be. Counted.

        Empty when no label matches, or the one that does leaves it open: no class covers it, an attribute is unknown.
        """
        match, number = self._index.find(photo.path)
        self.matches[match] += 1
        truth = self._names[number] if number >= 0 else ""
        if number >= 0 and not truth:
            self.matches["open"] += 1
        return truth

    def is_in_split(self, photo: Photo) -> bool:
        """Whether the photo is in the asked part; any photo, when none was asked for."""
        if self._splits is None:
            return True
        _, number = self._index.find(photo.path)
        return number >= 0 and self._splits[number] == self.split

    def check_belongs(self, photos: Iterable[Photo]) -> None:
        """Raises LabelError when no photo has a label: then these are labels of other photos. Ends at the first."""
        missing, count, is_known = "", 0, False
        for photo in photos:
            count += 1
            match, number = self._index.find(photo.path)
            is_known = is_known or number >= 0
            if is_known and self.is_in_split(photo):
                return
            missing = missing or f"{'several' if match == 'ambiguous' else 'no'} {photo.key}"
        if is_known:
            raise LabelError(
                f"none of the photos ({count:,}) is in the part {self.split!r}",
                where=str(self.path),
                do="name another --split, or other photos",
            )
        raise LabelError(
            f"none of the photos ({count:,}) is in the labels",
            where=f"{self.path}, which has {missing}",
            do="give the labels of these photos; they match by relative path, else by a file name that only one has",
        )


def _splits(labels: Labels, split: str | None) -> list[str] | None:
    if split is None:
        return None
    if labels.split is None:
        raise LabelError(
            "the labels do not say which photo is in which part", where=labels.source, do="leave out --split"
        )
    return [str(part) for part in labels.split]
