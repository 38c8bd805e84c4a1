"""What the pictures, the labels and the parts say together, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gendercls.train.audit.findings import LabelledPhotos, examine, short_audit
from gendercls.train.audit.photos import PhotoCheck, perceptual_hash, thumbnail


@pytest.fixture(scope="module")
def checks(celeba: Path) -> list[PhotoCheck]:
    """Four different photos, and the first two of them once more, saved smaller."""
    images = [Image.open(celeba / "img_align_celeba" / f"{number:06}.jpg") for number in (11, 12, 13, 14)]
    images += [image.resize((60, 73)) for image in images[:2]]
    return [
        PhotoCheck("", str(number), perceptual_hash(image), thumbnail(image)) for number, image in enumerate(images)
    ]


def labelled(checks: list[PhotoCheck], **changes: Any) -> LabelledPhotos:
    plain: dict[str, Any] = {
        "keys": [f"{number}.jpg" for number in range(len(checks))],
        "targets": np.int8([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]]),
        "names": ["female", "male"],
        "independent": False,
        "identity": np.array([0, 1, 2, 3, 0, 1]),
        "parts": np.array(["train", "train", "val", "test", "train", "train"]),
    }
    return LabelledPhotos(checks=checks, **{**plain, **changes})


def test_copies_in_one_part_with_one_label_are_only_counted(checks: list[PhotoCheck]) -> None:
    """Copies that agree and are on one side of the split are said, without a warning."""
    assert short_audit(labelled(checks)) == [
        "copies: 0 exact, 2 near, 0 mirrored, in 2 groups: 0.jpg = 4.jpg; 1.jpg = 5.jpg",
        "leaks: no copies and no identity on both sides of the split",
        "warning: rare in the val part: male 0.0 % (0)",
        "warning: rare in the test part: female 0.0 % (0)",
    ]


def test_shares_are_said_overall_and_for_each_part(checks: list[PhotoCheck]) -> None:
    """The long form has one line more: each class's share of all photos, and of each part."""
    assert examine(labelled(checks)).lines()[-1] == (
        "shares: female 50.0 % (train 50.0, val 100.0, test 0.0), male 50.0 % (train 50.0, val 0.0, test 100.0)"
    )


def test_contradictions_and_leaks_are_warned_of(checks: list[PhotoCheck]) -> None:
    """Copies that differ in label or part are named with their labels or parts, and identities are counted."""
    targets = np.int8([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0]])
    parts = np.array(["train", "train", "val", "test", "train", "test"])
    assert short_audit(labelled(checks, targets=targets, parts=parts)) == [
        "copies: 0 exact, 2 near, 0 mirrored, in 2 groups: 0.jpg = 4.jpg; 1.jpg = 5.jpg",
        "warning: 1 group of copies with labels that differ: 1.jpg (male) = 5.jpg (female)",
        "warning: 1 group of copies and 1 identity on both sides of the split: 1.jpg (train) = 5.jpg (test)",
        "warning: rare in the val part: male 0.0 % (0)",
    ]


def test_who_is_unknown_is_not_counted(checks: list[PhotoCheck]) -> None:
    """Without identities the leaks are those of copies alone, and that is said; so where all are unknown."""
    line = "leaks: no copies on both sides of the split; who is in which photo is unknown"
    assert line in short_audit(labelled(checks, identity=None))
    assert line in short_audit(labelled(checks, identity=np.full(6, -1)))


def test_an_identity_in_two_parts_leaks_without_a_copy(checks: list[PhotoCheck]) -> None:
    """Different photos of one identity in two parts are a leak; an unknown identity is nobody's."""
    found = examine(labelled(checks, identity=np.array([0, 1, 7, 7, -1, -1])))
    assert (found.identities, found.leaks) == ([7], [])
    assert "warning: 1 identity on both sides of the split" in found.lines()


def test_without_a_split_no_leak_is_looked_for(checks: list[PhotoCheck]) -> None:
    """Photos in no part cannot leak."""
    assert "leaks: not looked for, since there is no split" in short_audit(labelled(checks, parts=np.full(6, "")))


def test_photos_that_cannot_be_used_take_no_part(checks: list[PhotoCheck]) -> None:
    """A photo with a reason is in no group, no part and no share."""
    broken = [*checks[:4], PhotoCheck("empty file", ""), PhotoCheck("empty file", "")]
    found = examine(labelled(broken, identity=np.array([0, 1, 2, 3, 2, 3])))
    assert (found.groups, found.identities, found.shares[0].tolist()) == ([], [], [0.5, 0.5])


def test_attributes_are_told_each_by_itself(checks: list[PhotoCheck]) -> None:
    """Of independent attributes the contradicted ones are named, unknown ones contradict nothing, and both a yes and
    a no can be rare."""
    targets = np.int8([[1, 1, 1], [1, 0, -1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]])
    photos = labelled(checks, targets=targets, names=["Smiling", "Young", "Bald"], independent=True)
    assert short_audit(photos) == [
        "copies: 0 exact, 2 near, 0 mirrored, in 2 groups: 0.jpg = 4.jpg; 1.jpg = 5.jpg",
        "warning: 1 group of copies with labels that differ: 0.jpg (Young) = 4.jpg (!Young)",
        "leaks: no copies and no identity on both sides of the split",
        "warning: rare in all photos: !Smiling 0.0 % (0), !Bald 0.0 % (0)",
        "warning: rare in the val part: !Young 0.0 % (0)",
        "warning: rare in the test part: Young 0.0 % (0)",
    ]


def test_rare_is_below_a_tenth_or_half_an_even_share(checks: list[PhotoCheck]) -> None:
    """With two classes a share below 10 % is rare; with ten, which cannot all have that, one below 5 %."""
    two = np.eye(2, dtype=np.int8)[[0] * 11 + [1]]
    ten = np.eye(10, dtype=np.int8)[list(range(9)) * 3]
    for targets, names in ((two, ["a", "b"]), (ten, list("abcdefghij"))):
        many = [PhotoCheck("", str(n), bytes(32), bytes(576)) for n in range(len(targets))]
        photos = labelled(
            many, targets=targets, names=names, identity=None, parts=np.full(len(many), ""), keys=["x"] * len(many)
        )
        assert [rare.name for rare in examine(photos).rare] == [names[-1]]
