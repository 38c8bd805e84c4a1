"""Damaged recipes: a training recipe is read to numbers in their ranges, or refused in a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gendercls.errors import RecipeError
from gendercls.train.recipe import load_recipe, recipe_from

DamagedText = Callable[[bytes], SearchStrategy[bytes]]

RECIPE = b"".join(
    f"{key} = {value!r}\n".replace("'", '"').encode() for key, value in load_recipe("default").to_dict().items()
)
VALUES = (
    "[" * 3000,
    "{a = " * 3000,
    "9" * 400,
    "9" * 5000,
    "0x" + "f" * 5000,
    "1e999",
    "-inf",
    "nan",
    "07:32:00",
    '"\\u0000"',
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe") / "mine.toml"


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_recipe(place: Path, damaged_text: DamagedText, data: st.DataObject) -> None:
    """What was read says the same when it is written down and read again."""
    place.write_bytes(data.draw(damaged_text(RECIPE)))
    assert_is_sound(place)


@settings(deadline=None)
@given(data=st.data())
def test_a_recipe_with_an_odd_value(place: Path, data: st.DataObject) -> None:
    """In the place of any key's own."""
    lines = RECIPE.decode().splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    key = lines[at].partition("=")[0]
    lines[at] = f"{key}= {data.draw(st.sampled_from(VALUES))}"
    place.write_text("\n".join(lines))
    assert_is_sound(place)


@settings(deadline=None)
@given(key=st.sampled_from(list(load_recipe("default").to_dict())), value=st.sampled_from(VALUES) | st.text())
def test_an_odd_change(key: str, value: str) -> None:
    """Of ``--set``, too."""
    try:
        load_recipe("default", [f"{key}={value}"])
    except RecipeError as error:
        assert_is_readable(error)


def assert_is_sound(place: Path) -> None:
    try:
        recipe = load_recipe(str(place))
    except RecipeError as error:
        assert_is_readable(error)
        return
    assert recipe_from(recipe.to_dict(), where="") == recipe
    for value in recipe.to_dict().values():
        assert not isinstance(value, int | float) or math.isfinite(value)


def assert_is_readable(error: RecipeError) -> None:
    assert len(error.what.splitlines()) == 1
    assert error.where
    assert error.do
    assert len(error.what.encode()) < 500
