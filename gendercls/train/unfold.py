"""A float model file → the network it was made from, to be trained further or exported in another precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from gendercls.errors import ModelError
from gendercls.modelfile import ModelFile
from gendercls.train.network import CalibratedNetwork, Network

_NETWORK = "calibrated.network."
"""Begins the names of a file's weights, which are the network's own."""


def unfolded(model: ModelFile) -> CalibratedNetwork:
    """The network of an fp32 file, which answers as the file does.

    The file holds each batch norm as a scale and a bias. Here it is a norm that expects mean 0 and variance 1 of its
    input, which says nothing of the photos: before such a network is trained it needs `measure_norms`.

    Raises:
        ModelError: the file is of another precision, has other weights than an export's, or fails its self-test.
    """
    spec = model.spec
    if spec.precision != "fp32":
        raise ModelError(
            f"the model computes in {spec.precision}; its weights are rounded",
            where=str(model.path),
            do="give the fp32 file of the same model, or the run's checkpoint",
        )
    try:
        low, high = map(float, spec.provenance["init"]["input_range"])
        network = Network(len(spec.classes), dropout=0.0, input_range=(low, high))
        network.load_state_dict(_state(onnx.load_from_string(model.data).graph, network), strict=True)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the model's weights cannot be taken from it: {str(error).splitlines()[0][:120]}",
            where=str(model.path),
            do="give a file made by gendercls export, or the run's checkpoint",
        ) from error
    calibrated = CalibratedNetwork(network, spec.temperature, independent=spec.independent).eval()
    with torch.inference_mode():
        answers = calibrated(torch.from_numpy(spec.self_test.images(spec.preprocessing))).numpy()
    difference = spec.self_test.difference(answers)
    if not difference <= spec.self_test.tolerance:
        raise ModelError(
            f"the weights taken from the model do not answer as it does: they are off by {difference:.2g}",
            where=str(model.path),
            do="give a file made by gendercls export, or the run's checkpoint",
        )
    return calibrated


def measure_norms(network: Network, batches: Iterable[Tensor]) -> None:
    """Give each batch norm the mean and variance of what it is given of these photos; the answers stay the same.

    Training normalises by the batch. A norm with another mean and variance would answer otherwise at the first step.

    Args:
        batches: uint8 ``[N, H, W, 3]`` RGB, a few hundred in all.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().cpu()
        count = torch.full((values.shape[1],), values.numel() / values.shape[1])
        sums[norm] += torch.stack([count, values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        for images in batches:
            network.embed(images.to(device))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for norm, (count, total, squares) in sums.items():
            mean = (total / count).to(device, torch.float32)
            variance = (squares / count - (total / count).square()).clamp(min=0).to(device, torch.float32)
            _renormalise(norm, mean, variance)


def _renormalise(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """The same function, as a norm that expects that mean and variance, float ``[C]``."""
    own_mean, own_variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight / torch.sqrt(own_variance + norm.eps)
    norm.bias.add_((mean - own_mean) * scale)
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    own_mean.copy_(mean)
    own_variance.copy_(variance)


def _state(graph: onnx.GraphProto, network: Network) -> dict[str, Tensor]:
    """The network's state dict. Raises LookupError where the graph has no such weights."""
    constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    state = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    for part in ("head.weight", "head.bias"):
        state[part] = constants[_NETWORK + part]
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        block = node.input[2].removeprefix(_NETWORK).removesuffix(".bias")
        weight, scale = _weight(node.input[1], constants, makers)
        norm = cast("nn.BatchNorm2d", network.get_submodule(f"{block}.bn"))
        state |= {
            f"{block}.conv.weight": weight,
            f"{block}.bn.weight": scale,
            f"{block}.bn.bias": constants[node.input[2]],
            f"{block}.bn.running_mean": torch.zeros_like(scale),
            f"{block}.bn.running_var": torch.full_like(scale, 1 - norm.eps),
        }
    return state


def _weight(name: str, constants: dict[str, Tensor], makers: dict[str, onnx.NodeProto]) -> tuple[Tensor, Tensor]:
    """A convolution's weight and scale: apart, as `FoldedConv` has them, or small ones that the exporter multiplied."""
    if name in constants:
        weight = constants[name]
        return weight, torch.ones(len(weight))
    widened, scale = makers[name].input
    return constants[makers[widened].input[0]].float(), constants[scale].flatten()
