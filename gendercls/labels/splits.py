"""Who trains, who validates, who tests."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels.table import Labels

SplitMode = Literal["official", "identity", "stratified"]
PARTS = ("train", "val", "test")


def split_mode(labels: Labels, asked: SplitMode | None) -> SplitMode:
    """The asked mode; without one, the data's own split if it has all three parts, else by identity where known."""
    if asked is not None:
        return asked
    if labels.split is not None and set(PARTS) <= set(labels.split):
        return "official"
    return "identity" if labels.identity is not None else "stratified"


def make_split(
    labels: Labels,
    assigned: NDArray[np.intp],
    mode: SplitMode,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> NDArray[np.str_]:
    """Each photo's part: str ``[N]`` of ``train``, ``val``, ``test``, empty for photos without a class.

    Args:
        labels: N photos.
        assigned: class indices ``[N]``, -1 for none.
        mode: ``official`` is the data's own; ``identity`` keeps each person in one part; ``stratified`` keeps the
            share of each class.
        val_fraction, test_fraction: shares of the photos, 0 to 1; not used by ``official``. A val_fraction of 0
            leaves the val part empty.
        seed: of the shuffle.

    Raises:
        LabelError: the data does not allow the mode, or a part would be empty.
    """
    used = assigned >= 0
    if mode == "official":
        split = _official(labels, used)
    elif mode == "identity":
        split = _by_group(_identities(labels), used, val_fraction, test_fraction, seed)
    else:
        split = _stratified(assigned, val_fraction, test_fraction, seed)
    needed = [part for part in PARTS if part != "val" or val_fraction > 0]
    if empty := [part for part in needed if not (split == part).any()]:
        raise LabelError(
            f"the {mode} split has no {' and no '.join(empty)} photos",
            where=labels.source,
            do="give more photos" if mode != "official" else "choose --split identity or --split stratified",
        )
    return split


def _official(labels: Labels, used: NDArray[np.bool_]) -> NDArray[np.str_]:
    if labels.split is None:
        raise LabelError(
            "the data has no split of its own", where=labels.source, do="choose --split identity or --split stratified"
        )
    return np.where(used, labels.split, "")


def _identities(labels: Labels) -> NDArray[np.int64]:
    """A number per person; photos of nobody known are persons of their own."""
    if labels.identity is None:
        raise LabelError(
            "the data does not say who is in which photo",
            where=labels.source,
            do="choose --split stratified, or put identity_CelebA.txt (a column 'identity' in a CSV) beside the labels",
        )
    alone = labels.identity < 0
    return np.where(alone, labels.identity.max() + 1 + np.arange(len(labels)), labels.identity)


def _by_group(
    groups: NDArray[np.int64], used: NDArray[np.bool_], val_fraction: float, test_fraction: float, seed: int
) -> NDArray[np.str_]:
    names, inverse, counts = np.unique(groups[used], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    total = counts.sum()
    part = np.full(len(names), "train", dtype="<U5")
    part[order[before < total * (val_fraction + test_fraction)]] = "val"
    part[order[before < total * test_fraction]] = "test"
    split = np.full(len(groups), "", dtype="<U5")
    split[used] = part[inverse]
    return split


def _stratified(assigned: NDArray[np.intp], val_fraction: float, test_fraction: float, seed: int) -> NDArray[np.str_]:
    generator = np.random.default_rng(seed)
    split = np.full(len(assigned), "", dtype="<U5")
    for number in np.unique(assigned[assigned >= 0]):
        members = generator.permutation(np.flatnonzero(assigned == number))
        test = round(len(members) * test_fraction)
        val = round(len(members) * val_fraction)
        split[members] = "train"
        split[members[: test + val]] = "val"
        split[members[:test]] = "test"
    return split
