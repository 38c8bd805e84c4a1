"""What the tests of export share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

if TYPE_CHECKING:
    from gendercls.modelfile import ModelFile
    from gendercls.train.network import CalibratedNetwork


@pytest.fixture
def converted(
    small_export: tuple[CalibratedNetwork, onnx.ModelProto, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> onnx.ModelProto:
    """Converting takes seconds: what `small_run` gives is taken from the fixture, as a copy to be changed."""
    graph = onnx.ModelProto()
    graph.CopyFrom(small_export[1])
    monkeypatch.setattr("gendercls.export.run.to_onnx", lambda calibrated, height, width, precision: graph)
    return graph
