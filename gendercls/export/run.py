"""``gendercls export``: a trained network → a model file, which stays only if the gate lets it pass."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from gendercls.classify.session import Device, Session, create
from gendercls.errors import OutputError, PhotoError, UsageError
from gendercls.export.convert import to_onnx, with_spec
from gendercls.export.gate import Parity, run_both
from gendercls.export.losses import Loss, check_losses, losses
from gendercls.export.photos import Truth, evenly, truth_of
from gendercls.export.quantise import CALIBRATION_PHOTOS, RECORD, quantised
from gendercls.export.source import BY_ONNXRUNTIME, SELF_TEST_TOLERANCE, Report, Source, find_source, rows_of, source_of
from gendercls.images import Preprocessing, to_array
from gendercls.modelfile import ModelFile, Precision, read_model_file
from gendercls.sources import Listing, Photo
from gendercls.spec import Figure, GateFigures, ModelSpec
from gendercls.wholefile import whole_file

_GATE_PHOTOS: dict[Precision, int] = {"fp32": 500, "fp16": 10_000, "int8": 10_000}
"""How closely two sides compute is seen on few photos; what rounding loses only on many."""

_FILE_NAMES: dict[Precision, str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the command line says.

    run: a run's folder, a checkpoint, a float model file, or None for the newest finished run. calibrate: photos that
    int8 learns its ranges from; None for the run's training part.
    """

    run: Path | None
    out: Path | None
    check: Path | None
    labels: Path | None
    precision: Precision = "fp32"
    calibrate: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The file, its contract and what the gate saw.

    skipped: check photos that could not be read. losses: of fp16 or int8 against the float network.
    """

    out: Path
    spec: ModelSpec
    gate: GateFigures
    skipped: int
    size: int
    losses: tuple[Loss, ...] = ()


def export(options: ExportOptions, report: Report) -> ExportResult:
    """Write the ONNX file of a finished run, or of a float model file in another precision.

    Raises:
        ModelError: there is no finished run or model file, or it cannot be used.
        UsageError: what is asked for needs photos that are not named, or makes no sense.
        GateError: onnxruntime does not answer as PyTorch does; no file is left.
        OutputError: the file cannot be written.
    """
    path = find_source(options.run, report)
    _check_sense(options, path)
    report(f"{'model' if path.suffix == '.onnx' else 'checkpoint'}: {path}")
    out = options.out or _default_out(path, options.precision)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OutputError(
            "the model's folder does not exist or is not writable", where=str(out), do="choose another --out"
        )
    if out.exists() and out.samefile(path):
        raise OutputError("what is exported would be written over", where=str(out), do="choose another --out")
    source = source_of(path)
    calibrated, spec = source.calibrated, source.spec
    if out.name not in _FILE_NAMES.values():
        spec = replace(spec, name=_plain_stem(out))
    report(f"licence of the data: {spec.provenance.get('data_licence', 'not stated')}")
    photos, label_file = _check_photos(options, source)
    seen = _readable(_calibration_photos(options, source), spec.preprocessing) if options.precision == "int8" else []
    report("converting")
    graph = to_onnx(calibrated, spec.preprocessing.height, spec.preprocessing.width, options.precision)
    if options.precision == "int8":
        graph, spec = _int8(graph, spec, seen)
    if options.precision != "fp32":
        spec = _rounded(graph, spec, options.precision)
    draft = ModelFile(out, with_spec(graph, spec), "", spec)
    report("gate: the same photos through PyTorch and onnxruntime")
    parity = run_both(calibrated, Session(draft, device="cpu"), photos, report)
    truth = truth_of(parity.photos, label_file, spec) if label_file is not None else None
    if truth is not None and truth.has_weights:
        report("warning: the labels have weights, which the gate does not use: each labelled photo counts once")
    gate, found = _gate(options.precision, parity, truth)
    measured = _measured(spec, parity, truth) if truth is not None else ()
    spec = replace(spec, gate=gate, figures=spec.figures + measured)
    data = with_spec(graph, spec)
    _write(out, data)
    return ExportResult(out, spec, gate, parity.skipped, len(data), tuple(found))


def _check_sense(options: ExportOptions, path: Path) -> None:
    """Raises UsageError."""
    if options.calibrate is not None and options.precision != "int8":
        raise UsageError(
            f"{options.precision} learns nothing from photos",
            where=f"--calibrate {options.calibrate}",
            do="leave it out, or export with --precision int8",
        )
    if path.suffix == ".onnx" and options.precision == "fp32":
        raise UsageError("a model file is no run to export", where=str(path), do="add --precision fp16 or int8")


def _default_out(path: Path, precision: Precision) -> Path:
    """Beside what is exported: ``faces.onnx`` → ``faces.int8.onnx``, ``best.pt`` → ``model.int8.onnx``."""
    name = _FILE_NAMES[precision]
    return path.with_name(name.replace("model", path.stem) if path.suffix == ".onnx" else name)


def _plain_stem(out: Path) -> str:
    """A file's name without what it says of the precision."""
    return out.stem.removesuffix(".int8").removesuffix(".fp16")


def _readable(photos: list[Photo], pre: Preprocessing) -> list[NDArray[np.uint8]]:
    """Those that can be read, as a model of that preprocessing sees them. Raises UsageError where there is none."""
    arrays: list[NDArray[np.uint8]] = []
    for photo in photos:
        with suppress(PhotoError):
            arrays.append(to_array(photo.read(), pre, name=photo.key))
    if not arrays:
        raise UsageError(
            "int8 needs real photos, and none of those given can be read",
            where=f"{len(photos):,} tried",
            do="name some with --calibrate PHOTOS",
        )
    return arrays


def _int8(
    graph: onnx.ModelProto, spec: ModelSpec, photos: list[NDArray[np.uint8]]
) -> tuple[onnx.ModelProto, ModelSpec]:
    """The graph in 8 bits, and the contract with how it came to be."""
    provenance = {**spec.provenance, "quantisation": {**RECORD, "calibration_photos": len(photos)}}
    batches = (np.stack(photos[n : n + 8]) for n in range(0, len(photos), 8))
    return quantised(graph, batches), replace(spec, provenance=provenance)


def _rounded(graph: onnx.ModelProto, spec: ModelSpec, precision: Precision) -> ModelSpec:
    """The contract of a graph whose answers are not quite those of the float network."""
    test = replace(spec.self_test, tolerance=SELF_TEST_TOLERANCE[precision])
    session = create(graph.SerializeToString(), "the converted model", Device("cpu"))
    answers = session.run(["probabilities"], {"images": test.images(spec.preprocessing)})[0]
    return replace(spec, precision=precision, self_test=replace(test, probabilities=rows_of(answers)))


def _gate(precision: Precision, parity: Parity, truth: Truth | None) -> tuple[GateFigures, list[Loss]]:
    """Raises GateError where the file must not stay."""
    if precision == "fp32":
        return parity.check(), []
    if truth is None or not len(truth.matched):
        raise UsageError(
            f"what {precision} loses is seen on labelled photos alone, and the check photos have no label",
            where=f"--precision {precision}",
            do="name their labels with --labels",
        )
    found = losses(parity, truth)
    check_losses(found, precision)
    return parity.figures(tolerance=1.0), found


def _check_photos(options: ExportOptions, source: Source) -> tuple[Iterable[Photo], Path | None]:
    """The photos named with --check, else the run's own validation part; and their labels, where there are any."""
    if options.check is not None:
        return Listing([str(options.check)]), options.labels
    most = _GATE_PHOTOS[options.precision]
    own = source.path.with_name("split.csv") if options.precision != "fp32" else None
    return source.photos("val", most, purpose="the gate", option="--check PHOTOS"), options.labels or own


def _calibration_photos(options: ExportOptions, source: Source) -> list[Photo]:
    """What int8 learns its ranges from: of the photos named with --calibrate, else of the run's training part."""
    if options.calibrate is None:
        return source.photos("train", CALIBRATION_PHOTOS, purpose="int8", option="--calibrate PHOTOS")
    return evenly(list(Listing([str(options.calibrate)])), CALIBRATION_PHOTOS)


def _measured(spec: ModelSpec, parity: Parity, truth: Truth) -> tuple[Figure, ...]:
    """How often onnxruntime's answers agree with the labels of the check photos."""
    answers = parity.by_onnxruntime[truth.matched]
    groups = {f"{part} part of its labels": truth.parts == part for part in np.unique(truth.parts) if part}
    if not any(chosen.all() for chosen in groups.values()):
        groups["all check photos"] = np.full(len(answers), True)
    figures = (
        Figure.of(f"{truth.source}, {name}{BY_ONNXRUNTIME}", spec.answers, answers[chosen], truth.targets[chosen])
        for name, chosen in groups.items()
    )
    return tuple(figure for figure in figures if not figure.is_empty)


def _write(out: Path, data: bytes) -> None:
    """Write, open again as a user would, and only then give it its name."""
    try:
        with whole_file(out, lambda written: Session(read_model_file(written), device="cpu")) as file:
            file.write(data)
    except OSError as error:
        raise OutputError(
            f"the model cannot be written: {error.strerror}", where=str(out), do="free some disk"
        ) from None
