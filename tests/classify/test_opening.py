"""A model that is opened while the rest is loaded: when, and that it is the one that the run takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendercls.classify.opening import open_ahead
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.run import classify
from gendercls.errors import ModelError
from gendercls.guard import Watch


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no photo")
    return folder


def test_the_run_takes_the_model_that_was_opened(photos: Path, null_model: Path, tmp_path: Path) -> None:
    """It has a file of its own, which is gone by the time that the run begins."""
    model = tmp_path / "gone.onnx"
    model.write_bytes(null_model.read_bytes())
    options = ClassifyOptions((str(photos),), tmp_path / "o.csv", model=model, device="cpu")
    watch = Watch()
    opened = open_ahead(options, watch)
    assert opened is not None
    assert opened.result().model.path == model
    assert watch.under_way == Watch().under_way  # at rest
    model.unlink()
    assert classify(options, lambda _: None, watch, opened).tally.failed == 1


def test_what_is_there_decides_first(null_model: Path, tmp_path: Path) -> None:
    """A run that continues or is retried takes what it began with, and that of a cluster is opened elsewhere."""
    out, model = tmp_path / "o.csv", null_model
    (tmp_path / "o.csv.part").write_bytes(b"path")
    assert open_ahead(ClassifyOptions(("x",), out, model=model), Watch()) is None
    assert open_ahead(ClassifyOptions(("x",), out, model=model, retry_failed=True), Watch()) is None
    assert open_ahead(ClassifyOptions(("x",), tmp_path / "p.csv", model=model, ray=""), Watch()) is None
    assert open_ahead(ClassifyOptions(("x",), "s3://bucket/o.csv", model=model), Watch()) is None
    anew = open_ahead(ClassifyOptions(("x",), out, model=model, restart=True), Watch())
    assert anew is not None
    anew.result()
    again = Watch(is_again=True)
    assert open_ahead(ClassifyOptions(("x",), out, model=model, restart=True), again) is None


def test_a_model_that_cannot_be_opened_is_the_runs_error(photos: Path, tmp_path: Path) -> None:
    options = ClassifyOptions((str(photos),), tmp_path / "o.csv", model=tmp_path / "none.onnx")
    watch = Watch()
    opened = open_ahead(options, watch)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        classify(options, lambda _: None, watch, opened)
    assert watch.under_way == Watch().under_way
