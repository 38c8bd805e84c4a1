"""Labelled photos → what is wrong with them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels import ALL_ATTRIBUTES, Labels, read_labels
from gendercls.labels.splits import SplitMode, make_split, split_mode
from gendercls.train.audit.features import FeatureProgress
from gendercls.train.audit.files import SHEET, check_folder, write_files
from gendercls.train.audit.findings import Findings, LabelledPhotos, examine
from gendercls.train.audit.photos import check_photos
from gendercls.train.audit.sheet import sheet
from gendercls.train.audit.suspects import LabelErrors, find_suspects
from gendercls.train.data import Classes, class_targets
from gendercls.train.device import choose_device
from gendercls.train.initial import build_network
from gendercls.train.network import Network
from gendercls.train.recipe import Recipe, load_recipe
from gendercls.wholefile import write_whole

NOT_JUDGED = "label errors: not looked for; give --init imagenet or --init FILE, weights to judge the labels with"


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the command line says. classes: rules, ``all``, or None to let the data decide, as does split None; init:
    imagenet, a path, or none for no judgement of labels; out: a folder for CSVs and the sheet, or None."""

    data: Path
    classes: Classes
    split: SplitMode | None
    seed: int
    init: str
    out: Path | None
    device: str


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What was found. uncovered: labelled photos that no class covers; mode: of the split, empty without one;
    label_errors: None where none were looked for."""

    source: str
    uncovered: int
    mode: str
    findings: Findings
    label_errors: LabelErrors | None
    out: Path | None
    seconds: float

    @property
    def unusable(self) -> Counter[str]:
        """How many photos cannot be used, by reason."""
        return Counter(check.reason for check in self.findings.photos.checks if check.reason)

    def lines(self) -> list[str]:
        """The findings, a line each."""
        unusable = [
            f"warning: {count:,} photo{'' if count == 1 else 's'} cannot be used: {reason}"
            for reason, count in self.unusable.most_common()
        ]
        judged = [NOT_JUDGED] if self.label_errors is None else self.label_errors.lines()
        return [*(unusable or ["unusable photos: none"]), *self.findings.lines(), *judged]

    def to_json(self) -> str:
        """All counts, on one line of JSON; the photos themselves are in the CSVs."""
        found, photos = self.findings, self.findings.photos
        content: dict[str, Any] = {
            "source": self.source,
            "photos": len(photos.keys),
            "no_class": self.uncovered,
            "unusable": dict(self.unusable),
            "groups_of_copies": len(found.groups),
            "copies": found.copies(),
            "contradictions": len(found.contradictions),
            "split": self.mode or None,
            "leaking_groups": len(found.leaks),
            "leaking_identities": None if found.identities is None else len(found.identities),
            "shares": {
                part: dict(zip(photos.names, shares, strict=True))
                for part, shares in zip(["all", *found.parts], found.shares.round(6).tolist(), strict=True)
            },
            "rare": [asdict(rare) for rare in found.rare],
            "label_errors": None,
            "seconds": round(self.seconds, 1),
        }
        if self.label_errors is not None:
            content["label_errors"] = {
                "count": len(self.label_errors.suspects),
                "weights": self.label_errors.weights,
                "judge": {name: asdict(rate) for name, rate in self.label_errors.accuracies.items()},
            }
        return json.dumps(content, ensure_ascii=False)


def audit(options: AuditOptions, report: Callable[[FeatureProgress | str], None]) -> AuditResult:
    """Look for what is wrong with the photos and labels in ``options.data``, and write it down if a folder is given.

    Raises:
        LabelError: nothing usable, or the split that is asked for is not to be had.
        UsageError, DeviceError, ModelError, OutputError, PhotoError: as their texts say.
    """
    began = time.monotonic()
    device = choose_device(options.device)
    if options.out is not None:
        check_folder(options.out)
    recipe = load_recipe("default")
    weights = None if options.init == "none" else _network(options, recipe)
    labels = read_labels(options.data)
    for note in labels.notes:
        report(note)
    photos, mode, uncovered = _labelled_photos(options, labels, recipe, report)
    report("comparing the photos with each other")
    findings = examine(photos)
    paths = [labels.root / key for key in photos.keys]
    label_errors = None
    if weights is not None:
        label_errors = find_suspects(findings, paths, *weights, recipe, device, options.seed, report)
    if options.out is not None:
        write_files(options.out, findings, label_errors)
        write_whole(options.out / SHEET, sheet(labels.source, findings, label_errors, paths).encode())
    seconds = time.monotonic() - began
    return AuditResult(labels.source, uncovered, mode, findings, label_errors, options.out, seconds)


def _network(options: AuditOptions, recipe: Recipe) -> tuple[Network, str]:
    """The network to judge with, and what its weights are called; first of all, since it may not be there."""
    torch.manual_seed(options.seed)  # for what the file of weights does not have
    network, initial = build_network(2, init=options.init, dropout=0.0, input_range=recipe.input_range)
    return network, initial.name


def _labelled_photos(
    options: AuditOptions, labels: Labels, recipe: Recipe, report: Callable[[str], None]
) -> tuple[LabelledPhotos, str, int]:
    """The photos that have a class, each opened once, with the parts that training would divide them into."""
    independent = options.classes == ALL_ATTRIBUTES
    rules, targets, covered = class_targets(labels, options.classes)
    used = np.flatnonzero(covered)
    if not used.size:
        raise LabelError("no class covers any photo", where=labels.source, do="check --classes")
    report(f"opening {len(used):,} photos")
    checks = check_photos([labels.root / labels.keys[n] for n in used], recipe.preprocessing())
    if all(check.reason for check in checks):
        reason, count = Counter(check.reason for check in checks).most_common(1)[0]
        raise LabelError(
            f"none of the {len(used):,} photos can be used: {reason} ({count:,})",
            where=str(labels.root),
            do="check that the photos lie there under the names that the labels use",
        )
    assigned = np.full(len(labels), -1, np.intp)
    readable = used[[not check.reason for check in checks]]
    assigned[readable] = 0 if independent else targets[readable].argmax(axis=1)
    parts, mode = _divide(options, labels, assigned, recipe, report)
    photos = LabelledPhotos(
        checks,
        [labels.keys[n] for n in used],
        targets[used],
        [rule.name for rule in rules],
        independent,
        None if labels.identity is None else labels.identity[used],
        parts[used],
    )
    return photos, mode, len(labels) - len(used)


def _divide(
    options: AuditOptions, labels: Labels, assigned: NDArray[np.intp], recipe: Recipe, report: Callable[[str], None]
) -> tuple[NDArray[np.str_], str]:
    """Each photo's part as training with that seed would have it. Unless a split was asked for, none is no error."""
    mode = split_mode(labels, options.split)
    fractions = {"val_fraction": recipe.val_fraction, "test_fraction": recipe.test_fraction}
    try:
        return make_split(labels, assigned, mode, **fractions, seed=options.seed), mode
    except LabelError as error:
        if options.split is not None:
            raise
        report(f"no split: {error.what}")
        return np.full(len(labels), "", "<U5"), ""
