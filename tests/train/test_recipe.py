"""Recipes: the shipped ones, changes to them, and what is refused."""

from __future__ import annotations

import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gendercls.errors import RecipeError
from gendercls.images import Preprocessing
from gendercls.train.recipe import Recipe, load_recipe, recipe_from, shipped_recipes

SHIPPED = shipped_recipes()


def refusal(name: str, *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, changes)
    return str(caught.value)


@pytest.fixture
def values() -> dict[str, Any]:
    """The default recipe's keys and values."""
    return load_recipe("default").to_dict()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_as_its_file_says(name: str) -> None:
    """A shipped recipe has every key of its TOML with its value, and makes a preprocessing."""
    text = (resources.files("gendercls.train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    recipe = load_recipe(name)
    assert recipe.to_dict() == tomllib.loads(text)
    assert recipe.preprocessing() == Preprocessing(
        recipe.fit, recipe.size, recipe.size, recipe.resampling, recipe.face_margin
    )


def test_the_default_recipe_is_shipped() -> None:
    """``--recipe default`` exists."""
    assert "default" in SHIPPED


def test_a_recipe_survives_its_own_dictionary(values: dict[str, Any]) -> None:
    """What a run writes down of its recipe gives the same recipe again."""
    assert recipe_from(values, where="recipe.toml") == load_recipe("default")


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("epochs=2", "epochs", 2),
        (" epochs = 3 ", "epochs", 3),
        ("learning_rate=1", "learning_rate", 1.0),
        ("learning_rate=1e-5", "learning_rate", 1e-5),
        ("fit=pad", "fit", "pad"),
        ('fit="squash"', "fit", "squash"),
        ("input_range=[-1, 1]", "input_range", (-1.0, 1.0)),
    ],
)
def test_set_changes_one_key(values: dict[str, Any], change: str, key: str, value: object) -> None:
    """``--set key=value`` changes that key, of the key's own type, and no other."""
    changed = load_recipe("default", [change])
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(getattr(load_recipe("default"), key))
    others = {name for name, old in values.items() if changed.to_dict()[name] != old}
    assert others <= {key}


def test_the_last_change_wins() -> None:
    """Of two changes to one key the later counts."""
    assert load_recipe("default", ["epochs=2", "size=96", "epochs=5"]).epochs == 5


def test_a_recipe_is_read_from_a_file(tmp_path: Path, values: dict[str, Any]) -> None:
    """A path that ends in ``.toml`` is read, with changes as for a shipped one."""
    source = resources.files("gendercls.train") / "recipes" / "default.toml"
    file = tmp_path / "mine.toml"
    file.write_text(source.read_text(encoding="utf-8").replace("size = 192", "size = 160"), encoding="utf-8")
    recipe = load_recipe(str(file), ["fit=pad"])
    assert recipe.to_dict() == {**values, "size": 160, "fit": "pad"}


CHANGE = "  do:    change the recipe or --set it"
TWO = "must be two numbers, the smaller first"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("epochs=2.5", "epochs = 2.5 must be a whole number"),
        ("epochs=true", "epochs = True must be a whole number"),
        ("epochs=many", "epochs = 'many' must be a whole number"),
        ("epochs=0", "epochs = 0 must be above 0"),
        ("batch_size=-8", "batch_size = -8 must be above 0"),
        ("learning_rate=0", "learning_rate = 0.0 must be above 0"),
        ("learning_rate=true", "learning_rate = True must be a number"),
        ("learning_rate=nan", "learning_rate = nan must be a number"),
        ("weight_decay=nan", "weight_decay = nan must be a number"),
        ("gradient_clip=inf", "gradient_clip = inf must be a number"),
        ("weight_decay=-0.1", "weight_decay = -0.1 must not be below 0"),
        ("dropout=1.5", "dropout = 1.5 must be 0 to 1"),
        ("flip=-0.5", "flip = -0.5 must be 0 to 1"),
        ("test_fraction=0", "test_fraction = 0.0 must be above 0"),
        ("patience=-1", "patience = -1 must not be below 0"),
        ("train_photos=-1", "train_photos = -1 must not be below 0"),
        ("balance_below=2", "balance_below = 2.0 must be 0 to 1"),
        ("schedule=step", "schedule = 'step' must be one of cosine, constant"),
        ("keep=first", "keep = 'first' must be one of best, last"),
        ("crop_min=0", "crop_min = 0.0 must be above 0"),
        ("zoom_out=0.9", "zoom_out = 0.9 must be 1 or more"),
        ("workers=-1", "workers = -1 must not be below 0"),
        ("size=74", "size = 74 must be 75 to 1024 pixels"),
        ("size=1025", "size = 1025 must be 75 to 1024 pixels"),
        ("face_margin=4.5", "face_margin = 4.5 must be 0 to 4"),
        ("fit=stretch", "fit = 'stretch' must be one of crop, pad, squash"),
        ("fit=[1]", "fit = [1] must be one of crop, pad, squash"),
        ("resampling=box", "resampling = 'box' must be one of bilinear, bicubic, lanczos"),
        ("autocast=on", "autocast = 'on' must be one of auto, bf16, fp16, off"),
        ("input_range=1", "input_range = 1 must be two numbers, the smaller first"),
        ("input_range=[0, 1, 2]", "input_range = [0, 1, 2] must be two numbers, the smaller first"),
        ("input_range=[false, true]", "input_range = [False, True] must be two numbers, the smaller first"),
        ("input_range=[1, 0]", "input_range = [1, 0] must be two numbers, the smaller first"),
        ("input_range=[nan, 1]", "input_range = [nan, 1] must be two numbers, the smaller first"),
        ("epochs=2147483648", "epochs = 2147483648 must be at most 2,147,483,647"),
        pytest.param(f"epochs=1{'0' * 400}", f"epochs = 1{'0' * 99}… must be at most 2,147,483,647", id="10**400"),
        pytest.param(f"dropout=1{'0' * 400}", f"dropout = 1{'0' * 99}… must be a number", id="dropout=10**400"),
        pytest.param(
            f"epochs=0x1{'0' * 4000}", "epochs = a number beyond reason must be at most 2,147,483,647", id="hex"
        ),
        pytest.param(f"epochs=1{'0' * 5000}", f"epochs = '1{'0' * 98}… must be a whole number", id="10**5000"),
        pytest.param(f"fit={'[' * 5000}", f"fit = '{'[' * 99}… must be one of crop, pad, squash", id="nested"),
        pytest.param(f"input_range=[0, 1{'0' * 400}]", f"input_range = [0, 1{'0' * 95}… {TWO}", id="range"),
    ],
)
def test_a_bad_value_is_refused(change: str, problem: str) -> None:
    """A value of the wrong type or out of range is shown with its key and what it must be."""
    assert refusal("default", change) == f"{problem}\n  where: default\n{CHANGE}"


def test_val_and_test_must_leave_photos_to_train_on() -> None:
    """Fractions that leave nothing to train on are refused."""
    assert refusal("default", "val_fraction=0.5", "test_fraction=0.5") == (
        f"val_fraction = 0.5 and test_fraction = 0.5 leave nothing to train on\n  where: default\n{CHANGE}"
    )


@pytest.mark.parametrize(
    ("change", "do"),
    [
        ("epoch=2", "did you mean 'epochs'?"),
        ("learning-rate=2", "did you mean 'learning_rate'?"),
        ("xyz=2", "the keys are: " + ", ".join(load_recipe("default").to_dict())),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(change: str, do: str) -> None:
    """An unknown key is refused and the nearest key offered, or all of them."""
    key = change.partition("=")[0]
    assert refusal("default", change) == f"unknown key {key!r}\n  where: default\n  do:    {do}"


@pytest.mark.parametrize("change", ["epochs", "", "epochs:2"])
def test_a_change_without_a_value_is_refused(change: str) -> None:
    """``--set`` wants ``key=value``."""
    assert refusal("default", change) == (
        f"{change!r} is no change\n  where: --set\n  do:    write key=value, as in --set epochs=2"
    )


@pytest.mark.parametrize("key", ["size", "ema_decay", "input_range"])
def test_a_missing_key_is_named(values: dict[str, Any], key: str) -> None:
    """A recipe has no hidden defaults: a missing key is refused by name."""
    del values[key]
    with pytest.raises(RecipeError) as caught:
        recipe_from(values, where="mine.toml")
    assert str(caught.value) == (
        f"the key {key!r} is missing\n  where: mine.toml\n  do:    copy it from the shipped recipe 'default'"
    )


def test_broken_toml_is_refused(tmp_path: Path) -> None:
    """A TOML file that does not parse is refused with the line and the column."""
    file = tmp_path / "mine.toml"
    file.write_text("size = 128\nfit = crop\n", encoding="utf-8")
    assert refusal(str(file)) == (
        f"the recipe does not parse: Invalid value (at line 2, column 7)\n  where: {file}\n  do:    mend the TOML"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "[Errno 2] No such file or directory: 'FILE'"),
        (b"# \xff\n", "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_a_recipe_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A file that is not there or not UTF-8 is refused with the reason."""
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    message = f"the recipe cannot be read: {problem}\n  where: FILE\n  do:    check the path"
    assert refusal(str(file)).replace(str(file), "FILE") == message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(f"epochs = 1{'0' * 5000}\n", "Exceeds the limit (4300 digits) for integer string", id="digits"),
        pytest.param(f"epochs = {'[' * 20_000}", "maximum recursion depth exceeded", id="lists"),
        pytest.param("epochs = " + "{a = " * 5_000, "maximum recursion depth exceeded", id="tables"),
    ],
)
def test_toml_beyond_reason_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    """What the parser itself gives up on is a recipe that does not parse."""
    file = tmp_path / "mine.toml"
    file.write_text(content)
    assert refusal(str(file)).startswith(f"the recipe does not parse: {problem}")


def test_a_recipe_that_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    """At once, whatever its name says."""
    large, fifo, folder = (tmp_path / name for name in ("large.toml", "fifo.toml", "folder.toml"))
    large.write_bytes(b"size = 128\n")
    os.truncate(large, 2**40)
    os.mkfifo(fifo)
    folder.mkdir()
    assert refusal(str(large)) == (
        f"the recipe is larger than 65,536 bytes, as none is\n  where: {large}\n  do:    check the path"
    )
    for place in (fifo, folder):
        assert refusal(str(place)) == f"the recipe is no file\n  where: {place}\n  do:    check the path"
    assert refusal("x" * 5000 + ".toml").startswith("the recipe cannot be read: [Errno 36] File name too long")


def test_a_long_key_is_not_shown_whole(values: dict[str, Any]) -> None:
    """Nor searched for long."""
    with pytest.raises(RecipeError, match=f"^unknown key '{'x' * 100}'\n"):
        recipe_from({**values, "x" * 60_000: 1}, where="mine.toml")


@pytest.mark.parametrize(("name", "hint"), [("defalt", "did you mean 'default'? "), ("xyz", "")])
def test_an_unknown_recipe_is_answered_with_the_shipped_ones(name: str, hint: str) -> None:
    """An unknown name is answered with the nearest and all shipped recipes."""
    assert refusal(name) == (
        f"no recipe {name!r}\n  where: --recipe\n"
        f"  do:    {hint}The shipped recipes are {', '.join(SHIPPED)}; a path to a recipe ends in .toml"
    )


def test_a_recipe_is_fixed() -> None:
    """A recipe that was checked cannot be changed afterwards."""
    with pytest.raises(AttributeError):
        load_recipe("default").epochs = 0  # type: ignore[misc]
    assert isinstance(load_recipe("default"), Recipe)
