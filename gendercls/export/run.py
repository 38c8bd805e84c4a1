"""``gendercls export``: a checkpoint → a model file, which stays only if the gate lets it pass."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendercls.classify.session import Session
from gendercls.errors import ModelError, OutputError, UsageError
from gendercls.export.convert import CalibratedNetwork, to_onnx, with_spec
from gendercls.export.gate import Parity, run_both
from gendercls.images import Preprocessing
from gendercls.labels import ClassRule, read_labels
from gendercls.labels.match import LabelIndex
from gendercls.modelfile import ModelFile, read_model_file
from gendercls.sources import Listing, Photo, PhotoFile, readable_name
from gendercls.spec import Figure, GateFigures, ModelSpec, SelfTest
from gendercls.stats import Threshold
from gendercls.train.checkpoint import load_checkpoint, sha256_of
from gendercls.train.network import Network
from gendercls.wholefile import whole_file

SELF_TEST_SEEDS = (1, 2, 3, 4)
SELF_TEST_TOLERANCE = 2e-3
"""For fp32: far above what processors differ by, far below what a damaged weight does."""

_GATE_PHOTOS = 500
_LOCAL = {"data_folder", "photos_folder"}
"""Where things lay on the machine that trained is nobody else's business."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the command line says. run: a run's folder, a checkpoint, or None for the newest finished run."""

    run: Path | None
    out: Path | None
    check: Path | None
    labels: Path | None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The file, its contract and what the gate saw. skipped: check photos that could not be read."""

    out: Path
    spec: ModelSpec
    gate: GateFigures
    skipped: int
    size: int


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
    out = options.out or checkpoint_path.with_name("model.onnx")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OutputError(
            "the model's folder does not exist or is not writable", where=str(out), do="choose another --out"
        )
    calibrated, spec = _assemble(out, checkpoint_path, checkpoint)
    report(f"licence of the data: {spec.provenance['data_licence']}")
    photos = _check_photos(options, checkpoint_path, checkpoint)
    report("converting")
    graph = to_onnx(calibrated, spec.preprocessing.height, spec.preprocessing.width)
    draft = ModelFile(out, with_spec(graph, spec), "", spec)
    report("gate: the same photos through PyTorch and onnxruntime")
    parity = run_both(calibrated, Session(draft, device="cpu"), photos, report)
    gate = parity.check()
    spec = replace(spec, gate=gate, figures=spec.figures + _measured(options, spec, parity))
    data = with_spec(graph, spec)
    _write(out, data)
    return ExportResult(out, spec, gate, parity.skipped, len(data))


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


def _check_photos(options: ExportOptions, path: Path, checkpoint: dict[str, Any]) -> Iterable[Photo]:
    """The photos named with --check; else the run's own validation part."""
    if options.check is not None:
        return Listing([str(options.check)])
    split = path.with_name("split.csv")
    folder = Path(checkpoint["record"]["photos_folder"])
    if not split.exists() or not folder.is_dir():
        raise UsageError(
            "the gate needs real photos, and the run's own are not here",
            where=f"{split if not split.exists() else folder}",
            do="name some with --check PHOTOS",
        )
    with split.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        keys = [os.fsencode(row["path"]) for row in csv.DictReader(file) if row["split"] == "val"]
    return islice((PhotoFile(readable_name(key), os.path.join(os.fsencode(folder), key)) for key in keys), _GATE_PHOTOS)


def _assemble(out: Path, path: Path, checkpoint: dict[str, Any]) -> tuple[CalibratedNetwork, ModelSpec]:
    try:
        calibrated = _calibrated(checkpoint)
        return calibrated, _spec(out, path, checkpoint, calibrated)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the checkpoint is not complete: {str(error).splitlines()[0][:120]}",
            where=str(path),
            do="give the best.pt of a finished run, as gendercls train wrote it",
        ) from error


def _calibrated(checkpoint: dict[str, Any]) -> CalibratedNetwork:
    recipe, low_high = checkpoint["recipe"], checkpoint["input_range"]
    network = Network(len(checkpoint["classes"]), dropout=recipe["dropout"], input_range=(low_high[0], low_high[1]))
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
    test = SelfTest(SELF_TEST_SEEDS, (), SELF_TEST_TOLERANCE)
    with torch.inference_mode():
        answers = calibrated(torch.from_numpy(test.images(pre))).double().numpy().round(7).tolist()
    return ModelSpec(
        name=out.stem if out.stem != "model" else path.resolve().parent.name,
        classes=tuple(ClassRule(c["name"], c["rule"]) for c in checkpoint["classes"]),
        preprocessing=pre,
        precision="fp32",
        temperature=checkpoint["calibration"]["temperature"],
        provenance={**record, "recipe": recipe, "checkpoint_sha256": sha256_of(path)},
        figures=tuple(Figure.from_counts(**figure) for figure in checkpoint["figures"]),
        thresholds=tuple(Threshold(**row) for row in checkpoint["calibration"]["thresholds"]),
        self_test=replace(test, probabilities=tuple(map(tuple, answers))),
        gate=GateFigures(0, 0.0, 0.0, 0, ""),
        independent=_is_independent(checkpoint),
        familiar_norm=checkpoint["calibration"].get("familiar_norm"),  # one of before there was any has none
    )


def _measured(options: ExportOptions, spec: ModelSpec, parity: Parity) -> tuple[Figure, ...]:
    """How often onnxruntime's answers agree with ``--labels`` on the check photos."""
    if options.labels is None:
        return ()
    labels = read_labels(options.labels)
    index = LabelIndex(labels.keys)
    numbers = np.array([index.find(photo.path)[1] for photo in parity.photos], np.intp)
    matched = numbers[numbers >= 0]
    answers = parity.by_onnxruntime[numbers >= 0]
    truth = labels.truth_for(spec.classes, independent=spec.independent)[matched]
    parts = labels.split[matched] if labels.split is not None else np.full(len(matched), "")
    groups = {f"{part} part of its labels": parts == part for part in np.unique(parts) if part}
    if not any(chosen.all() for chosen in groups.values()):
        groups["all check photos"] = np.full(len(matched), True)
    figures = (
        Figure.of(f"{labels.source}, {name}, onnxruntime", spec.answers, answers[chosen], truth[chosen])
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
