"""What the judge says in the words of the labels, and what it must not have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gendercls.stats import wilson
from gendercls.train.audit.duplicates import Copy
from gendercls.train.audit.findings import Findings, LabelledPhotos
from gendercls.train.audit.photos import PhotoCheck
from gendercls.train.audit.suspects import LabelErrors, _groups, _of_attributes, _of_classes


def with_copies(identity: NDArray[np.int64] | None) -> Findings:
    """Seven photos of which the second and the sixth are copies."""
    checks = [PhotoCheck("", str(number)) for number in range(7)]
    targets = np.int8([[1, 0]] * 7)
    photos = LabelledPhotos(checks, [""] * 7, targets, ["a", "b"], False, identity, np.full(7, ""))
    copies = [(Copy(1, "first", 0), Copy(5, "near", 4))]
    return Findings(photos, copies, [], [], None, [], np.zeros((1, 2)), [])


def test_copies_and_an_identity_are_judged_together() -> None:
    """Photos of one identity, and copies, are in one group, also through each other; unknown identities are not."""
    groups = _groups(with_copies(np.array([8, 8, -1, -1, 9, 9, 7]))).tolist()
    assert [groups.index(name) for name in groups] == [0, 0, 2, 3, 0, 0, 6]
    groups = _groups(with_copies(None)).tolist()
    assert [groups.index(name) for name in groups] == [0, 1, 2, 3, 4, 1, 6]


def test_suspects_are_told_by_class_names_and_photo_numbers() -> None:
    """A suspect has the number of its photo among all, and its classes by name."""
    targets = np.int8([[1, 0], [1, 0], [0, 1], [0, 1]])
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    accuracies, suspects = _of_classes(["no", "yes"], np.array([3, 5, 7, 9]), targets, probabilities)
    assert accuracies == {"all classes": wilson(3, 4)}
    assert [(s.number, s.label, s.suggested, round(s.score, 6)) for s in suspects] == [(5, "no", "yes", 0.8)]


def test_attributes_are_told_with_a_sign_and_without_the_unknown() -> None:
    """An attribute is judged where it is known; a yes is its name and a no its name with ``!``."""
    targets = np.int8([[1, 0], [1, -1], [0, 0], [0, 1]])
    probabilities = np.array([[0.9, 0.1], [0.05, 0.9], [0.1, 0.2], [0.1, 0.9]])
    accuracies, suspects = _of_attributes(["Smiling", "Young"], np.array([3, 5, 7, 9]), targets, probabilities)
    assert accuracies == {"Smiling": wilson(3, 4), "Young": wilson(3, 3)}
    assert [(s.number, s.label, s.suggested) for s in suspects] == [(5, "Smiling", "!Smiling")]


def test_the_judge_of_attributes_is_told_by_its_mean_and_its_weakest() -> None:
    """Of many attributes the line has the mean agreement and the attribute that the judge agrees with least."""
    errors = LabelErrors("w.pt", {"Smiling": wilson(9, 10), "Young": wilson(6, 10), "Bald": wilson(0, 0)}, [])
    assert errors.lines() == [
        "judge: agrees with 75.00 % of the labels, out of fold, mean over 2 attributes; least with Young: 60.00 %",
        "probable label errors: 0 labels",
    ]
