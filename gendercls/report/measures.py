"""All that a preds.csv says of a set of photos, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.metrics import (
    CalibrationError,
    Estimate,
    balanced_accuracy,
    brier_score,
    expected_calibration_error,
    roc_auc,
)
from gendercls.preds import Predictions
from gendercls.records import without_nan
from gendercls.report.labelled import FOLDER, Labelled, disputed_rows, hand_labels
from gendercls.scores import ClassScores, Scores, agreement_for
from gendercls.shares import Share, em_prior_shift, prediction_powered, rogan_gladen, why_not_corrected
from gendercls.slices import Parity, Slice, intersections, parity, slices
from gendercls.stats import Bin, Rate, reliability, wilson

MOST_INTERSECTIONS = 200
MOST_DISPUTED = 1000


@dataclass(frozen=True, slots=True)
class ClassShare:
    """Which share of the answers, or of the photos, belongs to a class.

    raw: of the answers, with the interval of chance alone. corrected: if errors are as frequent as where they were
    counted. shifted: if the probabilities mean here what they meant there. by_hand: from hand labels of this very set.
    """

    name: str
    raw: Rate
    corrected: Share | None
    shifted: Share | None
    by_hand: Share | None


@dataclass(frozen=True, slots=True)
class Quality:
    """How right the answers are, by the labels; probabilities and their calibration over the rows with an answer.

    auc: of each class against the others. label_noise: bounds of the accuracy against the truth, if at most that share
    of the labels is wrong.
    """

    scores: Scores
    balanced_accuracy: Estimate | None
    auc: dict[str, Estimate]
    brier: Estimate | None
    calibration: CalibrationError | None
    bins: list[Bin]
    label_noise: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Disputed:
    """An answer that the labels contradict. face: its number, empty where it is of a whole photo."""

    path: str
    face: str
    answered: str
    labelled: str
    confidence: float


@dataclass(frozen=True)
class Measures:
    """Counts are of rows: photos, or faces.

    hand_labels: how many there are, with those that nobody could determine. accuracy_by_hand: how many of all answers
    are right by these, where it can be determined. quality: by labels that are no drawn sample. disputed: the surest
    first.
    """

    rows: int
    photos: int
    answered: int
    uncertain: int
    failed: int
    not_photos: int
    without_face: int
    failures: dict[str, int]
    shares: list[ClassShare]
    why_not_corrected: str
    counted_on: str
    unfamiliar: Rate | None
    hand_labels: int
    undetermined: int
    accuracy_by_hand: Share | None
    label_source: str
    label_matches: dict[str, int]
    quality: Quality | None
    slices: list[Slice] = field(default_factory=list)
    intersections: list[Slice] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    folders: dict[str, dict[str, Rate]] = field(default_factory=dict)
    disputed: list[Disputed] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs: docs/report.md."""
        content = asdict(self)
        content["intersections"] = content["intersections"][:MOST_INTERSECTIONS]
        content["disputed"] = content["disputed"][:MOST_DISPUTED]
        if self.quality is not None:
            content["quality"]["scores"] = self.quality.scores.to_dict()
        plain: dict[str, Any] = without_nan(_plain(content))
        return plain


def measure(preds: Predictions, labelled: Labelled, label_noise: float | None = None) -> Measures:
    """Everything at once. Raises LabelError as `hand_labels` does."""
    names = preds.answers.names
    by_hand = [_by_hand(preds, labelled, number) for number in range(len(names))]
    is_sample = labelled.weight is not None
    unfamiliar = _unfamiliar(preds)
    corrected, shifted, reason = _corrected(preds, unfamiliar)
    counted = _counts(preds)
    shares = [
        ClassShare(
            name,
            wilson(int(counted[number]), int(preds.has_label.sum())),
            corrected[number] if corrected else None,
            shifted[number] if shifted else None,
            by_hand[number],
        )
        for number, name in enumerate(names)
    ]
    labels = [row.label for row in preds.rows]
    has_label = labelled.has_truth
    # A sample was drawn unevenly, so that plain counts over it would not be those of the set.
    quality = _quality(preds, labelled, label_noise) if has_label.any() and not is_sample else None
    right = np.array([row.label == truth for row, truth in zip(preds.rows, labelled.truth, strict=True)])[has_label]
    groups = {name: values[has_label] for name, values in labelled.attributes.items()} if quality else {}
    return Measures(
        rows=len(preds),
        photos=len({row.path for row in preds.rows if not row.error}) if preds.columns.has_faces else len(preds),
        answered=int(preds.has_label.sum()),
        uncertain=labels.count("uncertain"),
        failed=int(preds.has_failed.sum()),
        not_photos=int((~preds.is_photo).sum()),
        without_face=labels.count("no face"),
        failures=dict(Counter(row.error.partition(":")[0] for row in preds.rows if row.has_failed).most_common()),
        shares=shares,
        why_not_corrected=reason,
        counted_on=preds.record.counted_on if preds.record is not None and corrected else "",
        unfamiliar=unfamiliar,
        hand_labels=int((has_label | labelled.is_undetermined).sum()) if is_sample else 0,
        undetermined=int(labelled.is_undetermined.sum()),
        accuracy_by_hand=_accuracy_by_hand(preds, labelled),
        label_source=labelled.source if has_label.any() else "",
        label_matches=dict(labelled.matches),
        quality=quality,
        slices=slices(groups, right),
        intersections=intersections(groups, right),
        parity=_parities(preds, labelled, groups),
        folders=_folder_shares(preds, labelled),
        disputed=[_disputed(preds, labelled, number) for number in disputed_rows(preds, labelled)],
    )


# --- shares ------------------------------------------------------------------------------------------------------


def _counts(preds: Predictions) -> NDArray[np.intp]:
    """How many labels name each class: ``[K]``."""
    counts = Counter(row.label for row, has_label in zip(preds.rows, preds.has_label, strict=True) if has_label)
    found = np.zeros(len(preds.answers.names), np.intp)
    for label, count in counts.items():
        found[preds.answers.classes_in(label)] += count
    return found


def _unfamiliar(preds: Predictions) -> Rate | None:
    """How many images the run found unlike the model's own; None where it does not say."""
    found = preds.record.finished.get("unfamiliar") if preds.record is not None else None
    match found:
        case [int(count), int(total)] if 0 <= count <= total and total > 0:
            return wilson(count, total)
        case _:
            return None


def _corrected(preds: Predictions, unfamiliar: Rate | None) -> tuple[list[Share] | None, list[Share] | None, str]:
    """By the counted errors, by the probabilities, and why there are none."""
    record = preds.record
    if preds.independent:
        return None, None, "attributes that are independent are not corrected"
    if record is None or record.counted is None:
        return None, None, "the record of the run does not say how often the model errs"
    reason = why_not_corrected(
        threshold=record.threshold, has_faces=preds.columns.has_faces, unfamiliar=unfamiliar or wilson(0, 0)
    )
    if reason:
        return None, None, reason
    corrected = rogan_gladen(_counts(preds), record.counted)
    shifted = em_prior_shift(preds.probabilities[preds.has_answer], record.counted.sum(axis=1))
    return corrected, shifted, "" if corrected else "the answers here cannot come from errors such as were counted"


def _by_hand(preds: Predictions, labelled: Labelled, number: int) -> Share | None:
    decided = np.array([preds.answers.names[number] in word.split(" ") for word in labelled.truth])
    return _powered(preds, labelled, preds.probabilities[:, number], decided)


def _accuracy_by_hand(preds: Predictions, labelled: Labelled) -> Share | None:
    """How often the answers are right: the confidence goes with that as a probability goes with its class."""
    right = np.array([row.label == truth for row, truth in zip(preds.rows, labelled.truth, strict=True)])
    return _powered(preds, labelled, preds.confidence, right)


def _powered(
    preds: Predictions, labelled: Labelled, scores: NDArray[np.float64], is_so: NDArray[np.bool_]
) -> Share | None:
    labels = hand_labels(preds, labelled, scores, is_so)
    return None if labels is None else prediction_powered(float(scores[preds.has_answer].mean()), labels)


def _folder_shares(preds: Predictions, labelled: Labelled) -> dict[str, dict[str, Rate]]:
    """Each class's share of the answers of each folder."""
    folders = labelled.attributes.get(FOLDER)
    if folders is None:
        return {}
    decided = preds.answers.decide(np.nan_to_num(preds.probabilities)) & preds.has_label[:, None]
    names = preds.answers.names
    return {
        str(folder): {
            name: wilson(int(decided[folders == folder, number].sum()), int(preds.has_label[folders == folder].sum()))
            for number, name in enumerate(names)
        }
        for folder in np.unique(folders)
    }


# --- labels ------------------------------------------------------------------------------------------------------


def _quality(preds: Predictions, labelled: Labelled, label_noise: float | None) -> Quality:
    agreement = agreement_for(preds.answers)
    for row, truth in zip(preds.rows, labelled.truth, strict=True):
        if truth:
            agreement.add(truth, "" if row.label == "no face" else row.label)
    scores = agreement.scores()
    noise = None
    if label_noise is not None:
        accuracy = scores.accuracy
        noise = (label_noise, max(0.0, accuracy.low - label_noise), min(1.0, accuracy.high + label_noise))
    known = preds.has_answer & labelled.has_truth
    names = preds.answers.names
    words = np.array(labelled.truth)[known]
    is_true = np.zeros((len(words), len(names)), np.bool_)
    for word in np.unique(words).tolist():
        is_true[np.ix_(words == word, preds.answers.classes_in(word))] = True
    probabilities = preds.probabilities[known]
    targets = is_true.astype(np.int8)
    confidence, correct = preds.answers.decisions(probabilities, targets)
    bins = reliability(confidence, correct) if len(confidence) else []
    return Quality(
        scores=scores,
        balanced_accuracy=balanced_accuracy(scores.confusion) if isinstance(scores, ClassScores) else None,
        auc={name: roc_auc(probabilities[:, n], is_true[:, n]) for n, name in enumerate(names)},
        brier=brier_score(probabilities, is_true) if not preds.independent else None,
        calibration=expected_calibration_error(bins) if bins else None,
        bins=bins,
        label_noise=noise,
    )


def _disputed(preds: Predictions, labelled: Labelled, number: int) -> Disputed:
    row = preds.rows[number]
    face = row.face[0] if row.face else ""
    return Disputed(row.path, face, row.label, labelled.truth[number], float(preds.confidence[number]))


def _parities(preds: Predictions, labelled: Labelled, groups: Mapping[str, NDArray[np.str_]]) -> list[Parity]:
    """Of each attribute, the widest equalised odds first."""
    if preds.independent:
        return []
    names = {name: number for number, name in enumerate(preds.answers.names)}
    pairs = [(row.label, truth) for row, truth in zip(preds.rows, labelled.truth, strict=True) if truth]
    truth, answer = (np.array([names.get(pair[n], -1) for pair in pairs], np.intp) for n in (1, 0))
    found = [parity(name, values, truth, answer, len(names)) for name, values in groups.items()]
    return sorted((each for each in found if each is not None), key=lambda each: -each.equalized_odds_difference.value)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return value
