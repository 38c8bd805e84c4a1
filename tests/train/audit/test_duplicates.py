"""Copies are found whatever was done to them, and two photos of one person are no copies."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from gendercls.train.audit.duplicates import Copy, find_duplicates, joined
from gendercls.train.audit.photos import PhotoCheck, perceptual_hash, thumbnail

PHOTOS = 120


def check(image: Image.Image, digest: str = "") -> PhotoCheck:
    pixels = image.convert("RGB")
    digest = digest or hashlib.sha256(pixels.tobytes()).hexdigest()
    return PhotoCheck("", digest, perceptual_hash(pixels), thumbnail(pixels))


def saved(image: Image.Image, kind: str, **how: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return Image.open(file)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)))


@pytest.fixture(scope="module")
def photos(celeba: Path) -> list[Image.Image]:
    """Photos of different people."""
    folder = celeba / "img_align_celeba"
    return [Image.open(folder / f"{number:06}.jpg").convert("RGB") for number in range(7001, 7001 + PHOTOS)]


@pytest.fixture(scope="module")
def originals(photos: list[Image.Image]) -> list[PhotoCheck]:
    return [check(photo) for photo in photos]


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 30": lambda photo: saved(photo, "JPEG", quality=30),
    "JPEG 90": lambda photo: saved(photo, "JPEG", quality=90),
    "WebP": lambda photo: saved(photo, "WEBP", quality=50),
    "half": lambda photo: saved(scaled(photo, 0.5), "JPEG", quality=60),
    "larger": lambda photo: saved(scaled(photo, 1.5), "JPEG", quality=75),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.1),
    "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.75),
    "grey": lambda photo: photo.convert("L"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_found(edit: str, photos: list[Image.Image], originals: list[PhotoCheck]) -> None:
    """Every photo that was saved anew, smaller, larger, brighter or darker is in one group with its original alone."""
    copies = [check(EDITS[edit](photo)) for photo in photos]
    groups = find_duplicates([*originals, *copies])
    assert [[copy.number for copy in group] for group in groups] == [[n, n + PHOTOS] for n in range(PHOTOS)]
    assert {copy.kind for group in groups for copy in group[1:]} <= {"near"}


def test_a_mirrored_copy_is_found_and_said_to_be_one(photos: list[Image.Image], originals: list[PhotoCheck]) -> None:
    """A mirrored photo is a copy, of the kind ``mirrored``."""
    copies = [check(saved(ImageOps.mirror(photo), "JPEG", quality=60)) for photo in photos]
    groups = find_duplicates([*originals, *copies])
    assert [[(copy.number, copy.kind) for copy in group] for group in groups] == [
        [(n, "first"), (n + PHOTOS, "mirrored")] for n in range(PHOTOS)
    ]


def test_equal_bytes_are_exact_copies(originals: list[PhotoCheck]) -> None:
    """Photos of the same digest are exact copies of the first; one that cannot be used is no copy of anything."""
    unusable = PhotoCheck("empty file", "")
    assert find_duplicates([originals[0], unusable, originals[1], originals[0], unusable]) == [
        (Copy(0, "first", 0), Copy(3, "exact", 0))
    ]


def test_other_photos_of_a_person_are_no_copies(celeba: Path) -> None:
    """Of 400 photos that show 100 people at least twice, none is called a copy of another."""
    lines = (celeba / "identity_CelebA.txt").read_text().split()
    who = dict(zip(lines[::2], lines[1::2], strict=True))
    often = {person for person, count in Counter(who.values()).items() if count >= 2}
    names = [name for name, person in who.items() if person in often and name < "001600.jpg"][:400]
    assert len(names) == 400
    folder = celeba / "img_align_celeba"
    assert find_duplicates([check(Image.open(folder / name)) for name in names]) == []


def test_a_hash_alone_makes_no_copies(originals: list[PhotoCheck]) -> None:
    """Two photos with the same hash, but pictures that differ, are no copies."""
    first, second = originals[:2]
    assert find_duplicates([first, PhotoCheck("", "other", first.perceptual_hash, second.thumbnail)]) == []


def test_photos_without_contrast_are_compared_by_bytes_alone() -> None:
    """Plain photos of two colours, which have no picture to compare, are no copies."""
    plain = [check(Image.new("RGB", (64, 64), colour)) for colour in ("white", "grey", "black")]
    assert find_duplicates(plain) == []


def test_a_group_of_hundreds_is_one_group(photos: list[Image.Image]) -> None:
    """300 copies of one photo, more than a photo is compared with in a table, are in one group."""
    copies = [check(photos[0], digest=str(number)) for number in range(300)]
    (group,) = find_duplicates([*copies, check(photos[1])])
    assert [copy.number for copy in group] == list(range(300))


def test_no_photos_have_no_copies() -> None:
    """Nothing, and one photo, are sound inputs."""
    assert find_duplicates([]) == []
    assert find_duplicates([PhotoCheck("empty file", "")]) == []


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_joined_is_the_connected_components(case: tuple[int, list[tuple[int, int]]]) -> None:
    """Every photo is in exactly one list, a pair's photos are in the same, and only pairs connect."""
    photos, pairs = case
    groups = joined(photos, pairs)
    assert sorted(number for group in groups for number in group) == list(range(photos))
    reach = np.eye(photos, dtype=bool)
    for first, second in pairs:
        reach[first, second] = reach[second, first] = True
    for middle in range(photos):
        reach |= np.outer(reach[:, middle], reach[middle])
    for group in groups:
        assert all(set(np.flatnonzero(reach[number])) == set(group) for number in group)
