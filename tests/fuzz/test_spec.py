"""Damaged contracts of models: read to one meaning that can be shown and written again, or refused with the file."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gendercls.errors import ModelError
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.spec import ModelSpec, parse_spec

DamagedJson = Callable[[Any], SearchStrategy[bytes]]


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    """The shipped model's own."""
    return read_model_file(shipped_model()).spec


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_spec(spec: ModelSpec, damaged_json: DamagedJson, data: st.DataObject) -> None:
    """What is read is written and read again as the same, and every question has an answer or a refusal."""
    text = data.draw(damaged_json(json.loads(spec.to_json()))).decode("utf-8", "replace")
    began = time.process_time()
    try:
        read = parse_spec(text, "faces.onnx")
    except ModelError as error:
        assert_is_readable(error)
    else:
        assert_is_sound(read)
    assert time.process_time() - began < 1


def assert_is_readable(error: ModelError) -> None:
    assert len(error.what.splitlines()) == 1
    assert error.where == "faces.onnx"
    assert error.do
    assert len(str(error).encode()) < 500


def assert_is_sound(read: ModelSpec) -> None:
    assert parse_spec(read.to_json(), "again") == read
    assert read.to_json().encode()
    assert len(read.classes) == len(set(read.class_names)) >= 2
    assert all(len(row) == len(read.classes) for row in read.self_test.probabilities)
    for figure in read.figures:
        assert str(figure)
        assert len(figure.attribute_scores(read.class_names)) == len(read.classes) * read.independent
    for wanted in (0.0, 0.05, 1.0):
        with contextlib.suppress(ModelError):
            assert read.threshold_for(wanted).wanted_error <= wanted


@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 40 + "]" * 40, "[" * 900 + "]" * 900])
def test_what_cannot_be_shown_is_no_spec(spec: ModelSpec, value: str) -> None:
    """Half of a surrogate pair, and a nest that is too deep to be written."""
    content = json.loads(spec.to_json())
    content["provenance"]["data"] = "@"
    with pytest.raises(ModelError, match="the model's spec is no JSON"):
        parse_spec(json.dumps(content).replace('"@"', value), "faces.onnx")
