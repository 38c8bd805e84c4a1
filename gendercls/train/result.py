"""What a finished run gives: calibrated weights, scored once on the test part, with every prediction written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls import stats
from gendercls.answers import Answers, answers_for, attribute_scores, rounded
from gendercls.records import to_line, without_nan
from gendercls.spec import UNFAMILIAR
from gendercls.train.checkpoint import load_checkpoint, save_tensors, save_text
from gendercls.train.data import PreparedData
from gendercls.train.dataset import PhotoSet
from gendercls.train.events import EpochMetrics, Report
from gendercls.train.loop import Predicted, predict
from gendercls.train.network import Network
from gendercls.train.parallel import Ranks
from gendercls.train.recipe import Recipe

RESULT_FORMAT = (1, 0)
CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted on the validation part; without one the temperature is 1, there are no thresholds and no norm.

    familiar_norm: the norm of the features that all but `UNFAMILIAR` of the photos have.
    """

    temperature: float
    thresholds: list[stats.Threshold]
    familiar_norm: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a threshold of the validation part gave on the test part. wrong: of the answered photos."""

    promised: stats.Threshold
    coverage: float
    wrong: stats.Rate


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run says.

    best: the epoch whose weights were kept. test: how often the whole label was right on the test part. test_loss:
    mean log-loss of its calibrated probabilities. test_loss_sum: binary cross-entropy before calibration, meaned over
    each batch and summed over batches. error_before, error_after: expected calibration error on the test part.
    """

    run: Path
    best: EpochMetrics
    temperature: float
    test: stats.Rate
    test_loss: float
    test_loss_sum: float
    error_before: float
    error_after: float
    abstention: list[Kept]


def finish(
    run: Path,
    data: PreparedData,
    photos: Mapping[str, PhotoSet],
    network: Network,
    recipe: Recipe,
    ranks: Ranks,
    report: Report,
) -> TrainingResult:
    """Calibrate the kept weights on the validation part, score them once on the test part, and write that down.

    Writes ``best.pt``, ``predictions.csv`` and ``result.json``.

    Args: photos: by part; network: any of the run's shape, gets the weights.
    """
    path = run / "best.pt"
    checkpoint = load_checkpoint(path)
    checkpoint["weights"] = _as_shipped(checkpoint["weights"])
    network.load_state_dict(checkpoint["weights"])
    answers = answers_for(data.independent, data.names)
    val, test = photos["val"], photos["test"]
    report("calibrating on the validation part" if len(val) else "no validation part, so no calibration")
    on_val = predict(network, val, recipe, ranks)
    calibration = _calibrate(answers, on_val, val)
    report("scoring the test part once")
    test_logits = predict(network, test, recipe, ranks).logits
    content = _score(answers, calibration, test_logits, test)
    result = TrainingResult(
        run=run,
        best=EpochMetrics(**checkpoint["metrics"]),
        temperature=calibration.temperature,
        test=content["test"],
        test_loss=content["test_loss"],
        test_loss_sum=_loss_sum(test_logits, test, recipe.batch_size),
        error_before=content["calibration"]["before"]["error"],
        error_after=content["calibration"]["after"]["error"],
        abstention=content["abstention"],
    )
    if ranks.leads:
        checkpoint["calibration"] = asdict(calibration)
        checkpoint["figures"] = [_figure(data, result.test, content)]
        logits = {"val": on_val.logits, "test": test_logits}
        save_text(run / "predictions.csv", _predictions(data, answers, calibration, logits))
        save_text(run / "result.json", _to_json(data, recipe, calibration, result, content))
        save_tensors(path, checkpoint)  # last: a calibrated checkpoint marks the run as finished
    return result


def _as_shipped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as fp16 numbers: half the file for a model and its checkpoint.

    Done before calibration and test, so that every figure is of the weights as they are kept. Norms and biases,
    which are few and span a wider range, stay float.
    """
    return {key: value.half() if value.ndim > 1 else value for key, value in weights.items()}


def _calibrate(answers: Answers, on_val: Predicted, val: PhotoSet) -> Calibration:
    if not len(val):
        return Calibration(1.0, [], None)
    temperature = answers.fit_temperature(on_val.logits, val.targets)
    probabilities = answers.probabilities(on_val.logits, temperature)
    known = answers.is_known(val.targets)
    confidence, right = answers.confidence(probabilities), answers.correct(probabilities, val.targets)
    is_sound = np.isfinite(on_val.norms).all()  # weights that went astray give features beyond any float
    familiar_norm = float(np.quantile(on_val.norms, UNFAMILIAR)) if is_sound else None
    return Calibration(temperature, stats.threshold_table(confidence[known], right[known]), familiar_norm)


def _score(answers: Answers, calibration: Calibration, logits: NDArray[np.float32], test: PhotoSet) -> dict[str, Any]:
    """The test part's figures under the keys of ``result.json``."""
    plain, calibrated = (answers.probabilities(logits, t) for t in (1.0, calibration.temperature))
    known = answers.is_known(test.targets)
    confidence, right = answers.confidence(calibrated)[known], answers.correct(calibrated, test.targets)[known]
    confusion = answers.confusion(calibrated, test.targets)
    kept = []
    for threshold in calibration.thresholds:
        answered = confidence >= threshold.confidence
        wrong = stats.wilson(int((~right[answered]).sum()), int(answered.sum()))
        kept.append(Kept(threshold, wrong.total / max(1, len(right)), wrong))
    return {
        "test": stats.wilson(int(right.sum()), len(right)),
        "test_loss": stats.log_loss(answers.probability_of_truth(calibrated, test.targets)),
        "confusion": confusion,
        "calibration": {
            "bins": CALIBRATION_BINS,
            "before": _reliability(*answers.decisions(plain, test.targets)),
            "after": _reliability(*answers.decisions(calibrated, test.targets)),
        },
        "abstention": kept,
    }


def _reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    bins = stats.reliability(confidence, right, CALIBRATION_BINS)
    return {"error": stats.calibration_error(bins), "reliability": [asdict(b) for b in bins]}


def _loss_sum(logits: NDArray[np.float32], test: PhotoSet, batch: int) -> float:
    """Binary cross-entropy, meaned over each batch in the order of the photos, and summed over the batches."""
    likelihood = stats.sigmoid(np.where(test.targets == 1, logits, -logits))  # of each target
    losses = np.where(test.targets >= 0, -np.log(np.maximum(likelihood, 1e-300)), 0.0)
    return float(sum(losses[first : first + batch].mean() for first in range(0, len(test), batch)))


def _figure(data: PreparedData, test: stats.Rate, content: dict[str, Any]) -> dict[str, Any]:
    confusion = content["confusion"].tolist()
    return {
        "on": f"{data.labels.source}, test part of the {data.mode} split, whole photos, PyTorch",
        "correct": test.count,
        "total": test.total,
        "confusion": [] if data.independent else confusion,
        "attributes": confusion if data.independent else [],
    }


def _predictions(
    data: PreparedData, answers: Answers, calibration: Calibration, logits: dict[str, NDArray[np.float32]]
) -> str:
    """``predictions.csv``: every validation and test photo with its calibrated probabilities."""
    probability_columns = (f"p_{name}" for name in data.names)
    lines = [to_line(["path", "split", "label", "confidence", *probability_columns, "truth", "correct"])]
    for part, values in logits.items():
        chosen = np.flatnonzero(data.parts == part)
        probabilities, targets = answers.probabilities(values, calibration.temperature), data.targets[chosen]
        truth, right = answers.truth(targets), answers.correct(probabilities, targets)
        columns = (answers.labels(probabilities), answers.confidence(probabilities), rounded(probabilities))
        for number, label, confidence, row, true, is_right in zip(chosen, *columns, truth, right, strict=True):
            numbers = (f"{value:.6f}" for value in (confidence, *row))
            lines.append(to_line([data.keys[number], part, label, *numbers, true, str(int(is_right)) if true else ""]))
    return "".join(lines)


def _to_json(
    data: PreparedData,
    recipe: Recipe,
    calibration: Calibration,
    result: TrainingResult,
    content: dict[str, Any],
) -> str:
    confusion = content["confusion"]
    plain = {
        "format": list(RESULT_FORMAT),
        "classes": data.names,
        "independent": data.independent,
        "best": asdict(result.best),
        "kept": "best on validation" if recipe.keep == "best" else "last epoch",
        "temperature": calibration.temperature,
        "calibrated_on": "val" if calibration.thresholds or (data.parts == "val").any() else None,
        "test": asdict(result.test),
        "test_loss": result.test_loss,
        "confusion": None if data.independent else confusion.tolist(),
        "attributes": [s.to_dict() for s in attribute_scores(data.names, confusion)] if data.independent else None,
        "calibration": content["calibration"],
        "abstention": [_kept_to_dict(kept) for kept in result.abstention],
    }
    return json.dumps(without_nan(plain), indent=1) + "\n"


def _kept_to_dict(kept: Kept) -> dict[str, Any]:
    return {
        "wanted_error": kept.promised.wanted_error,
        "confidence": kept.promised.confidence,
        "val_coverage": kept.promised.coverage,
        "val_error": kept.promised.error,
        "test_coverage": kept.coverage,
        "test": asdict(kept.wrong),
    }
