"""The folder of a training run, read for people: its recipe, its record, its epochs, its split and its result."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from gendercls.errors import GenderclsError, LabelError
from gendercls.images import Preprocessing
from gendercls.labels.rules import ClassRule, opinions_in
from gendercls.report.fields import RunFields, damaged, read_text
from gendercls.report.predictions import Prediction, read_predictions
from gendercls.report.result_file import Epoch, Result, epoch_of, read_result

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Everything that the report of a run is made of; what an unfinished run does not have yet is None or empty.

    recipe: the keys that decided the run. shipped: those of the shipped recipe of that name, None where there is none.
    record: what recipe.toml says beside that, flat: ``init.name``. opinions: attributes among the classes' rules that
    depend on taste. split: (part, class) → photos, the class empty for independent attributes; None without split.csv.
    """

    folder: Path
    recipe: Mapping[str, Any]
    preprocessing: Preprocessing
    shipped: Mapping[str, Any] | None
    record: Mapping[str, Any]
    classes: tuple[ClassRule, ...]
    opinions: frozenset[str]
    photos_folder: str
    epochs: tuple[Epoch, ...]
    split: Mapping[tuple[str, str], int] | None
    result: Result | None
    predictions: tuple[Prediction, ...] | None

    @property
    def name(self) -> str:
        """The folder's own name, also where it was given as ``.``."""
        return self.folder.resolve().name

    @property
    def best(self) -> Epoch | None:
        """The epoch that was kept or, while the run goes on, the one with the lowest validation loss so far."""
        if self.result is not None:
            return self.result.best
        losses = [(epoch.val_loss, epoch.number, epoch) for epoch in self.epochs if epoch.val_loss is not None]
        return min(losses)[2] if losses else None


def read_training_run(folder: Path) -> TrainingRun:
    """A run as ``gendercls train`` leaves it, finished or not.

    Raises:
        GenderclsError: there is no such folder, or it holds no run.
        ModelError: a file of the run is damaged; it says which, and where.
    """
    path = folder / "recipe.toml"
    try:
        top = RunFields(tomllib.loads(_recipe_text(path)), str(path))
    except (ValueError, RecursionError) as error:
        raise damaged(f"recipe.toml does not parse: {error}", str(path)) from None
    recipe, run = top.inner("recipe"), top.inner("run")
    rules = tuple(map(_class_rule, run.texts("classes")))
    opinions = _opinions(rules, str(path))
    result = read_result(folder / "result.json")
    names = tuple(rule.name for rule in rules)
    if result is not None and result.classes != names:
        raise damaged("result.json is of a run with other classes than recipe.toml", str(folder))
    return TrainingRun(
        folder=folder,
        recipe=recipe.value,
        preprocessing=_preprocessing(recipe),
        shipped=shipped_recipe(run.text("recipe_name")),
        record=flat(run.value),
        classes=rules,
        opinions=opinions,
        photos_folder=run.text("photos_folder"),
        epochs=_read_epochs(folder / "metrics.jsonl"),
        split=_read_split(folder / "split.csv"),
        result=result,
        predictions=_predictions(folder, result),
    )


def _recipe_text(path: Path) -> str:
    text = read_text(path)
    if text is not None:
        return text
    raise GenderclsError(
        "the folder holds no training run: recipe.toml is not there",
        where=str(path.parent),
        do="name the folder that gendercls train wrote, its --out",
    )


def shipped_recipe(name: str) -> Mapping[str, Any] | None:
    """The recipe of that name in the package, None where there is none, as for a path to a recipe."""
    for file in (resources.files("gendercls") / "train" / "recipes").iterdir():
        if file.name == f"{name}.toml":
            return tomllib.loads(file.read_text(encoding="utf-8"))
    return None


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested table with one key for each value: ``{"init": {"name": "none"}}`` → ``{"init.name": "none"}``."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            values |= flat(value, f"{above}{key}.")
        else:
            values[above + key] = value
    return values


def _preprocessing(recipe: RunFields) -> Preprocessing:
    """How the run's model sees a photo."""
    size = recipe.whole("size")
    try:
        return Preprocessing(recipe.text("fit"), size, size, recipe.text("resampling"), 0.0)  # type: ignore[arg-type]
    except ValueError as error:
        raise damaged(f"recipe.toml: {error}", recipe.where) from None


def _predictions(folder: Path, result: Result | None) -> tuple[Prediction, ...] | None:
    """Before there is a result, nothing has been predicted for good."""
    if result is None:
        return None
    return read_predictions(folder / "predictions.csv", result.answers)


def _class_rule(text: str) -> ClassRule:
    name, _, rule = text.partition("=")
    return ClassRule(name, rule)


def _opinions(rules: tuple[ClassRule, ...], where: str) -> frozenset[str]:
    try:
        return frozenset(opinions_in(rules))
    except LabelError as error:
        raise damaged(f"run.classes: {error.what}", where) from None


def _read_epochs(path: Path) -> tuple[Epoch, ...]:
    """None yet where there is no file; a last line without its end is being written at this moment."""
    epochs = []
    for number, line in enumerate((read_text(path) or "").split("\n")[:-1], start=1):
        where = f"{path}:{number}"
        try:
            epochs.append(epoch_of(RunFields(json.loads(line), where)))
        except (ValueError, RecursionError):
            raise damaged("metrics.jsonl is damaged: a line is no JSON", where) from None
    return tuple(epochs)


def _read_split(path: Path) -> Mapping[tuple[str, str], int] | None:
    text = read_text(path)
    if text is None:
        return None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    counts: Counter[tuple[str, str]] = Counter()
    try:
        header = next(rows, [])
        if header[:2] != ["path", "split"]:
            raise ValueError("its columns are not path, split and the classes")
        for fields in rows:
            if len(fields) != len(header):
                raise ValueError(f"{len(fields)} fields instead of {len(header)}")
            counts[fields[1], fields[2] if header[2:] == ["class"] else ""] += 1
    except (csv.Error, ValueError) as error:
        raise damaged(f"split.csv is damaged: {error}", f"{path}:{rows.line_num}") from None
    return counts
