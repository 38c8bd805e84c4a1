"""`Recipe`: every number that decides a training run, loaded from TOML; ``recipes/*.toml`` are the shipped ones."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from gendercls.errors import RecipeError
from gendercls.images import Fit, Preprocessing, Resampling

_CHANGE = "change the recipe or --set it"
_MOST_BYTES = 2**16
_MOST_SHOWN = 100
_WORD_CHOICES: dict[str, tuple[str, ...]] = {
    "fit": get_args(Fit),
    "resampling": get_args(Resampling),
    "schedule": ("cosine", "constant"),
    "autocast": ("auto", "bf16", "fp16", "off"),
    "keep": ("best", "last"),
    "epoch_line": ("means", "sums"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A run's numbers. Shares and probabilities are 0 to 1, sizes are pixels, lengths are epochs."""

    # The photo as the model sees it.
    size: int
    fit: Fit
    resampling: Resampling
    face_margin: float
    # Who validates and who tests, where the data has no split of its own.
    val_fraction: float
    test_fraction: float
    # No more photos than this in a part, chosen at random; 0 takes all.
    train_photos: int
    test_photos: int
    # Optimisation: AdamW, a linear warm-up over a share of all steps, then a cosine to zero or a constant rate.
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    schedule: Literal["cosine", "constant"]
    warmup_fraction: float
    weight_decay: float
    # The longest gradient; 0 leaves gradients as they are.
    gradient_clip: float
    # How much of the running average of the weights stays at each step; 0 keeps no average.
    ema_decay: float
    autocast: Literal["auto", "bf16", "fp16", "off"]
    # Which epoch's weights are kept, and after how many epochs without a better one training ends; 0 never ends early.
    keep: Literal["best", "last"]
    patience: int
    # A class rarer than this share is weighted up in the loss; 0 weights none.
    balance_below: float
    # Regularisation.
    dropout: float
    label_smoothing: float
    # Geometry: a crop of crop_min to 1 of the area after padding up to zoom_out times each side.
    crop_min: float
    zoom_out: float
    zoom_out_probability: float
    aspect: float
    rotation: float
    flip: float
    # Colour and quality.
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    blur: float
    low_resolution: float
    jpeg: float
    erasing: float
    # Speed and looks alone; the result does not depend on them.
    workers: int
    checkpoint_minutes: float
    epoch_line: Literal["means", "sums"]
    # The range that the initial weights expect of a photo's values.
    input_range: tuple[float, float]

    def preprocessing(self) -> Preprocessing:
        """Contract 1 for models of this recipe."""
        return Preprocessing(self.fit, self.size, self.size, self.resampling, self.face_margin)

    def to_dict(self) -> dict[str, Any]:
        """Flat keys and plain values, as the TOML has them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in _items(self)}


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by its name, or a TOML file by its path, with ``key=value`` changes.

    Raises:
        RecipeError: no such recipe, broken TOML, an unknown or missing key (the nearest is said), a bad value.
    """
    path = Path(name)
    text = _read(path) if path.suffix == ".toml" else _shipped(name)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the last where it is nested too deeply
        raise RecipeError(f"the recipe does not parse: {error!s:.200}", where=name, do="mend the TOML") from None
    for change in changes:
        values |= _parse_change(change)
    return recipe_from(values, where=name)


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a FIFO that nobody feeds would hold the command
            raise RecipeError("the recipe is no file", where=str(path), do="check the path")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            what = f"the recipe is larger than {_MOST_BYTES:,} bytes, as none is"
            raise RecipeError(what, where=str(path), do="check the path")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe cannot be read: {error}", where=str(path), do="check the path") from None


def shipped_recipes() -> list[str]:
    """The names of the recipes in the package."""
    files = resources.files("gendercls.train") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml"))


def recipe_from(values: Mapping[str, Any], *, where: str) -> Recipe:
    """A checked recipe from flat keys. Raises RecipeError, naming ``where`` and the key."""
    kinds = get_type_hints(Recipe)
    if unknown := sorted(values.keys() - kinds.keys()):
        key = unknown[0][:_MOST_SHOWN]
        near = difflib.get_close_matches(key, kinds, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "the keys are: " + ", ".join(kinds)
        raise RecipeError(f"unknown key {key!r}", where=where, do=hint)
    if missing := [key for key in kinds if key not in values]:
        raise RecipeError(
            f"the key {missing[0]!r} is missing", where=where, do="copy it from the shipped recipe 'default'"
        )
    recipe = Recipe(**{key: _checked(key, kinds[key], values[key], where) for key in kinds})
    if recipe.val_fraction + recipe.test_fraction >= 1:
        fractions = f"val_fraction = {recipe.val_fraction} and test_fraction = {recipe.test_fraction}"
        raise RecipeError(f"{fractions} leave nothing to train on", where=where, do=_CHANGE)
    if recipe.patience and recipe.keep == "last":
        raise RecipeError(
            f"patience = {recipe.patience} waits for a better epoch, but keep = 'last' takes the last one",
            where=where,
            do="set keep=best or patience=0",
        )
    return recipe


def _items(recipe: Recipe) -> list[tuple[str, Any]]:
    return [(field.name, getattr(recipe, field.name)) for field in dataclasses.fields(recipe)]


def _shipped(name: str) -> str:
    names = shipped_recipes()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(
            f"no recipe {name!r}",
            where="--recipe",
            do=f"{hint}The shipped recipes are {', '.join(names)}; a path to a recipe ends in .toml",
        )
    return (resources.files("gendercls.train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _parse_change(change: str) -> dict[str, Any]:
    key, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"{change!r} is no change", where="--set", do="write key=value, as in --set epochs=2")
    try:
        return {key.strip(): tomllib.loads(f"value = {value}")["value"]}
    except (ValueError, RecursionError):
        return {key.strip(): value.strip()}  # a bare word is a string


def _checked(key: str, kind: Any, value: Any, where: str) -> Any:
    problem = ""
    if key in _WORD_CHOICES:
        problem = "" if value in _WORD_CHOICES[key] else "must be one of " + ", ".join(_WORD_CHOICES[key])
    elif kind is int:
        problem = "" if isinstance(value, int) and not isinstance(value, bool) else "must be a whole number"
    elif kind is float:
        problem, value = ("", float(value)) if _is_number(value) else ("must be a number", value)
    else:
        good = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]
        problem = "" if good else "must be two numbers, the smaller first"
        value = (float(value[0]), float(value[1])) if good else value
    problem = problem or _out_of_range(key, value)
    if problem:
        raise RecipeError(f"{key} = {_shown(value)} {problem}", where=where, do=_CHANGE)
    return value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # which no NaN is, and math.isfinite refuses integers beyond it


def _shown(value: Any) -> str:
    """The value as Python writes it, and no more of it than a message has room for."""
    try:
        text = repr(value)
    except ValueError:  # of so many digits Python writes none
        return "a number beyond reason"
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


_ABOVE_ZERO = {"epochs", "batch_size", "learning_rate", "head_learning_rate", "checkpoint_minutes"}
_ABOVE_ZERO |= {"crop_min", "test_fraction"}
_AT_LEAST_ONE = {"zoom_out", "aspect"}
_FROM_ZERO = {"weight_decay", "gradient_clip", "rotation", "workers", "brightness", "contrast", "saturation"}
_FROM_ZERO |= {"train_photos", "test_photos", "patience"}
_SHARES = {"val_fraction", "test_fraction", "warmup_fraction", "ema_decay", "dropout", "label_smoothing", "crop_min"}
_SHARES |= {"zoom_out_probability", "flip", "hue", "grey", "blur", "low_resolution", "jpeg", "erasing", "balance_below"}
_LARGEST_WHOLE = 2**31 - 1
_SMALLEST_INPUT = 75  # Inception-v3's strides leave nothing of a smaller photo.


def _out_of_range(key: str, value: Any) -> str:
    if key in _SHARES and not 0 <= value <= 1:
        return "must be 0 to 1"
    if key in _ABOVE_ZERO and not value > 0:
        return "must be above 0"
    if key == "batch_size" and value < 2:
        return "must be 2 or more, since batch norm needs photos to compare"
    if key in _AT_LEAST_ONE and not value >= 1:
        return "must be 1 or more"
    if key in _FROM_ZERO and value < 0:
        return "must not be below 0"
    if key == "face_margin" and not 0 <= value <= 4:
        return "must be 0 to 4"
    if key == "size" and not _SMALLEST_INPUT <= value <= 1024:
        return f"must be {_SMALLEST_INPUT} to 1024 pixels"
    if isinstance(value, int) and value > _LARGEST_WHOLE:
        return f"must be at most {_LARGEST_WHOLE:,}"
    return ""
