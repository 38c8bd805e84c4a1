"""How near the float network comes to what the processor can multiply: python benchmarks/ceiling.py

A convolution is multiplications and additions. numpy's matrix product of two large matrices, on all cores, says how
many of them a second the processor gives to code that does nothing else; the bare session of the shipped float model
says how many it uses. No engine that does the same arithmetic can be faster by more than the quotient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from math import prod

import numpy as np
import onnx
from arrangements import OURS, rate
from numpy.typing import NDArray

from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, read_model_file, shipped_models

SIDE = 2048
SECONDS = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    model = read_model_file(shipped_models()["fp32"])
    needed = multiplications(model)
    left, right = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    products, photos = [], []
    for _ in range(rounds):
        products.append(product_rate(left, right))
        photos.append(rate(OURS, model, SECONDS))
    product, photo = statistics.median(products), statistics.median(photos)
    shares = [needed * one / other for one, other in zip(photos, products, strict=True)]
    print(f"multiplications and additions a photo: {needed / 1e9:.3f} thousand million")
    print(f"matrix product, {available_cores()} cores: {product / 1e9:.1f} thousand million a second")
    print(f"session: {photo:.1f} photos/s, {needed * photo / 1e9:.1f} thousand million a second")
    print(f"of the matrix product: {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")


def multiplications(model: ModelFile) -> int:
    """Of the convolutions, for one photo."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model.data)).graph
    shapes = {
        value.name: [part.dim_value for part in value.type.tensor_type.shape.dim] for value in graph.value_info
    } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = (node for node in graph.node if node.op_type == "Conv")
    return sum(prod(shapes[node.output[0]][1:]) * prod(shapes[node.input[1]][1:]) for node in convolutions)


def product_rate(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Multiplications a second of a matrix product on all cores."""
    began = time.perf_counter()
    left @ right
    return SIDE**3 / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
