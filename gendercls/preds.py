"""A finished ``preds.csv`` by columns, and what run gave it: what report, sample, compare, verify and sort read."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.address import is_url, part_of
from gendercls.answers import Answers, IndependentAnswers, answers_for
from gendercls.errors import DamagedRowError, GenderclsError, OutputError
from gendercls.labels import DEFAULT_CLASSES, ClassRule
from gendercls.parquet import csv_of, is_left_over, is_parquet
from gendercls.rows import NO_FACE, NOT_A_PHOTO, UNCERTAIN, Columns, Row, read_records

_REMEDY = "restore the file from a copy, or classify the photos again"
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")  # as rows write bytes that are not UTF-8


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What ``preds.csv.run.json`` says of the run; what a file of an earlier format does not say is empty or None.

    counted: how often the model took each class for another, int64 ``[K, K]``, truth by answer, on the photos that
    counted_on names. labels_sha256: of what the labels said; labels_weighted: whether they stood for others too, drawn
    unevenly. batch_size: only where bits depend on it.
    """

    inputs: tuple[str, ...]
    model: str
    model_sha256: str
    face_model: str
    face_model_sha256: str
    labels_sha256: str
    labels_weighted: bool
    device: str
    precision: str
    threshold: float
    batch_size: int | None
    min_face: int | None
    max_faces: int | None
    split: str | None
    limit: int | None
    classes: tuple[ClassRule, ...]
    independent: bool | None
    counted: NDArray[np.int64] | None
    counted_on: str
    versions: dict[str, str]
    finished: dict[str, Any]


@dataclass(frozen=True)
class Predictions:
    """N rows of photos, or of faces.

    path: the file; sha256: of its bytes. rows: as `gendercls.rows` reads them. confidence: float64 ``[N]`` in [0, 1],
    and probabilities ``[N, K]``, both NaN without an answer. record: of its run; None where there is no such file
    beside it.
    """

    path: Path
    sha256: str
    columns: Columns
    rows: tuple[Row, ...]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    record: RunRecord | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def answers(self) -> Answers:
        return self.columns.answers

    @cached_property
    def has_answer(self) -> NDArray[np.bool_]:
        """Which rows have probabilities, ``[N]``: also those of too little confidence."""
        known: NDArray[np.bool_] = ~np.isnan(self.confidence)
        return known

    @cached_property
    def has_label(self) -> NDArray[np.bool_]:
        """Which rows name a class, ``[N]``."""
        none = (UNCERTAIN, NO_FACE, "")
        return np.fromiter((row.label not in none for row in self.rows), np.bool_, len(self))

    @cached_property
    def has_failed(self) -> NDArray[np.bool_]:
        """Which rows are of photos that could not be read, ``[N]``; a file that is no photo has not failed."""
        return np.fromiter((row.has_failed for row in self.rows), np.bool_, len(self))

    @cached_property
    def is_photo(self) -> NDArray[np.bool_]:
        """Which rows are of photos, ``[N]``, and not of files that are none."""
        return np.fromiter((row.error != NOT_A_PHOTO for row in self.rows), np.bool_, len(self))

    @cached_property
    def photos(self) -> tuple[range, ...]:
        """The numbers of each photo's rows: one, or with faces one for each."""
        paths = [row.path for row in self.rows]
        begins = [n for n, row in enumerate(self.rows) if n == 0 or row.is_first or paths[n] != paths[n - 1]]
        return tuple(map(range, begins, [*begins[1:], len(self)]))

    @property
    def classes(self) -> tuple[ClassRule, ...]:
        """What the classes mean in labels. Raises GenderclsError where that is not known."""
        if self.record is not None and self.record.classes:
            return self.record.classes
        if self.answers.names == tuple(rule.name for rule in DEFAULT_CLASSES):
            return DEFAULT_CLASSES
        raise GenderclsError(
            "what these classes mean in labels is not known",
            where=f"{self.path} has {', '.join(self.answers.names)}, and no {self.path.name}.run.json tells",
            do="classify the photos again with this version, or restore the .run.json",
        )

    @property
    def independent(self) -> bool:
        """Whether each class is an attribute by itself."""
        return isinstance(self.answers, IndependentAnswers)


def read_preds(path: Path) -> Predictions:
    """Read what ``gendercls classify`` wrote, a CSV or Parquet.

    Raises:
        GenderclsError: there is no such file, or what reads Parquet is not installed.
        OutputError: it is unfinished, damaged, or not such a file.
    """
    _check_finished(path)
    try:
        content = path.read_bytes()
        data = content.removeprefix(codecs.BOM_UTF8)  # which spreadsheets put there
        if is_parquet(path.name):
            data = b"".join(csv_of(io.BytesIO(content), str(path)))
        records = list(read_records(io.BytesIO(data), str(path)))
    except DamagedRowError as error:
        error.do = _REMEDY
        raise
    except OSError as error:
        raise GenderclsError(
            f"the CSV cannot be read: {error.strerror}", where=str(path), do="check the path"
        ) from None
    header, *lines = [fields for fields, _ in records] or [[]]
    columns = Columns.of_header(header, independent=False)
    if columns is None:
        raise OutputError(
            "this is no CSV that gendercls classify wrote",
            where=f"{path} begins with {','.join(header)[:200]}",
            do="give its preds.csv, or the folder of a training run",
        )
    if records[-1][1] != len(data):
        raise OutputError("the CSV is cut off within its last row", where=str(path), do=_REMEDY)
    confidence, probabilities = _numbers(path, columns, lines)
    record = _read_record(path)
    if record is not None and record.independent is not None:
        independent = record.independent
    else:
        independent = _are_independent(probabilities[~np.isnan(confidence)])
    columns = replace(columns, answers=answers_for(independent, columns.answers.names))
    rows, sha256 = _rows(path, columns, lines), hashlib.sha256(content).hexdigest()
    return Predictions(path, sha256, columns, rows, confidence, probabilities, record)


def _are_independent(probabilities: NDArray[np.float64]) -> bool:
    """Whether these answers ``[M, K]`` are of attributes: those of classes that exclude each other sum to 1."""
    rounding = 1e-6 * probabilities.shape[1]
    return bool((np.abs(probabilities.sum(axis=1) - 1) > rounding).any())


def place_of(path: str, root: bytes) -> bytes:
    """Where the photo of a row lies. path: as the CSV has it; root: the folder that it is below, or empty."""
    literal = os.path.join(root, path.encode("utf-8", "surrogateescape"))
    if "\\x" not in path or os.path.lexists(literal):
        return literal
    return os.path.join(root, _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), path.encode()))


def root_of(preds: Predictions, photos: Path | None) -> bytes:
    """The folder that the rows' paths are below: the one named, else where the run found them.

    Raises:
        GenderclsError: there is no such folder, or nobody knows where the photos were.
    """
    if photos is not None:
        if not photos.is_dir():
            raise GenderclsError("no such folder of photos", where=f"--photos {photos}", do="check the path")
        return os.fsencode(photos)
    if preds.record is None:
        raise GenderclsError(
            "where the photos lie is not known",
            where=f"{preds.path.name}.run.json is not beside {preds.path}",
            do="name their folder with --photos",
        )
    inputs = preds.record.inputs
    is_one_folder = len(inputs) == 1 and (os.path.isdir(inputs[0]) or is_url(inputs[0]))
    return os.fsencode(inputs[0]) if is_one_folder else b""


def _check_finished(path: Path) -> None:
    part = part_of(path)
    if not part.exists() or (is_parquet(path.name) and is_left_over(part, path)):
        return
    if path.exists():
        raise OutputError(
            "another run of this output is not finished, so what lies beside it may not belong to it",
            where=str(part),
            do="finish that run, or remove the .part file",
        )
    raise OutputError(
        "the run is not finished", where=str(part), do="repeat its command, which continues, and then this one"
    )


def _numbers(
    path: Path, columns: Columns, lines: Sequence[Sequence[str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The confidence and the probabilities of all rows."""
    width = len(columns.header())
    begin = columns.header().index("confidence")
    end = begin + 1 + len(columns.answers.names)
    try:
        fields = [line[begin:end] if len(line) == width else None for line in lines]
        if None in fields:
            raise ValueError(f"{len(lines[fields.index(None)])} fields instead of {width}")
        table = np.array([[float(word or "nan") for word in words or ()] for words in fields], np.float64)
    except ValueError as error:
        raise OutputError(f"the CSV is damaged: {error!s:.200}", where=str(path), do=_REMEDY) from None
    table = table.reshape(len(lines), end - begin)
    known = table[~np.isnan(table[:, 0])]
    if not ((known >= 0) & (known <= 1)).all():
        raise OutputError("the CSV is damaged: a probability is not between 0 and 1", where=str(path), do=_REMEDY)
    return table[:, 0], table[:, 1:]


def _rows(path: Path, columns: Columns, lines: Sequence[Sequence[str]]) -> tuple[Row, ...]:
    rows = []
    for fields in lines:
        try:
            rows.append(columns.row(fields))
        except ValueError as error:
            raise OutputError(
                f"the CSV is damaged: {error!s:.200}",
                where=f"{path}, at {fields[0][:200] if fields else 'an empty line'}",
                do=_REMEDY,
            ) from None
    return tuple(rows)


def _read_record(path: Path) -> RunRecord | None:
    """Raises OutputError where it is there and damaged."""
    place = path.with_name(path.name + ".run.json")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"the record of the run cannot be read: {error}", where=str(place), do=_REMEDY) from None
    try:
        model, options, counted = content["model"], content["options"], content.get("counted") or {}
        classes = tuple(ClassRule(str(name), str(rule)) for name, rule in content.get("classes", {}).items())
        detector, labels = content.get("face_model") or {}, content.get("labels") or {}
        batch_shape, split = options.get("batch_shape"), options.get("split")
        return RunRecord(
            inputs=tuple(map(str, content["inputs"])),
            model=str(model["file"]),
            model_sha256=str(model["sha256"]),
            face_model=str(detector.get("file", "")),
            face_model_sha256=str(detector.get("sha256", "")),
            labels_sha256=str(labels.get("sha256", "")),
            labels_weighted=bool(labels.get("weighted")),
            device=str(options["device"]),
            precision=str(options["precision"]),
            threshold=float(options["confidence_threshold"]),
            batch_size=_optional_count(batch_shape[0]) if batch_shape else None,
            min_face=_optional_count(options.get("min_face")),
            max_faces=_optional_count(options.get("max_faces")),
            split=None if split is None else str(split),
            limit=_optional_count(options.get("limit")),
            classes=classes,
            independent=None if "independent" not in content else bool(content["independent"]),
            counted=_confusion(counted.get("confusion"), len(classes)),
            counted_on=str(counted.get("on", "")),
            versions={str(name): str(version) for name, version in content["versions"].items()},
            finished=dict(content.get("finished", {})),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        why = f"{error!r:.200}"
        raise OutputError(f"the record of the run is damaged: {why}", where=str(place), do=_REMEDY) from None


def _optional_count(value: object) -> int | None:
    """A number of things, 1 or more, or None. Raises ValueError for what is neither."""
    if value is None:
        return None
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no number of things")
    return value


def _confusion(counts: object, classes: int) -> NDArray[np.int64] | None:
    """Of classes that exclude each other. Raises ValueError where it is no table of counts."""
    if counts is None:
        return None
    table = np.array(counts, np.int64)
    return table if table.shape == (classes, classes) and table.min() >= 0 else None
