"""Write a model that costs nothing to run, to measure all that is around it: python benchmarks/null_model.py OUT [SIDE]

It has the shipped model's classes, and its input's size or that of SIDE×SIDE pixels. Its answer is the softmax of a
photo's upper left pixel, red against green, from 0 to 1.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from gendercls.images import Preprocessing
from gendercls.modelfile import METADATA_KEY, read_model_file, shipped_model
from gendercls.spec import SelfTest


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    Path(sys.argv[1]).write_bytes(null_model(*map(int, sys.argv[2:])))


def null_model(side: int | None = None) -> bytes:
    """The file's bytes."""
    shipped = read_model_file(shipped_model()).spec
    pre = shipped.preprocessing
    pre = replace(pre, height=side or pre.height, width=side or pre.width)
    shape = [pre.height, pre.width, 3]
    constants = {
        "begin": np.int64([0, 0, 0]),
        "end": np.int64([1, 1, 2]),
        "axes": np.int64([1, 2, 3]),
        "shape": np.int64([-1, 2]),
        "white": np.float32(255),
    }
    nodes = [
        helper.make_node("Slice", ["images", "begin", "end", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "shape"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "null",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    test = replace(shipped.self_test, seeds=(1,), probabilities=((0.5, 0.5),), tolerance=1e-5)
    test = replace(test, probabilities=(_answer(test, pre),))
    spec = replace(shipped, name="null-1", preprocessing=pre, format=(1, 1), familiar_norm=None, figures=())
    spec = replace(spec, thresholds=(), self_test=test)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    data: bytes = model.SerializeToString()
    return data


def _answer(test: SelfTest, preprocessing: Preprocessing) -> tuple[float, float]:
    corner = np.exp(test.images(preprocessing)[0, 0, 0, :2] / 255)
    red, green = (corner / corner.sum()).tolist()
    return red, green


if __name__ == "__main__":
    main()
