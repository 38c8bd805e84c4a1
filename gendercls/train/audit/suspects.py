"""Probable label errors: a frozen network's features, a judge that has not seen the label, confident learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.stats import Rate, wilson
from gendercls.train.audit.duplicates import joined
from gendercls.train.audit.features import FeatureProgress, pooled_features
from gendercls.train.audit.findings import Findings, attribute_word
from gendercls.train.audit.judge import FOLDS, deal_folds, judge
from gendercls.train.audit.label_errors import find_label_errors
from gendercls.train.network import Network
from gendercls.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class LabelSuspect:
    """A label that is probably wrong. number: the photo's; label, suggested: a class, or an attribute's value as
    ``Smiling`` or ``!Smiling``; the judge's probabilities of both, and the score they are ranked by, -1 to 1."""

    number: int
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float
    score: float


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """What the judge said. weights: where its features come from. accuracies: how often its out-of-fold answer is the
    given label, by class rule: one for classes that exclude each other, else one for each attribute. suspects: the
    most suspicious first."""

    weights: str
    accuracies: dict[str, Rate]
    suspects: list[LabelSuspect]

    def lines(self) -> list[str]:
        labels = "label" if len(self.suspects) == 1 else "labels"
        return [f"judge: {self._accuracy()}", f"probable label errors: {len(self.suspects):,} {labels}"]

    def _accuracy(self) -> str:
        if len(self.accuracies) == 1:
            (rate,) = self.accuracies.values()
            return f"agrees with {rate} of the labels, out of fold"
        values = {name: rate.value for name, rate in self.accuracies.items() if rate.total}
        weakest = min(values, key=lambda name: values[name])
        mean = sum(values.values()) / len(values)
        return (
            f"agrees with {100 * mean:.2f} % of the labels, out of fold, mean over {len(values)} attributes; "
            f"least with {weakest}: {100 * values[weakest]:.2f} %"
        )


def find_suspects(
    findings: Findings,
    paths: list[Path],
    network: Network,
    weights: str,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    report: Callable[[FeatureProgress | str], None],
) -> LabelErrors:
    """Judge every usable photo's label. Reports how far it is.

    Args: findings: of N photos. paths: ``[N]``. network: whose features are judged by; weights: what they are called.

    Raises:
        LabelError: too few photos to judge.
        PhotoError: a photo can no longer be read.
    """
    photos = findings.photos
    usable = np.flatnonzero(photos.usable)
    groups = np.unique(_groups(findings)[usable], return_inverse=True)[1]
    if groups.max() + 1 < FOLDS:
        raise LabelError(
            f"labels are judged in {FOLDS} folds; the photos make {groups.max() + 1} groups by identity and copies",
            where=f"--init {weights}",
            do="give more photos, or leave out --init",
        )
    features = pooled_features(network, [paths[n] for n in usable], recipe, device, report)
    report("judging the labels, out of fold")
    targets = photos.targets[usable]
    judgement = judge(features, targets, deal_folds(groups, seed), independent=photos.independent)
    describe = _of_attributes if photos.independent else _of_classes
    accuracies, suspects = describe(list(photos.names), usable, targets, judgement.probabilities)
    return LabelErrors(weights, accuracies, sorted(suspects, key=lambda suspect: -suspect.score))


def _groups(findings: Findings) -> NDArray[np.intp]:
    """A number for each photo that it shares with its copies and with the photos of the same identity."""
    photos = findings.photos
    pairs = [(group[0].number, copy.number) for group in findings.groups for copy in group[1:]]
    if photos.identity is not None:
        known = np.flatnonzero(photos.identity >= 0)
        _, first, who = np.unique(photos.identity[known], return_index=True, return_inverse=True)
        pairs += zip(known[first[who]].tolist(), known.tolist(), strict=True)
    groups = np.empty(len(photos.keys), np.intp)
    for name, numbers in enumerate(joined(len(groups), pairs)):
        groups[numbers] = name
    return groups


_Described = tuple[dict[str, Rate], list[LabelSuspect]]


def _of_classes(
    names: list[str], numbers: NDArray[np.intp], targets: NDArray[np.int8], probabilities: NDArray[np.float64]
) -> _Described:
    labels = targets.argmax(axis=1)
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return {"all classes": wilson(right, len(labels))}, _suspects(labels, probabilities, names, numbers)


def _of_attributes(
    names: list[str], numbers: NDArray[np.intp], targets: NDArray[np.int8], probabilities: NDArray[np.float64]
) -> _Described:
    accuracies, suspects = {}, []
    for column, name in enumerate(names):
        known = np.flatnonzero(targets[:, column] >= 0)
        labels, yes = targets[known, column].astype(np.intp), probabilities[known, column]
        accuracies[name] = wilson(int(((yes >= 0.5) == labels).sum()), len(known))
        words = [attribute_word(name, False), attribute_word(name, True)]
        suspects += _suspects(labels, np.stack([1 - yes, yes], axis=1), words, numbers[known])
    return accuracies, suspects


def _suspects(
    labels: NDArray[np.intp], probabilities: NDArray[np.float64], words: list[str], numbers: NDArray[np.intp]
) -> list[LabelSuspect]:
    return [
        LabelSuspect(
            int(numbers[found.number]),
            words[found.given],
            words[found.suggested],
            found.given_probability,
            found.suggested_probability,
            found.score,
        )
        for found in find_label_errors(labels, probabilities)
    ]
