"""``gendercls export``: a checkpoint → a model file, which stays only if the gate lets it pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from gendercls.classify.session import Device, Session, create
from gendercls.errors import ModelError, OutputError, PhotoError, UsageError
from gendercls.export.convert import CalibratedNetwork, to_onnx, with_spec
from gendercls.export.gate import Parity, run_both
from gendercls.export.losses import Loss, check_losses, losses
from gendercls.export.photos import Truth, photos_of_run, truth_of
from gendercls.export.quantise import CALIBRATION_PHOTOS, RECORD, quantised
from gendercls.images import Preprocessing, to_array
from gendercls.labels import ClassRule
from gendercls.modelfile import ModelFile, Precision, read_model_file
from gendercls.sources import Listing, Photo
from gendercls.spec import Figure, GateFigures, ModelSpec, SelfTest
from gendercls.stats import Threshold
from gendercls.train.checkpoint import load_checkpoint, sha256_of
from gendercls.train.network import Network
from gendercls.wholefile import whole_file

SELF_TEST_SEEDS = (1, 2, 3, 4)
SELF_TEST_TOLERANCE: dict[Precision, float] = {"fp32": 2e-3, "fp16": 2e-2, "int8": 2e-2}
"""Far above what processors differ by, far below what a damaged weight does."""

_LARGEST = 1024
"""Pixels of a side: what a recipe allows."""

_GATE_PHOTOS: dict[Precision, int] = {"fp32": 500, "fp16": 10_000, "int8": 10_000}
"""How closely two sides compute is seen on few photos; what rounding loses only on many."""

_LOCAL = {"data_folder", "photos_folder"}
"""Where things lay on the machine that trained is nobody else's business."""

_FILE_NAMES: dict[Precision, str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the command line says. run: a run's folder, a checkpoint, or None for the newest finished run."""

    run: Path | None
    out: Path | None
    check: Path | None
    labels: Path | None
    precision: Precision = "fp32"


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
    """Write the ONNX file of a finished run.

    Raises:
        ModelError: there is no finished run or its checkpoint cannot be used.
        GateError: onnxruntime does not answer as PyTorch does; no file is left.
        OutputError: the file cannot be written.
    """
    checkpoint_path = _find_checkpoint(options.run, report)
    report(f"checkpoint: {checkpoint_path}")
    checkpoint = load_checkpoint(checkpoint_path)
    if "calibration" not in checkpoint:
        raise ModelError(
            "the run is not finished, so its weights are neither calibrated nor tested",
            where=str(checkpoint_path),
            do="finish it with gendercls train --resume",
        )
    out = options.out or checkpoint_path.with_name(_FILE_NAMES[options.precision])
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OutputError(
            "the model's folder does not exist or is not writable", where=str(out), do="choose another --out"
        )
    calibrated, spec = _assemble(out, checkpoint_path, checkpoint)
    report(f"licence of the data: {spec.provenance.get('data_licence', 'not stated')}")
    photos, label_file = _check_photos(options, checkpoint_path, checkpoint)
    training_photos = _training_photos(checkpoint_path, checkpoint) if options.precision == "int8" else []
    report("converting")
    graph = to_onnx(calibrated, spec.preprocessing.height, spec.preprocessing.width, options.precision)
    if options.precision == "int8":
        graph, spec = _int8(graph, spec, training_photos)
    if options.precision != "fp32":
        spec = _rounded(graph, spec, options.precision)
    draft = ModelFile(out, with_spec(graph, spec), "", spec)
    report("gate: the same photos through PyTorch and onnxruntime")
    parity = run_both(calibrated, Session(draft, device="cpu"), photos, report)
    truth = truth_of(parity.photos, label_file, spec) if label_file is not None else None
    gate, found = _gate(options.precision, parity, truth)
    measured = _measured(spec, parity, truth) if truth is not None else ()
    spec = replace(spec, gate=gate, figures=spec.figures + measured)
    data = with_spec(graph, spec)
    _write(out, data)
    return ExportResult(out, spec, gate, parity.skipped, len(data), tuple(found))


def _int8(graph: onnx.ModelProto, spec: ModelSpec, photos: list[Photo]) -> tuple[onnx.ModelProto, ModelSpec]:
    """The graph in 8 bits, and the contract with how it came to be."""
    provenance = {**spec.provenance, "quantisation": {**RECORD, "calibration_photos": len(photos)}}
    return quantised(graph, _batches(photos, spec.preprocessing)), replace(spec, provenance=provenance)


def _rounded(graph: onnx.ModelProto, spec: ModelSpec, precision: Precision) -> ModelSpec:
    """The contract of a graph whose answers are not quite those of the float network."""
    test = replace(spec.self_test, tolerance=SELF_TEST_TOLERANCE[precision])
    session = create(graph.SerializeToString(), "the converted model", Device("cpu"))
    answers = session.run(["probabilities"], {"images": test.images(spec.preprocessing)})[0]
    return replace(spec, precision=precision, self_test=replace(test, probabilities=_rows(answers)))


def _batches(photos: Iterable[Photo], pre: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    """Photos of the model's size, 8 at once; those that cannot be read are left out."""
    arrays: list[NDArray[np.uint8]] = []
    for photo in photos:
        with suppress(PhotoError):
            arrays.append(to_array(photo.read(), pre, name=photo.key))
    return (np.stack(arrays[n : n + 8]) for n in range(0, len(arrays), 8))


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


def _find_checkpoint(run: Path | None, report: Report) -> Path:
    if run is None:
        return _newest_finished(report)
    if run.is_dir():
        if not (run / "best.pt").exists():
            raise ModelError("the folder holds no trained run", where=str(run), do="name a folder with a best.pt")
        return run / "best.pt"
    return run


def _newest_finished(report: Report) -> Path:
    newest_first = sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest_first:
        try:
            if "calibration" in load_checkpoint(path):
                return path
        except ModelError as error:
            report(f"passed over: {path}: {error.what}")
    raise UsageError(
        "there is no finished run here",
        where=str(Path("runs").absolute()),
        do="gendercls train DATA --init imagenet, or name one: gendercls export runs/NAME",
    )


def _check_photos(
    options: ExportOptions, path: Path, checkpoint: dict[str, Any]
) -> tuple[Iterable[Photo], Path | None]:
    """The photos named with --check, else the run's own validation part; and their labels, where there are any."""
    if options.check is not None:
        return Listing([str(options.check)]), options.labels
    most = _GATE_PHOTOS[options.precision]
    own = path.with_name("split.csv") if options.precision != "fp32" else None
    own_photos = photos_of_run(path, checkpoint, "val", most, purpose="the gate", do="name some with --check PHOTOS")
    return own_photos, options.labels or own


def _training_photos(path: Path, checkpoint: dict[str, Any]) -> list[Photo]:
    """What int8 is calibrated on."""
    do = "put them back where the run found them, or export with --precision fp32"
    return photos_of_run(path, checkpoint, "train", CALIBRATION_PHOTOS, purpose="int8", do=do)


def _assemble(out: Path, path: Path, checkpoint: dict[str, Any]) -> tuple[CalibratedNetwork, ModelSpec]:
    try:
        calibrated = _calibrated(checkpoint)
        spec = _spec(out, path, checkpoint, calibrated)
        _ = spec.to_json(), Path(checkpoint["record"]["photos_folder"])  # which are asked for later
        return calibrated, spec
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"the checkpoint is not complete: {str(error).splitlines()[0][:120]}",
            where=str(path),
            do="give the best.pt of a finished run, as gendercls train wrote it",
        ) from error


def _calibrated(checkpoint: dict[str, Any]) -> CalibratedNetwork:
    recipe, low_high = checkpoint["recipe"], checkpoint["input_range"]
    classes, outputs = len(checkpoint["classes"]), len(checkpoint["weights"]["head.weight"])
    if classes != outputs or recipe["size"] > _LARGEST:  # before memory is taken for so many, or for so large photos
        raise ValueError(f"it has {classes:,} classes, {outputs:,} outputs and photos of {recipe['size']} pixels")
    network = Network(classes, dropout=recipe["dropout"], input_range=(low_high[0], low_high[1]))
    network.load_state_dict(checkpoint["weights"])
    temperature, independent = checkpoint["calibration"]["temperature"], _is_independent(checkpoint)
    return CalibratedNetwork(network.float(), temperature, independent=independent).eval()


def _is_independent(checkpoint: dict[str, Any]) -> bool:
    """A checkpoint of before there were independent attributes does not say, and has none."""
    return bool(checkpoint.get("independent", False))


def _spec(out: Path, path: Path, checkpoint: dict[str, Any], calibrated: CalibratedNetwork) -> ModelSpec:
    recipe = checkpoint["recipe"]
    pre = Preprocessing(recipe["fit"], recipe["size"], recipe["size"], recipe["resampling"], recipe["face_margin"])
    record = {key: value for key, value in checkpoint["record"].items() if key not in _LOCAL}
    test = SelfTest(SELF_TEST_SEEDS, (), SELF_TEST_TOLERANCE["fp32"])
    with torch.inference_mode():
        answers = calibrated(torch.from_numpy(test.images(pre))).numpy()
    return ModelSpec(
        name=path.resolve().parent.name if out.name in _FILE_NAMES.values() else _plain_stem(out),
        classes=tuple(ClassRule(c["name"], c["rule"]) for c in checkpoint["classes"]),
        preprocessing=pre,
        precision="fp32",
        temperature=checkpoint["calibration"]["temperature"],
        provenance={**record, "recipe": recipe, "checkpoint_sha256": sha256_of(path)},
        figures=tuple(Figure.from_counts(**figure) for figure in checkpoint["figures"]),
        thresholds=tuple(Threshold(**row) for row in checkpoint["calibration"]["thresholds"]),
        self_test=replace(test, probabilities=_rows(answers)),
        gate=GateFigures(0, 0.0, 0.0, 0, ""),
        independent=_is_independent(checkpoint),
        familiar_norm=checkpoint["calibration"].get("familiar_norm"),  # one of before there was any has none
    )


def _plain_stem(out: Path) -> str:
    """A file's name without what it says of the precision."""
    return out.stem.removesuffix(".int8").removesuffix(".fp16")


def _rows(probabilities: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, probabilities.astype(np.float64).round(7).tolist()))


def _measured(spec: ModelSpec, parity: Parity, truth: Truth) -> tuple[Figure, ...]:
    """How often onnxruntime's answers agree with the labels of the check photos."""
    answers = parity.by_onnxruntime[truth.matched]
    groups = {f"{part} part of its labels": truth.parts == part for part in np.unique(truth.parts) if part}
    if not any(chosen.all() for chosen in groups.values()):
        groups["all check photos"] = np.full(len(answers), True)
    figures = (
        Figure.of(f"{truth.source}, {name}, onnxruntime", spec.answers, answers[chosen], truth.targets[chosen])
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
