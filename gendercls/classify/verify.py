"""``gendercls verify``: whether a CSV is what its model says of its photos, which are read and classified again."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gendercls.classify.classifier import Classifier, Prediction
from gendercls.classify.consistency import contradictions, sums
from gendercls.classify.relisted import Pair, if_newer, list_again
from gendercls.classify.summary import Progress, Report
from gendercls.classify.verdict import Verdict
from gendercls.detectorfile import read_detector
from gendercls.errors import GenderclsError, ModelError, OutputError
from gendercls.faces import LEAST_SIDE
from gendercls.modelfile import shipped_models
from gendercls.preds import Predictions, RunRecord, read_preds
from gendercls.rows import NO_FACE, Row

ROUNDING = 1e-4
"""Another processor, or another version of onnxruntime, gives other last decimals: so much is no mismatch."""

_FATAL = ("crashed", "took more than")  # what a photo did whose error begins so; here nobody stands guard


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What the command line says. None is for the run's own: where it found its photos, its model, its device.

    sample: so many photos, drawn at random with the seed; None for all.
    """

    preds: Path
    photos: Path | None = None
    model: Path | None = None
    face_model: Path | None = None
    device: str | None = None
    sample: int | None = None
    seed: int = 1


def verify(options: VerifyOptions, report: Report) -> Verdict:
    """Compare ``options.preds`` with itself, with a new listing of its photos, and with what its model says of them.

    Raises:
        GenderclsError: there is no such CSV, no record of its run, or no such photos.
        ModelError: the model, or the face detector, is not to be had, or is another one than the run's.
        DeviceError: the run's device is not there.
        OutputError: the CSV is unfinished or damaged.
    """
    preds = read_preds(options.preds)
    record = preds.record
    if record is None:
        raise GenderclsError(
            "which model and which options gave the CSV is not known",
            where=f"{preds.path.name}.run.json is not beside {preds.path}",
            do="restore it from a copy; without it there is nothing to compare with",
        )
    model, detector = _model_file(options, record), _detector_file(options, record)
    relisted = list_again(preds, record, options.photos)
    classifier = _open(options, record, model, detector)
    _check_columns(preds, classifier)
    pairs = _sample(relisted.pairs, options)
    verdict = Verdict(
        preds=preds.path,
        rows=len(preds),
        photos=len(preds.photos),
        model=classifier.model.label,
        device=classifier.device,
        notes=tuple(_other_circumstances(record, classifier)),
        is_sample=len(pairs) < len(relisted.pairs),
        misplaced=relisted.misplaced,
        gone=relisted.gone,
        added=relisted.added,
    )
    columns = replace(preds.columns, answers=classifier.answers)
    for numbers in preds.photos:
        rows = [preds.rows[number] for number in numbers]
        for what in list(contradictions(rows, columns, record.threshold)) or sums(rows, columns.answers):
            verdict.contradictory.add(rows[0].path, what)
    _compare(classifier, pairs, record, verdict, report)
    return verdict


def _model_file(options: VerifyOptions, record: RunRecord) -> Path:
    if options.model is not None:
        _check_hash(options.model, _hash(options.model), record.model, record.model_sha256, "model")
        return options.model
    for path in shipped_models().values():
        if _hash(path) == record.model_sha256:
            return path
    raise ModelError(
        "the run's model is none of those that come with this gendercls",
        where=f"the run used {record.model} with the SHA-256 {record.model_sha256}",
        do="name that file with --model",
    )


def _detector_file(options: VerifyOptions, record: RunRecord) -> Path | None:
    if not record.face_model_sha256:
        return None
    found = read_detector(options.face_model)
    _check_hash(found.path, found.sha256, record.face_model, record.face_model_sha256, "face-model")
    return found.path


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"the model cannot be read: {error.strerror}", where=str(path), do="check the path given with --model"
        ) from None


def _check_hash(path: Path, sha256: str, name: str, wanted: str, option: str) -> None:
    if sha256 != wanted:
        raise ModelError(
            f"this {option.replace('-', ' ')} is not the one that the run used",
            where=f"{path} has the SHA-256 {sha256}; the run used {name} with {wanted}",
            do=f"name that file with --{option}",
        )


def _open(options: VerifyOptions, record: RunRecord, model: Path, detector: Path | None) -> Classifier:
    device = options.device or record.device
    return Classifier(
        model,
        device=device,
        batch_size=record.batch_size if device == record.device else None,
        min_confidence=record.threshold,
        faces=detector is not None,
        face_model=detector,
        min_face=record.min_face or LEAST_SIDE,
        max_faces=record.max_faces,
    )


def _check_columns(preds: Predictions, classifier: Classifier) -> None:
    has_faces = classifier.detector is not None
    if classifier.answers.names != preds.answers.names or preds.columns.has_faces != has_faces:
        raise OutputError(
            "the CSV has other columns than its run wrote",
            where=f"{preds.path} begins with {','.join(preds.columns.header())[:200]}",
            do="restore the file from a copy, or classify the photos again",
        )


def _other_circumstances(record: RunRecord, classifier: Classifier) -> Iterator[str]:
    """What may change the last decimals."""
    if classifier.device != record.device:
        yield f"the run was on {record.device}, this is on {classifier.device}"
    for name, version in classifier.versions.items():
        if record.versions.get(name) != version:
            yield f"the run had {name} {record.versions.get(name, 'of a version unknown')}, this has {version}"


def _sample(pairs: list[Pair], options: VerifyOptions) -> list[Pair]:
    if options.sample is None or options.sample >= len(pairs):
        return pairs
    chosen = np.random.default_rng(options.seed).choice(len(pairs), options.sample, replace=False)
    return [pairs[number] for number in sorted(chosen.tolist())]


def _compare(classifier: Classifier, pairs: list[Pair], record: RunRecord, verdict: Verdict, report: Report) -> None:
    """Classify the photos again, and count how their rows agree with that."""
    wanted = [pair for pair in pairs if not any(row.error.startswith(_FATAL) for row in pair.rows)]
    verdict.untried = len(pairs) - len(wanted)
    began, left = time.monotonic(), iter(wanted)
    for chunk in classifier.chunks(pair.photo for pair in wanted):
        for photo, predictions in chunk:
            pair = next(left)  # they come in order
            verdict.tried += 1
            found = _difference(pair.rows, predictions, classifier.answers.names)
            if found.what:
                verdict.different.add(pair.path, found.what + if_newer(photo, record))
            elif found.is_same:
                verdict.same += 1
            else:
                verdict.rounded += 1
                verdict.largest = max(verdict.largest, found.size)
        rate = verdict.tried / max(time.monotonic() - began, 1e-9)
        report(Progress(verdict.tried, 0, len(wanted), rate))


class _Difference(NamedTuple):
    """Between rows and answers. size: the largest between two numbers; what: empty where it is but rounding."""

    is_same: bool
    size: float
    what: str


def _difference(rows: Sequence[Row], predictions: Sequence[Prediction], names: Sequence[str]) -> _Difference:
    if len(rows) != len(predictions):
        return _Difference(False, 0, f"has {len(rows)} rows, where the model gives {len(predictions)}")
    found = [_difference_of(row, prediction, names) for row, prediction in zip(rows, predictions, strict=True)]
    what = next(filter(None, (one.what for one in found)), "")
    return _Difference(all(one.is_same for one in found), max(one.size for one in found), what)


def _difference_of(row: Row, prediction: Prediction, names: Sequence[str]) -> _Difference:
    has_answer, face = bool(prediction.probabilities), prediction.face
    is_answered = bool(row.confidence) == bool(row.probabilities) == has_answer
    is_of_kind = is_answered and (row.label == NO_FACE) == (prediction.label == NO_FACE)
    # What follows the colon are a library's words, of which another version has others.
    if not is_of_kind or row.error.partition(":")[0] != prediction.error.partition(":")[0]:
        return _Difference(False, 0, f"says {_said(row)}; the model says {_says(prediction)}")
    box = () if face is None else tuple(map(str, (face.x, face.y, face.w, face.h)))
    if row.face[1:5] != box:
        return _Difference(False, 0, f"has a face at {','.join(row.face[1:5])}, the detector finds {','.join(box)}")
    written = [*row.probabilities, *row.face[5:]]
    again = [*prediction.probabilities, *([] if face is None else [face.confidence])]
    differences = [abs(_number(one) - other) for one, other in zip(written, again, strict=True)]
    size = max(differences, default=0.0)
    if size <= ROUNDING + 1e-9:  # both have 6 decimals
        is_same = row.error == prediction.error and written == [f"{number:.6f}" for number in again]
        return _Difference(is_same, size, "")
    if row.label != prediction.label:
        return _Difference(False, size, f"says {_said(row)}; the model says {_says(prediction)}")
    place = differences.index(size)
    column = [*(f"p_{name}" for name in names[: len(row.probabilities)]), "face_confidence"][place]
    return _Difference(False, size, f"has {column} {written[place]}; the model gives {again[place]:.6f}")


def _number(text: str) -> float:
    """Infinity for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def _said(row: Row) -> str:
    return row.error or f"{row.label} {row.confidence}".strip()


def _says(prediction: Prediction) -> str:
    if not prediction.probabilities:
        return prediction.error or prediction.label
    return f"{prediction.label} {prediction.confidence:.6f}"
