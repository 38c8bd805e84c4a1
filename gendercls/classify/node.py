"""What a worker of a cluster does: it keeps one classifier open, and answers for the photos that it is sent."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gendercls import __version__
from gendercls.classify.careful import Reading, one_by_one
from gendercls.classify.classifier import Classifier, Prediction
from gendercls.classify.task import OPENING, Opened, Setup, Work, not_alike, open_with, photos_of
from gendercls.detectorfile import DetectorFile
from gendercls.errors import GenderclsError
from gendercls.modelfile import ModelFile

GROUP = 8
"""Batches of photos that are answered for at a time: a second's work, so that a cluster's own part in it is small."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of the next photos: the predictions of each. is_last: whether those were all. node: who answers."""

    found: list[list[Prediction]]
    is_last: bool
    node: str


_held: tuple[str, Classifier] | None = None
"""The classifier that this process keeps open between tasks, and its run."""


def open_first(setup: Setup, version: str) -> Opened:
    """The task before all others."""
    if version != __version__:
        raise not_alike(f"{here()} has gendercls {__version__}, the command {version}")
    classifier = _classifier(setup)
    device = classifier.session.device
    return Opened(
        here(),
        device.name,
        device.why_not_cuda,
        classifier.session.batch_size,
        classifier.threshold,
        classifier.spec.precision,
        classifier.model.sha256,
        classifier.versions,
    )


def answer(setup: Setup, work: Work, done: int, is_careful: bool) -> Iterator[Answers]:
    """The task: predictions for photos, after so many that are done. With care it may end before the last of them."""
    with contextlib.suppress(OSError):  # a node without that folder may still find photos whose paths are absolute
        os.chdir(setup.folder)
    yield from _carefully(setup, work, done) if is_careful else _quickly(setup, work, done)


def here() -> str:
    """What a message calls this node."""
    context = importlib.import_module("ray").get_runtime_context()
    return f"node {context.get_node_id()[:8]} ({socket.gethostname()})"


def _files_of(setup: Setup) -> tuple[ModelFile | None, DetectorFile | None]:
    """The model and the detector, got from where the cluster keeps them."""
    get = importlib.import_module("ray").get
    model, detector = (None if part is None else get(part) for part in (setup.model, setup.detector))
    return model, detector


def _quickly(setup: Setup, work: Work, done: int) -> Iterator[Answers]:
    classifier, node = _classifier(setup), here()
    found: list[list[Prediction]] = []
    try:
        classifier.tick = lambda: _end_in(setup.patience)
        classifier.tick()
        for chunk in classifier.chunks(photos_of(work, done)):
            if len(found) >= GROUP * classifier.session.batch_size:
                yield Answers(found, False, node)
                found = []
            found += [predictions for _, predictions in chunk]
    finally:
        _end_in(0)
    yield Answers(found, True, node)


def _carefully(setup: Setup, work: Work, done: int) -> Iterator[Answers]:
    """As far ahead as photos may have been under way when the last worker died."""
    global _held
    _held = None  # for the process that reads them has its own
    size = setup.first.batch_size if setup.first is not None else 1
    most, count = 2 * GROUP * size, 0
    reading = Reading(replace(setup, model=None, detector=None), *_files_of(setup), here())
    for predictions in one_by_one(reading, work, done, most):
        count += 1
        yield Answers([predictions], False, reading.node)
    if count < most:
        yield Answers([], True, reading.node)


def _classifier(setup: Setup) -> Classifier:
    global _held
    if _held is None or _held[0] != setup.run:
        _held = None  # first, so that a GPU's memory is free
        _end_in(max(OPENING, setup.patience))
        try:
            _held = setup.run, open_with(setup, *_files_of(setup), here())
        except GenderclsError as error:
            if here() not in error.where:
                error.where = f"{error.where}, on {here()}"
            raise
        finally:
            _end_in(0)
    return _held[1]


def _end_in(seconds: float) -> None:
    """Let the system end this process then, even while a decoder holds it; 0 takes that back."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
