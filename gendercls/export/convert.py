"""A trained network → ONNX bytes: uint8 photos in, calibrated probabilities out, the contract inside."""

from __future__ import annotations

import copy
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn
from torchvision.models.inception import BasicConv2d

from gendercls.modelfile import METADATA_KEY, Precision
from gendercls.spec import ModelSpec
from gendercls.train.network import CalibratedNetwork

OPSET = 20


class _Outputs(nn.Module):
    """As the file has them; the exporter knows of ``forward`` alone."""

    def __init__(self, calibrated: CalibratedNetwork) -> None:
        super().__init__()
        self.calibrated = calibrated

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.calibrated.with_embedding(images)


class FoldedConv(nn.Module):
    """A convolution with its batch norm, so written that the file can keep the weights as fp16 and lose nothing.

    The checkpoint's weights are fp16 numbers; the norm's scale is not. So the graph multiplies the two, and
    onnxruntime folds that into float weights once, when it opens the file.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor

    def __init__(self, block: BasicConv2d, precision: Precision) -> None:
        super().__init__()
        conv, norm = block.conv, block.bn
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight, scale = conv.weight.detach(), scale.detach()
        by_channel = scale.reshape(-1, 1, 1, 1)
        bias = (norm.bias - norm.running_mean * scale).detach()
        if precision == "fp32":
            self.register_buffer("weight", weight.half())
            self.register_buffer("scale", by_channel)
        else:
            # What is rounded further needs its weights as they are multiplied, and keeps none of these.
            kind = torch.float16 if precision == "fp16" else torch.float32
            self.register_buffer("weight", (weight * by_channel).to(kind))
            self.register_buffer("scale", None)
            bias = bias.to(kind)
        self.register_buffer("bias", bias)
        self.stride, self.padding = conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.scale is None else self.weight.float() * self.scale
        return torch.relu(nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding))


class _Halves(nn.Module):
    """A network that computes in floats of 16 bits, between floats of 32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x.half())
        return features.float()


def to_onnx(calibrated: CalibratedNetwork, height: int, width: int, precision: Precision = "fp32") -> onnx.ModelProto:
    """The ONNX graph with a dynamic batch dimension; inputs and outputs as contract 2 names them.

    precision: of all up to the embedding; the graph for int8 has its weights as floats, ready to be quantised.
    """
    folded = copy.deepcopy(calibrated).eval()
    _fold(folded.network.backbone, precision)
    if precision == "fp16":
        folded.network.backbone = _Halves(folded.network.backbone)
    # Two photos: the exporter takes a batch of one for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), _QuietExporter():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Outputs(folded).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities", "embedding"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    model: onnx.ModelProto = program.model_proto
    _forget_where_it_was_made(model)
    return model


def with_spec(model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """The file's bytes: the graph and its contract."""
    finished = onnx.ModelProto()
    finished.CopyFrom(model)
    onnx.helper.set_model_props(finished, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(finished)
    data: bytes = finished.SerializeToString(deterministic=True)
    return data


def _fold(module: nn.Module, precision: Precision) -> None:
    for name, child in module.named_children():
        if isinstance(child, BasicConv2d):
            setattr(module, name, FoldedConv(child, precision))
        else:
            _fold(child, precision)


def _forget_where_it_was_made(model: onnx.ModelProto) -> None:
    """The exporter notes source lines and paths of the machine in every node; they are of no use to a user."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]


class _QuietExporter:
    """The exporter logs its progress through the root of its package."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch.onnx")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
