"""What is exported: the network of a run's checkpoint, or of a float model file that an export made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls.errors import ModelError, UsageError
from gendercls.export.photos import photos_of_run
from gendercls.images import Preprocessing
from gendercls.labels import ClassRule
from gendercls.modelfile import Precision, read_model_file
from gendercls.sources import Photo
from gendercls.spec import Figure, GateFigures, ModelSpec, SelfTest
from gendercls.stats import Threshold
from gendercls.train.checkpoint import load_checkpoint, sha256_of
from gendercls.train.network import CalibratedNetwork, Network
from gendercls.train.unfold import unfolded

SELF_TEST_SEEDS = (1, 2, 3, 4)
SELF_TEST_TOLERANCE: dict[Precision, float] = {"fp32": 2e-3, "fp16": 2e-2, "int8": 2e-2}
"""Far above what processors differ by, far below what a damaged weight does."""

BY_ONNXRUNTIME = ", onnxruntime"
"""Ends the names of figures that an export measured, with the file that it made."""

_LARGEST = 1024
"""Pixels of a side: what a recipe allows."""

_LOCAL = {"data_folder", "photos_folder"}
"""Where things lay on the machine that trained is nobody else's business."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """A network and its contract, of fp32. checkpoint: of a run; None of a model file."""

    path: Path
    calibrated: CalibratedNetwork
    spec: ModelSpec
    checkpoint: dict[str, Any] | None

    def photos(self, part: str, most: int, *, purpose: str, option: str) -> list[Photo]:
        """Photos of a part of the run's own split, as `photos_of_run` gives them.

        Raises:
            UsageError: they are not here, or this is no run; says which option names others.
        """
        do = f"name some with {option}"
        if self.checkpoint is None:
            raise UsageError(
                f"{purpose} needs real photos, and a model file does not say where its run's lie",
                where=str(self.path),
                do=do,
            )
        return photos_of_run(self.path, self.checkpoint, part, most, purpose=purpose, do=do)


def find_source(run: Path | None, report: Report) -> Path:
    """The file to export: that of a run's folder, one named itself, or the newest finished run's in ``runs``.

    Raises:
        ModelError, UsageError: there is none.
    """
    if run is None:
        return _newest_finished(report)
    if run.is_dir():
        if not (run / "best.pt").exists():
            raise ModelError("the folder holds no trained run", where=str(run), do="name a folder with a best.pt")
        return run / "best.pt"
    return run


def source_of(path: Path) -> Source:
    """Raises ModelError: no finished run's checkpoint, nor an fp32 file that export made."""
    return _of_model(path) if path.suffix == ".onnx" else _of_checkpoint(path)


def rows_of(probabilities: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """As a self-test has them."""
    return tuple(map(tuple, probabilities.astype(np.float64).round(7).tolist()))


def _of_model(path: Path) -> Source:
    model = read_model_file(path)
    calibrated, spec = unfolded(model), model.spec
    spec = replace(
        spec,
        provenance={**spec.provenance, "model_sha256": model.sha256},
        figures=tuple(figure for figure in spec.figures if not figure.on.endswith(BY_ONNXRUNTIME)),
        gate=_NO_GATE,
    )
    return Source(path, calibrated, spec, None)


def _of_checkpoint(path: Path) -> Source:
    checkpoint = load_checkpoint(path)
    if "calibration" not in checkpoint:
        raise ModelError(
            "the run is not finished, so its weights are neither calibrated nor tested",
            where=str(path),
            do="finish it with gendercls train --resume",
        )
    try:
        calibrated = _calibrated(checkpoint)
        spec = _spec(path, checkpoint, calibrated)
        _ = spec.to_json(), Path(checkpoint["record"]["photos_folder"])  # which are asked for later
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"the checkpoint is not complete: {str(error).splitlines()[0][:120]}",
            where=str(path),
            do="give the best.pt of a finished run, as gendercls train wrote it",
        ) from error
    return Source(path, calibrated, spec, checkpoint)


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


def _spec(path: Path, checkpoint: dict[str, Any], calibrated: CalibratedNetwork) -> ModelSpec:
    recipe = checkpoint["recipe"]
    pre = Preprocessing(recipe["fit"], recipe["size"], recipe["size"], recipe["resampling"], recipe["face_margin"])
    record = {key: value for key, value in checkpoint["record"].items() if key not in _LOCAL}
    return ModelSpec(
        name=path.resolve().parent.name,
        classes=tuple(ClassRule(c["name"], c["rule"]) for c in checkpoint["classes"]),
        preprocessing=pre,
        precision="fp32",
        temperature=checkpoint["calibration"]["temperature"],
        provenance={**record, "recipe": recipe, "checkpoint_sha256": sha256_of(path)},
        figures=tuple(Figure.from_counts(**figure) for figure in checkpoint["figures"]),
        thresholds=tuple(Threshold(**row) for row in checkpoint["calibration"]["thresholds"]),
        self_test=_self_test(calibrated, pre),
        gate=_NO_GATE,
        independent=_is_independent(checkpoint),
        familiar_norm=checkpoint["calibration"].get("familiar_norm"),  # one of before there was any has none
    )


def _self_test(calibrated: CalibratedNetwork, pre: Preprocessing) -> SelfTest:
    test = SelfTest(SELF_TEST_SEEDS, (), SELF_TEST_TOLERANCE["fp32"])
    with torch.inference_mode():
        answers = calibrated(torch.from_numpy(test.images(pre))).numpy()
    return replace(test, probabilities=rows_of(answers))


_NO_GATE = GateFigures(0, 0.0, 0.0, 0, "")
