"""What the workers of a cluster are sent: photos, and how to open the classifier that all of them have to share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gendercls.classify.classifier import Classifier
from gendercls.classify.whole import Whole
from gendercls.detectorfile import DetectorFile
from gendercls.errors import GenderclsError
from gendercls.modelfile import ModelFile
from gendercls.sources import Photo

Work = tuple[Photo, ...] | Whole
"""What a task is about."""

OPENING = 60.0
"""Seconds that a model may take until it is open, as with one machine's guard."""


@dataclass(frozen=True, slots=True)
class Opened:
    """How the first worker opened the model, which all others have to do alike."""

    node: str
    device: str
    why_not_cuda: str
    batch_size: int
    threshold: float
    precision: str
    sha256: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Setup:
    """What makes the same classifier on every worker.

    run: tells it from the classifier of another run. options: of `Classifier`. model, detector: Ray's references to a
    `ModelFile`, which None leaves to the worker, and to a `DetectorFile`. folder: in which the command was typed.
    patience: seconds for a photo. first: as the first worker opened it.
    """

    run: str
    options: dict[str, Any]
    model: Any
    detector: Any
    folder: str
    patience: float
    first: Opened | None = None


def photos_of(work: Work, done: int) -> Iterator[Photo]:
    """Those of a task, after so many that are done."""
    return islice(work.photos() if isinstance(work, Whole) else iter(work), done, None)


def open_with(setup: Setup, model: ModelFile | None, detector: DetectorFile | None, node: str) -> Classifier:
    """A classifier of files read on another machine. Raises GenderclsError where it differs from the first."""
    classifier = Classifier(model, face_model=detector, **setup.options)
    first = setup.first
    if first is not None:
        for name, version in first.versions.items():
            if classifier.versions[name] != version:
                raise not_alike(f"{node} has {name} {classifier.versions[name]}, {first.node} has {version}")
        if classifier.device != first.device:
            raise not_alike(f"{node} runs on {classifier.device}, {first.node} on {first.device}")
    return classifier


def not_alike(where: str) -> GenderclsError:
    """What is raised where nodes differ."""
    return GenderclsError(
        "the nodes of the cluster are not alike, so their answers would not be those of one machine",
        where=where,
        do="install the same versions on all of them, or use those alone that are alike",
    )
