"""`Classifier`: photos in, predictions out; what Python users call and what the command is built on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls.answers import rounded
from gendercls.classify.pipeline import in_order
from gendercls.classify.rows import UNCERTAIN
from gendercls.classify.session import Session
from gendercls.errors import PhotoError, UsageError
from gendercls.images import fit, to_array
from gendercls.machine import available_cores
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.sources import Photo, PhotoFile, readable_name
from gendercls.spec import ModelSpec

AnyPhoto = str | os.PathLike[str] | bytes | NDArray[np.uint8] | Photo
"""A path, a file's bytes, an upright RGB array uint8 ``[H, W, 3]``, or a `Photo` from a listing."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one photo.

    key: the photo's path, or its number for bytes and arrays. label: a class name, or those of all attributes that a
    model of independent ones finds (``none`` without any); ``uncertain`` below the asked confidence, empty when the
    photo could not be read. confidence: the probability that all of the label is right. probabilities: K values in the
    order of the model's classes; empty without an answer. error: why there is no answer. Numbers have 6 decimals.
    """

    key: str
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Pixels:
    """An array that a Python user gave, or bytes in memory."""

    key: str
    content: bytes | NDArray[np.uint8]

    @property
    def path(self) -> str:
        return self.key

    def read(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        raise TypeError("an array has no bytes")


class Classifier:
    """A model ready to classify.

    Args:
        model: an ONNX file made by ``gendercls export``; None takes the one that comes with gendercls.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: threads that read, decode and run; None takes the cores this process may use.
        batch_size: photos in each run of the model; None takes what is fastest on the device.
        min_confidence: below it the label is ``uncertain``; 0 to 1.
        max_error: choose that threshold so that answers were wrong at most this often on the model's validation
            photos; 0 to 1, and not together with ``min_confidence``.

    Raises:
        ModelError: the model cannot be used, or its table has no threshold for ``max_error``.
        DeviceError: the asked device does not work.
        UsageError: a value out of range.

    >>> classifier = Classifier(device="cpu")
    >>> classifier.spec.class_names
    ('female', 'male')
    >>> [prediction.error for prediction in classifier.predict([b"no photo"])]
    ['not a photo']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        jobs: int | None = None,
        batch_size: int | None = None,
        min_confidence: float | None = None,
        max_error: float | None = None,
    ) -> None:
        for name, value in (("jobs", jobs), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise _out_of_range(name, value, "1 or more")
        if min_confidence is not None and max_error is not None:
            raise UsageError(
                "two thresholds are given", where="--min-confidence and --max-error", do="give one of them"
            )
        for name, share in (("min_confidence", min_confidence), ("max_error", max_error)):
            if share is not None and not 0 <= share <= 1:
                raise _out_of_range(name, share, "0 to 1")
        self.model = read_model_file(Path(model) if model is not None else shipped_model())
        self.threshold = min_confidence or 0.0
        if max_error is not None:
            self.threshold = self.spec.threshold_for(max_error).confidence
        self.session = Session(self.model, device=device, batch_size=batch_size)
        self.model = replace(self.model, data=b"")  # onnxruntime has its own copy
        self.answers = self.spec.answers
        self.jobs = jobs or available_cores()

    @property
    def spec(self) -> ModelSpec:
        """The model's contract: classes, preprocessing, provenance, measured figures."""
        return self.model.spec

    @property
    def device(self) -> str:
        """Where the model really runs: ``cpu`` or ``cuda:N``."""
        return self.session.device.name

    def predict(self, photos: Iterable[AnyPhoto]) -> Iterator[Prediction]:
        """One prediction for every photo, in order and lazily; a photo that cannot be read gets its ``error``.

        The numbers are those of ``gendercls classify``, whatever the batch size and the number of threads.
        """
        stream = (_as_photo(number, photo) for number, photo in enumerate(photos))
        for pairs in self.chunks(stream):
            yield from (prediction for _, prediction in pairs)

    def chunks(self, photos: Iterable[Photo]) -> Iterator[list[tuple[Photo, Prediction]]]:
        """As `predict`, a batch at a time, each prediction with its photo."""
        return in_order(self._chunk, photos, size=self.session.batch_size, jobs=self.jobs)

    def _chunk(self, photos: tuple[Photo, ...]) -> list[tuple[Photo, Prediction]]:
        """Read, decode and run one chunk. A photo's fate, array or reason, stays with its photo from the start."""
        pre = self.spec.preprocessing
        batch = np.zeros((self.session.batch_size, pre.height, pre.width, 3), np.uint8)
        reasons = [self._load(photo, batch[place]) for place, photo in enumerate(photos)]
        if all(reasons):
            return [(photo, _failed(photo, reason)) for photo, reason in zip(photos, reasons, strict=True)]
        probabilities = rounded(self.session.run(batch)[: len(photos)])
        labels, confidence = self.answers.labels(probabilities), self.answers.confidence(probabilities).tolist()
        answers = zip(labels, confidence, probabilities.tolist(), strict=True)
        return [
            (photo, _failed(photo, reason) if reason else self._answer(photo, *answer))
            for photo, reason, answer in zip(photos, reasons, answers, strict=True)
        ]

    def _load(self, photo: Photo, place: NDArray[np.uint8]) -> str:
        """Put the photo into its place of the batch; why not, where that fails."""
        try:
            if isinstance(photo, _Pixels) and not isinstance(photo.content, bytes):
                place[:] = fit(_image(photo.content), self.spec.preprocessing)
            else:
                place[:] = to_array(photo.read(), self.spec.preprocessing, name=photo.key)
        except PhotoError as error:
            return error.what
        return ""

    def _answer(self, photo: Photo, label: str, confidence: float, probabilities: list[float]) -> Prediction:
        if not 0 <= confidence <= 1:
            return _failed(photo, "the model gave no number")
        shown = label if confidence >= self.threshold else UNCERTAIN
        return Prediction(photo.key, shown, confidence, tuple(probabilities))


def _out_of_range(name: str, value: float, allowed: str) -> UsageError:
    return UsageError(f"{name} is {value:g}", where=f"--{name.replace('_', '-')}", do=f"give a number of {allowed}")


def _failed(photo: Photo, reason: str) -> Prediction:
    return Prediction(photo.key, "", 0.0, (), reason)


def _as_photo(number: int, photo: AnyPhoto) -> Photo:
    if isinstance(photo, bytes | np.ndarray):
        return _Pixels(str(number), photo)
    if isinstance(photo, str | os.PathLike):
        place = os.fsencode(photo)
        return PhotoFile(readable_name(place), place)
    return photo


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise PhotoError(f"array is {pixels.dtype} {list(pixels.shape)}; it must be uint8 [H, W, 3]")
    return Image.fromarray(pixels)
