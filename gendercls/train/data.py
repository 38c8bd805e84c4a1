"""Which photos a run trains on: labels read, classes formed, photos opened once, parts divided, all of it told."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import answers_for
from gendercls.errors import LabelError, RecipeError
from gendercls.labels import ALL_ATTRIBUTES, ClassRule, Labels, read_labels
from gendercls.labels.rules import opinions_in
from gendercls.labels.splits import PARTS, SplitMode, make_split, split_mode
from gendercls.train.audit.findings import LabelledPhotos, short_audit
from gendercls.train.audit.photos import PhotoCheck, check_photos
from gendercls.train.dataset import PhotoSet
from gendercls.train.recipe import Recipe

Say = Callable[[str], None]
Classes = tuple[ClassRule, ...] | str | None
"""Rules of classes that exclude each other; ``all`` for each attribute by itself; None lets the data decide."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """N photos that can be used, with targets and part.

    keys: ``[N]`` paths below labels.root. digests: SHA-256 of each file, ``[N]``. targets: int8 ``[N, K]`` as in
    `PhotoSet`. parts: str ``[N]``. digest: SHA-256 over keys, targets, parts and contents. independent: whether
    each class is an attribute by itself.
    """

    labels: Labels
    classes: tuple[ClassRule, ...]
    independent: bool
    mode: SplitMode
    keys: list[str]
    digests: list[str]
    targets: NDArray[np.int8]
    parts: NDArray[np.str_]
    digest: str

    def photos(self, part: str) -> PhotoSet:
        """The photos of a part, in the order of the labels."""
        chosen = np.flatnonzero(self.parts == part)
        return PhotoSet([self.labels.root / self.keys[n] for n in chosen], self.targets[chosen])

    def digests_of(self, part: str) -> list[str]:
        """SHA-256 of the files of `photos`, in the same order."""
        return [self.digests[n] for n in np.flatnonzero(self.parts == part)]

    @property
    def names(self) -> list[str]:
        return [rule.name for rule in self.classes]


def prepare(data: Path, classes: Classes, split: SplitMode | None, seed: int, recipe: Recipe, say: Say) -> PreparedData:
    """Read labels, form classes, find the photos, open each once, and divide them. Says what was taken.

    Raises:
        LabelError: nothing usable, or the split that is asked for is not to be had.
        RecipeError: the recipe needs a validation part and there is none.
    """
    labels = read_labels(data)
    for note in labels.notes:
        say(note)
    if labels.weight is not None:
        say("warning: the labels have weights, which training does not use: each labelled photo counts once")
    say(f"licence of the data: {labels.licence}")
    independent = classes == ALL_ATTRIBUTES
    rules, targets, is_used = class_targets(labels, classes)
    left_out: Counter[str] = Counter()
    left_out["no attribute is known" if independent else "no class rule covers them"] = int((~is_used).sum())
    used = np.flatnonzero(is_used)
    checks = _open_photos(labels, is_used, left_out, recipe, say)
    digests = {int(number): check.digest for number, check in zip(used, checks, strict=True)}
    mode = split_mode(labels, split)
    parts = _divide(labels, np.where(is_used, 0 if independent else targets.argmax(axis=1), -1), mode, recipe, seed)
    left_out["in no part of the split"] = int(((parts == "") & is_used).sum())
    _limit(parts, recipe, seed, left_out, say)
    if recipe.keep == "best" and not (parts == "val").any():
        raise RecipeError(
            "keep = 'best' chooses by the validation part, and there is none",
            where=f"the {mode} split of {labels.source}, val_fraction = {recipe.val_fraction}",
            do="--set keep=last, or --set val_fraction=0.1",
        )
    kept = np.flatnonzero(parts != "")
    prepared = PreparedData(
        labels,
        rules,
        independent,
        mode,
        [labels.keys[n] for n in kept],
        [digests[int(n)] for n in kept],
        targets[kept],
        parts[kept],
        _digest(labels, targets, parts, digests, kept),
    )
    _tell(prepared, left_out, say)
    identity = None if labels.identity is None else labels.identity[used]
    keys = [labels.keys[n] for n in used]
    for line in short_audit(
        LabelledPhotos(checks, keys, targets[used], prepared.names, independent, identity, parts[used])
    ):
        say(line)
    return prepared


def class_targets(
    labels: Labels, classes: Classes
) -> tuple[tuple[ClassRule, ...], NDArray[np.int8], NDArray[np.bool_]]:
    """The rules of K classes, the targets of N photos, int8 ``[N, K]``, and which of them have one, ``[N]``.

    Raises:
        LabelError: the labels do not have what the classes need.
    """
    if classes == ALL_ATTRIBUTES:
        rules = labels.attribute_rules()
        targets = labels.assign_each(rules)
        return rules, targets, np.asarray((targets >= 0).any(axis=1))
    rules = classes if isinstance(classes, tuple) else labels.default_classes()
    targets = (labels.assign(rules)[:, None] == np.arange(len(rules))).astype(np.int8)  # one-hot; 0 without a class
    return rules, targets, np.asarray((targets == 1).any(axis=1))


def _open_photos(
    labels: Labels, is_used: NDArray[np.bool_], left_out: Counter[str], recipe: Recipe, say: Say
) -> list[PhotoCheck]:
    """What each used photo holds. Those that cannot be used are counted, named, and used no more."""
    used = np.flatnonzero(is_used)
    say(f"opening {len(used):,} photos")
    checks = check_photos([labels.root / labels.keys[n] for n in used], recipe.preprocessing())
    named = []
    for number, check in zip(used, checks, strict=True):
        if check.reason:
            is_used[number] = False
            left_out[check.reason] += 1
            named.append(f"{labels.keys[number]}: {check.reason}")
    for line in named[:5]:
        say(f"left out: {line}")
    if not is_used.any():
        reason, count = left_out.most_common(1)[0]
        raise LabelError(
            f"none of the {len(labels):,} labelled photos can be used: {reason} ({count:,})",
            where=str(labels.root),
            do="check that the photos lie there under the names that the labels use",
        )
    return checks


def _divide(labels: Labels, assigned: NDArray[np.intp], mode: SplitMode, recipe: Recipe, seed: int) -> NDArray[np.str_]:
    fractions = {"val_fraction": recipe.val_fraction, "test_fraction": recipe.test_fraction}
    parts = make_split(labels, assigned, mode, **fractions, seed=seed)
    if (parts == "train").sum() < 2:
        raise LabelError("the train part has one photo; two are needed", where=labels.source, do="give more photos")
    return parts


def _limit(parts: NDArray[np.str_], recipe: Recipe, seed: int, left_out: Counter[str], say: Say) -> None:
    """Take out of the parts what the recipe does not want, at random."""
    for stream, (part, wanted) in enumerate((("train", recipe.train_photos), ("test", recipe.test_photos))):
        there = np.flatnonzero(parts == part)
        if not wanted:
            continue
        if len(there) < wanted:
            say(f"{part}: the recipe asks for {wanted:,} photos; there are {len(there):,}")
        too_many = np.random.default_rng((seed, stream)).permutation(there)[wanted:]
        left_out[f"more than {part}_photos = {wanted:,}"] = len(too_many)
        parts[too_many] = ""


def _digest(
    labels: Labels,
    targets: NDArray[np.int8],
    parts: NDArray[np.str_],
    digests: dict[int, str],
    kept: NDArray[np.intp],
) -> str:
    total = hashlib.sha256()
    for number in kept.tolist():
        row = f"{labels.keys[number]}\0{targets[number].tolist()}\0{parts[number]}\0{digests[number]}\n"
        total.update(row.encode("utf-8", "surrogateescape"))  # a name on disk need not be UTF-8
    return total.hexdigest()


def _tell(data: PreparedData, left_out: Counter[str], say: Say) -> None:
    if data.independent:
        say(f"{len(data.classes)} attributes, each by itself: {', '.join(data.names)}")
    else:
        say("classes: " + ", ".join(f"{c.name} = {c.rule}" for c in data.classes))
    if opinions := opinions_in(data.classes):
        say(f"warning: labels of {', '.join(opinions)} are opinions of labellers; another labeller may say otherwise")
    for part in PARTS:
        of_part = data.targets[data.parts == part]
        shares = "" if data.independent or not len(of_part) else f" ({_counts(of_part, data.names)})"
        say(f"{part}: {len(of_part):,} photos{shares}, split {data.mode}")
    for reason, count in left_out.most_common():
        if count:
            say(f"left out: {reason} ({count:,})")


def _counts(targets: NDArray[np.int8], names: list[str]) -> str:
    return ", ".join(f"{n:,} {name}" for n, name in zip((targets == 1).sum(axis=0), names, strict=True))


def split_rows(data: PreparedData) -> list[list[str]]:
    """The rows of ``split.csv``: a label file with each photo's part and class, or each of its attributes."""
    if not data.independent:
        words = answers_for(False, data.names).truth(data.targets)
        return [["path", "split", "class"], *map(list, zip(data.keys, data.parts.tolist(), words, strict=True))]
    meaning = {1: "1", 0: "0", -1: ""}
    rows = zip(data.keys, data.parts.tolist(), data.targets.tolist(), strict=True)
    return [["path", "split", *data.names], *([key, part, *map(meaning.__getitem__, row)] for key, part, row in rows)]
