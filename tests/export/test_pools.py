"""Average pools that become convolutions: the same function, and no other pool is touched."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gendercls.classify.session import Device, create
from gendercls.export.convert import to_onnx
from gendercls.export.pools import pools_as_convolutions
from gendercls.modelfile import ModelFile
from gendercls.train.network import CalibratedNetwork

AROUND: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "count_include_pad": 1}


def one_pool(kernel: int, bias: float, **changes: object) -> onnx.ModelProto:
    """An average pool of 3 channels, then a convolution to 2 of random weights and that bias."""
    random = np.random.default_rng(5)
    weight = random.standard_normal((2, 3, kernel, kernel)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["x"], ["pooled"], **{**AROUND, **changes}),
            helper.make_node("Conv", ["pooled", "weight", "bias"], ["y"], group=1, strides=[1, 1]),
        ],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.full(2, bias, np.float32), "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def answers(model: onnx.ModelProto, name: str, values: np.ndarray) -> np.ndarray:
    found: np.ndarray = create(model.SerializeToString(), "a test's model", Device("cpu")).run(None, {name: values})[0]
    return found


def test_the_function_is_the_same_at_the_border_too() -> None:
    """A bias is added after the pool, as before, and not averaged with the zeros around a photo."""
    model = one_pool(1, bias=3.0)
    values = np.random.default_rng(6).standard_normal((2, 3, 7, 7)).astype(np.float32)
    changed = pools_as_convolutions(model)
    assert kinds(changed) == {"Conv": 2}
    np.testing.assert_allclose(answers(changed, "x", values), answers(model, "x", values), atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "changes"),
    [(3, {}), (1, {"count_include_pad": 0}), (1, {"strides": [2, 2]}), (1, {"kernel_shape": [2, 2], "pads": [0] * 4})],
)
def test_other_pools_stay(kernel: int, changes: dict[str, object]) -> None:
    """Before a larger convolution, or with another border, step or window, the two do not change places."""
    model = one_pool(kernel, bias=1.0, **changes)
    assert kinds(pools_as_convolutions(model)) == kinds(model)


def test_all_pools_of_the_network_go(small_export: tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]) -> None:
    """Nine blocks of Inception-v3 pool their input, and the answers stay."""
    graph = to_onnx(small_export[0], 75, 75, "int8")
    changed = pools_as_convolutions(graph)
    before, after = kinds(graph), kinds(changed)
    assert (before["AveragePool"], after["AveragePool"], after["Conv"] - before["Conv"]) == (9, 0, 9)
    images = np.random.default_rng(3).integers(0, 256, (4, 75, 75, 3)).astype(np.uint8)
    np.testing.assert_allclose(answers(changed, "images", images), answers(graph, "images", images), atol=1e-5)
