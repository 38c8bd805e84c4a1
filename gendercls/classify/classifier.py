"""`Classifier`: photos in, predictions out; what Python users call and what the command is built on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls import __version__
from gendercls.answers import rounded
from gendercls.classify.detector import Detector
from gendercls.classify.opening import chosen_model
from gendercls.classify.options import check_numbers, out_of_range
from gendercls.classify.pipeline import IN_FLIGHT, in_order
from gendercls.classify.session import Session
from gendercls.detectorfile import DetectorFile, read_detector
from gendercls.errors import ModelError, PhotoError, UsageError
from gendercls.faces import AT_LEAST, LEAST_SIDE, Face, face_crop, find_faces
from gendercls.images import decode_with_size, fit, to_array
from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, Precision
from gendercls.rows import NO_FACE, UNCERTAIN
from gendercls.sources import READERS, Photo, PhotoFile, Readers, read_ahead, readable_name
from gendercls.spec import ModelSpec

AnyPhoto = str | os.PathLike[str] | bytes | NDArray[np.uint8] | Photo
"""A path, a file's bytes, an upright RGB array uint8 ``[H, W, 3]``, or a `Photo` from a listing."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one photo, or of one face in it.

    key: the photo's path, or its number for bytes and arrays. label: a class name, or those of all attributes that a
    model of independent ones finds (``none`` without any); ``uncertain`` below the asked confidence, ``no face`` where
    faces were looked for and the photo has none, empty when the photo could not be read. confidence: the probability
    that all of the label is right. probabilities: K values in the order of the model's classes; empty without an
    answer. error: why there is no answer. face: where the face is; None for a whole photo. is_unfamiliar: whether the
    model saw less of what it knows than in all but 5 % of its validation photos; None where that is not known. Numbers
    have 6 decimals.
    """

    key: str
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    error: str = ""
    face: Face | None = None
    is_unfamiliar: bool | None = None


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What of a photo goes through the model: itself, or its faces; or why nothing does."""

    photo: Photo
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    faces: list[Face] | None = None
    error: str = ""


class _Answer(NamedTuple):
    """What the model says of one image; the fields as `Prediction` has them."""

    label: str
    confidence: float
    probabilities: list[float]
    is_unfamiliar: bool | None


@dataclass(frozen=True, slots=True)
class _Pixels:
    """An array that a Python user gave, or bytes in memory."""

    key: str
    content: bytes | NDArray[np.uint8]

    @property
    def path(self) -> str:
        return self.key

    @property
    def held(self) -> int:
        return 0  # it is the caller's

    def read(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        raise TypeError("an array has no bytes")


class Classifier:
    """A model ready to classify.

    A model file is a program. Nothing here stops one that crashes, never ends or takes all the memory there is, as
    ``gendercls classify`` does on Linux: open what you trust.

    Args:
        model: an ONNX file made by ``gendercls export``, or one that has been read, or opened; None takes the one that
            comes with gendercls.
        precision: ``fp32`` or ``int8``, of the model that comes with gendercls, and not together with ``model``; None
            takes int8 on a CPU that is faster with it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: threads that read, decode and run; None takes the cores this process may use.
        batch_size: photos in each run of the model; None takes what is fastest on the device.
        min_confidence: below it the label is ``uncertain``; 0 to 1.
        max_error: choose that threshold so that answers were wrong at most this often on the model's validation
            photos; 0 to 1, and not together with ``min_confidence``.
        faces: find the faces first, and classify each of them instead of the whole photo.
        face_model: the face detector's file; None takes the one that ``gendercls faces download`` got.
        min_face: pixels that both sides of a face's box need in the photo; 1 or more.
        max_faces: take no more than that many faces of a photo, the largest; None takes all.

    Raises:
        ModelError: the model or the detector cannot be used, or its table has no threshold for ``max_error``.
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
        model: str | os.PathLike[str] | ModelFile | Session | None = None,
        *,
        precision: Precision | None = None,
        device: str = "auto",
        jobs: int | None = None,
        batch_size: int | None = None,
        min_confidence: float | None = None,
        max_error: float | None = None,
        faces: bool = False,
        face_model: str | os.PathLike[str] | DetectorFile | None = None,
        min_face: int = LEAST_SIDE,
        max_faces: int | None = None,
    ) -> None:
        check_numbers(jobs, batch_size, min_face, max_faces)
        if min_confidence is not None and max_error is not None:
            raise UsageError(
                "two thresholds are given", where="--min-confidence and --max-error", do="give one of them"
            )
        for name, share in (("min_confidence", min_confidence), ("max_error", max_error)):
            if share is not None and not 0 <= share <= 1:
                raise out_of_range(name, share, "0 to 1")
        if model is not None and precision is not None:
            raise UsageError(
                "a model file has one precision",
                where=f"--precision {precision}",
                do="leave it out, or leave out --model",
            )
        if isinstance(model, Session):
            self.session = model
        else:
            file = model if isinstance(model, ModelFile) else chosen_model(model, precision, device)
            self.session = Session(file, device=device, batch_size=batch_size)
        self.model = self.session.model
        self.threshold = min_confidence or 0.0
        if max_error is not None:
            self.threshold = self.spec.threshold_for(max_error).confidence
        detector = _detector_file(face_model) if faces else None
        self.detector = Detector(detector, self.session.device) if detector is not None else None
        self.min_face, self.max_faces = min_face, max_faces
        self.answers = self.spec.answers
        self.jobs = jobs or available_cores()
        self.tick: Callable[[], None] = lambda: None  # called in any thread as soon as a photo is loaded

    @property
    def spec(self) -> ModelSpec:
        """The model's contract: classes, preprocessing, provenance, measured figures."""
        return self.model.spec

    @property
    def versions(self) -> dict[str, str]:
        """Of what decides the numbers beside the model."""
        modules = {name: __import__(name) for name in ("onnxruntime", "numpy", "PIL")}
        return {"gendercls": __version__, **{name: str(module.__version__) for name, module in modules.items()}}

    @property
    def device(self) -> str:
        """Where the model really runs: ``cpu`` or ``cuda:N``."""
        return self.session.device.name

    def predict(self, photos: Iterable[AnyPhoto]) -> Iterator[Prediction]:
        """One prediction for every photo, in order and lazily; a photo that cannot be read gets its ``error``.

        With faces one for every face of a photo, by x, y, w and h, or one that says ``no face``.
        The numbers are those of ``gendercls classify``, whatever the batch size and the number of threads.
        """
        stream = (_as_photo(number, photo) for number, photo in enumerate(photos))
        for chunk in self.chunks(stream):
            for _, predictions in chunk:
                yield from predictions

    def chunks(self, photos: Iterable[Photo]) -> Iterator[list[tuple[Photo, list[Prediction]]]]:
        """As `predict`, a batch of photos at a time, each photo with its predictions."""
        readers = Readers(READERS)
        return in_order(
            self._chunk,
            read_ahead(photos, readers),
            size=self.session.batch_size,
            jobs=self.jobs,
            held=lambda photo: photo.held,
            give_up=readers.close,
        )

    def one(self, photo: Photo) -> list[tuple[Photo, list[Prediction]]]:
        """As `chunks` gives one photo, done in the caller's thread."""
        return self._chunk((photo,))

    @property
    def ahead(self) -> int:
        """How many photos `chunks` has under way at the most."""
        return (IN_FLIGHT * self.jobs + 1) * self.session.batch_size

    def _chunk(self, photos: tuple[Photo, ...]) -> list[tuple[Photo, list[Prediction]]]:
        """Read, decode and run one chunk. A photo's fate, pixels or reason, stays with its photo from the start."""
        loaded = []
        for photo in photos:
            loaded.append(self._load(photo))
            self.tick()
        answers = self._answers([pixels for item in loaded for pixels in item.pixels])
        return [(item.photo, self._predictions(item, answers)) for item in loaded]

    def _load(self, photo: Photo) -> _Loaded:
        try:
            if self.detector is not None:
                return self._load_faces(photo, self.detector)
            if isinstance(photo, _Pixels) and not isinstance(photo.content, bytes):
                return _Loaded(photo, [fit(_image(photo.content), self.spec.preprocessing)])
            return _Loaded(photo, [to_array(photo.read(), self.spec.preprocessing, name=photo.key)])
        except PhotoError as error:
            return _Loaded(photo, error=error.what)

    def _load_faces(self, photo: Photo, detector: Detector) -> _Loaded:
        """The photo's faces, cropped from the same decoded image in which they were found."""
        if isinstance(photo, _Pixels) and not isinstance(photo.content, bytes):
            image = _image(photo.content)
            size = image.size
        else:
            image, size = decode_with_size(photo.read(), name=photo.key, at_least=AT_LEAST)
        faces = [face for face in find_faces(image, size, detector.run) if min(face.w, face.h) >= self.min_face]
        largest = sorted(faces, key=lambda face: face.w * face.h, reverse=True)[: self.max_faces]
        faces = [face for face in faces if face in largest]
        return _Loaded(photo, [face_crop(image, size, face, self.spec.preprocessing) for face in faces], faces)

    def _answers(self, pixels: list[NDArray[np.uint8]]) -> Iterator[_Answer | None]:
        """What the model says of each image, run a batch at a time; None of one on which it fails."""
        for begin in range(0, len(pixels), self.session.batch_size):
            batch = np.stack(pixels[begin : begin + self.session.batch_size])
            try:
                yield from self._run(batch)
            except ModelError:
                yield from map(self._run_alone, batch)

    def _run_alone(self, image: NDArray[np.uint8]) -> _Answer | None:
        """Of one image of a batch that failed, so that it cannot fail its neighbours. Raises where all fail."""
        try:
            return self._run(image[np.newaxis])[0]
        except ModelError:
            self.session.self_test()  # which raises unless the image is to blame
            return None

    def _run(self, batch: NDArray[np.uint8]) -> list[_Answer]:
        is_unfamiliar: Sequence[bool | None] = [None] * len(batch)
        if self.spec.familiar_norm is None:
            probabilities = rounded(self.session.run(batch))
        else:
            raw, embedding = self.session.run_with_embedding(batch)
            probabilities = rounded(raw)
            is_unfamiliar = (np.linalg.norm(embedding, axis=1) < self.spec.familiar_norm).tolist()
        labels, confidence = self.answers.labels(probabilities), self.answers.confidence(probabilities).tolist()
        return list(map(_Answer, labels, confidence, probabilities.tolist(), is_unfamiliar))

    def _predictions(self, item: _Loaded, answers: Iterator[_Answer | None]) -> list[Prediction]:
        if item.error:
            return [_failed(item.photo, item.error)]
        if item.faces is None:
            return [self._prediction(item.photo, None, next(answers))]
        if not item.faces:
            return [Prediction(item.photo.key, NO_FACE, 0.0, ())]
        return [self._prediction(item.photo, face, next(answers)) for face in item.faces]

    def _prediction(self, photo: Photo, face: Face | None, answer: _Answer | None) -> Prediction:
        if answer is None:
            return _failed(photo, "the model fails on it", face)
        if not 0 <= answer.confidence <= 1:
            return _failed(photo, "the model gave no number", face)
        label = answer.label if answer.confidence >= self.threshold else UNCERTAIN
        return Prediction(
            photo.key,
            label,
            answer.confidence,
            tuple(answer.probabilities),
            face=face,
            is_unfamiliar=answer.is_unfamiliar,
        )


def _detector_file(file: str | os.PathLike[str] | DetectorFile | None) -> DetectorFile:
    if isinstance(file, DetectorFile):
        return file
    return read_detector(Path(file) if file is not None else None)


def _failed(photo: Photo, reason: str, face: Face | None = None) -> Prediction:
    return Prediction(photo.key, "", 0.0, (), reason, face)


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
