"""Who trains, who validates, who tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels import DEFAULT_CLASSES, Labels, read_labels
from gendercls.labels.splits import PARTS, SplitMode, make_split, split_mode


def made_up(split: list[str] | None = None, identity: list[int] | None = None, count: int = 0) -> Labels:
    """Photos of which only the split and the identity matter."""
    count = len(split or identity or []) or count
    return Labels(
        "made.csv",
        "none",
        Path(),
        [f"{n}.jpg" for n in range(count)],
        split=None if split is None else np.array(split),
        identity=None if identity is None else np.array(identity, np.int64),
    )


def divide(
    labels: Labels, assigned: NDArray[np.intp], mode: SplitMode, val: float = 0.1, test: float = 0.1, seed: int = 1
) -> NDArray[np.str_]:
    return make_split(labels, assigned, mode, val_fraction=val, test_fraction=test, seed=seed)


# --- real data --------------------------------------------------------------------------------------------------


def test_the_official_split_of_celeba_keeps_people_apart(shared: Path) -> None:
    """CelebA's own split is taken as published, and no person is in two of its parts."""
    labels = read_labels(shared / "celeba-full-labels")
    split = divide(labels, labels.assign(DEFAULT_CLASSES), split_mode(labels, None))
    assert Counter(split.tolist()) == {"train": 162_770, "val": 19_867, "test": 19_962}
    assert labels.identity is not None
    people = [set(labels.identity[split == part].tolist()) for part in PARTS]
    assert sum(map(len, people)) == len(set.union(*people)) == 10_177


def test_celebas_excerpt_is_divided_by_identity(celeba: Path) -> None:
    """The 8,000 photos are all of the train part, so people are divided: 80, 10 and 10 % within half a point."""
    labels = read_labels(celeba)
    assert split_mode(labels, None) == "identity"
    split = divide(labels, labels.assign(DEFAULT_CLASSES), "identity")
    assert labels.identity is not None
    people = [set(labels.identity[split == part].tolist()) for part in PARTS]
    assert sum(map(len, people)) == len(set.union(*people))
    shares = [(split == part).mean() for part in PARTS]
    assert np.abs(np.array(shares) - [0.8, 0.1, 0.1]).max() < 0.005


def test_fairface_is_divided_as_read(fairface: Path) -> None:
    """FairFace brings all three parts and keeps them."""
    labels = read_labels(fairface)
    split = divide(labels, labels.assign(DEFAULT_CLASSES), split_mode(labels, None))
    assert Counter(split.tolist()) == {"train": 40_000, "val": 1_250, "test": 1_250}


# --- properties -------------------------------------------------------------------------------------------------

photos = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 12)), min_size=1, max_size=60)
fractions = st.sampled_from([0.1, 0.2, 0.3, 0.4])


@given(photos, st.sampled_from(["official", "identity", "stratified"]), fractions, fractions, st.integers(0, 99))
def test_each_photo_with_a_class_has_one_part(
    photos: list[tuple[int, int]], mode: SplitMode, val: float, test: float, seed: int
) -> None:
    """A photo with a class is in train, val or test, one without is in none; a part is empty only as an error."""
    assigned = np.array([chosen for chosen, _ in photos], np.intp)
    own = [PARTS[n % 3] for n in range(len(photos))]
    labels = made_up(split=own, identity=[person for _, person in photos])
    try:
        split = divide(labels, assigned, mode, val, test, seed)
    except LabelError:
        reject()
    assert np.array_equal(np.isin(split, PARTS), assigned >= 0)
    assert set(split[assigned < 0].tolist()) <= {""}
    assert set(PARTS) <= set(split.tolist())


@given(photos, fractions, fractions, st.integers(0, 99))
def test_identity_never_puts_a_person_on_two_sides(
    photos: list[tuple[int, int]], val: float, test: float, seed: int
) -> None:
    """``identity`` keeps each person in one part; photos of nobody known are persons of their own."""
    assigned = np.array([chosen for chosen, _ in photos], np.intp)
    identity = np.array([person for _, person in photos])
    try:
        split = divide(made_up(identity=identity.tolist()), assigned, "identity", val, test, seed)
    except LabelError:
        reject()
    for person in set(identity[(identity >= 0) & (assigned >= 0)].tolist()):
        assert len(set(split[(identity == person) & (assigned >= 0)].tolist())) == 1


def test_photos_of_nobody_known_are_divided_one_by_one() -> None:
    """Photos without an identity do not all go to one part."""
    split = divide(made_up(identity=[-1] * 100), np.zeros(100, np.intp), "identity")
    assert Counter(split.tolist()) == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize("seed", range(3))
def test_stratified_keeps_the_share_of_each_class(seed: int) -> None:
    """Each class is divided by the fractions, rare ones as well as common ones."""
    assigned = np.repeat([0, 1, -1], [1000, 40, 7])
    split = divide(made_up(count=1047), assigned, "stratified", val=0.1, test=0.2, seed=seed)
    assert [[int((split[assigned == k] == part).sum()) for part in PARTS] for k in (0, 1)] == [
        [700, 100, 200],
        [28, 4, 8],
    ]


@pytest.mark.parametrize("mode", ["identity", "stratified"])
def test_the_seed_decides_the_split(mode: SplitMode) -> None:
    """One seed gives one split, another seed another."""
    labels, assigned = made_up(identity=list(range(100))), np.arange(100) % 2
    first, again, other = (divide(labels, assigned, mode, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("split", "identity", "asked", "expected"),
    [
        (["train", "val", "test"], [1, 2, 3], None, "official"),
        (["train", "val", "test"], [1, 2, 3], "stratified", "stratified"),
        (["train", "val", ""], [1, 2, 3], None, "identity"),
        (["train", "val", ""], None, None, "stratified"),
        (None, [1, 2, 3], None, "identity"),
        (None, None, None, "stratified"),
    ],
)
def test_the_data_chooses_the_mode(
    split: list[str] | None, identity: list[int] | None, asked: SplitMode | None, expected: SplitMode
) -> None:
    """What is asked is done; else the data's own split where it is whole, else identity where known."""
    assert split_mode(made_up(split, identity, count=3), asked) == expected


CHOOSE = "  do:    choose --split identity or --split stratified"


@pytest.mark.parametrize(
    ("labels", "mode", "classes", "message"),
    [
        pytest.param(
            made_up(split=["train", "val", "train"]),
            "official",
            [0, 1, 1],
            f"the official split has no test photos\n  where: made.csv\n{CHOOSE}",
            id="official-without-test-rows",
        ),
        pytest.param(
            made_up(split=["train", "val", "test"]),
            "official",
            [0, -1, 1],
            f"the official split has no val photos\n  where: made.csv\n{CHOOSE}",
            id="official-whose-val-rows-have-no-class",
        ),
        pytest.param(
            made_up(count=3),
            "official",
            [0, 1, 1],
            f"the data has no split of its own\n  where: made.csv\n{CHOOSE}",
            id="official-of-data-without-one",
        ),
        pytest.param(
            made_up(count=3),
            "identity",
            [0, 1, 1],
            "the data does not say who is in which photo\n  where: made.csv\n  do:    choose --split stratified, "
            "or put identity_CelebA.txt (a column 'identity' in a CSV) beside the labels",
            id="identity-unknown",
        ),
        pytest.param(
            made_up(identity=[7, 7, 7]),
            "identity",
            [0, 1, 1],
            "the identity split has no train and no val photos\n  where: made.csv\n  do:    give more photos",
            id="one-person",
        ),
        pytest.param(
            made_up(identity=[1, 2, 3]),
            "identity",
            [-1, -1, -1],
            "the identity split has no train and no val and no test photos\n"
            "  where: made.csv\n  do:    give more photos",
            id="no-photo-has-a-class",
        ),
        pytest.param(
            made_up(count=3),
            "stratified",
            [0, 0, 0],
            "the stratified split has no val and no test photos\n  where: made.csv\n  do:    give more photos",
            id="too-few-photos",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(labels: Labels, mode: SplitMode, classes: list[int], message: str) -> None:
    """A part without photos, or data that does not allow the mode, is said whole."""
    with pytest.raises(LabelError) as caught:
        divide(labels, np.array(classes, np.intp), mode)
    assert str(caught.value) == message
