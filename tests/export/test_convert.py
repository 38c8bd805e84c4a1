"""A network as ONNX: the same answers for any batch, half the size, and nothing of the machine it was made on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gendercls.classify.session import Session
from gendercls.export.convert import to_onnx
from gendercls.modelfile import ModelFile, scan_onnx
from gendercls.train.network import CalibratedNetwork, Network

Small = tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (8, 75, 75, 3)).astype(np.uint8)


def by_torch(calibrated: CalibratedNetwork, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return calibrated(torch.from_numpy(images)).numpy()


def test_the_graph_answers_as_the_network(small_export: Small, images: np.ndarray) -> None:
    """onnxruntime's probabilities are the calibrated network's, and their rows sum to 1."""
    calibrated, _, model = small_export
    answers = Session(model, device="cpu").run(images)
    np.testing.assert_allclose(answers, by_torch(calibrated, images), atol=1e-5)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_probabilities_are_calibrated(small_export: Small, images: np.ndarray) -> None:
    """The output is softmax(logits / T): the log of the odds is that of the logits divided by the temperature."""
    calibrated, _, _ = small_export
    with torch.inference_mode():
        logits = calibrated.network(torch.from_numpy(images)).numpy()
    odds = np.log(by_torch(calibrated, images))
    np.testing.assert_allclose(
        (odds[:, 0] - odds[:, 1]) * calibrated.temperature, logits[:, 0] - logits[:, 1], atol=1e-4
    )


class Linear(nn.Module):
    """In a network's place: three logits of a photo's mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.head = nn.Linear(3, 3)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(1, 2)) / 32 - 4


def test_attributes_are_independent(images: np.ndarray) -> None:
    """Of independent attributes the graph gives sigmoid(logits / T), each of its own logit, for any batch."""
    torch.manual_seed(1)
    network = Linear()
    calibrated = CalibratedNetwork(cast("Network", network), 1.5, independent=True).eval()
    graph = to_onnx(calibrated, 75, 75)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        logits = network.head(network.embed(torch.from_numpy(images))).numpy()
    for count in (1, 8):
        (answers,) = session.run(["probabilities"], {"images": images[:count]})
        np.testing.assert_allclose(answers, 1 / (1 + np.exp(-logits[:count] / 1.5)), atol=1e-6)


def test_a_row_does_not_depend_on_the_batch(small_export: Small, images: np.ndarray) -> None:
    """Batches of 1, 3 and 8 give the same bits for the same photo: the batch dimension is dynamic."""
    rows = [Session(small_export[2], device="cpu", batch_size=size).run(images[:1])[0] for size in (1, 3, 8)]
    whole = Session(small_export[2], device="cpu", batch_size=8).run(images)
    assert {row.tobytes() for row in (*rows, whole[0])} == {rows[0].tobytes()}


def test_inputs_and_outputs_are_the_contracts(small_export: Small) -> None:
    """'images', uint8 [N, H, W, 3], give 'probabilities', float [N, K], and 'embedding', float [N, D]; N is a name."""
    graph = small_export[1].graph
    puts = [*graph.input, *graph.output]
    shapes = [[d.dim_param or d.dim_value for d in put.type.tensor_type.shape.dim] for put in puts]
    assert [put.name for put in puts] == ["images", "probabilities", "embedding"]
    assert [put.type.tensor_type.elem_type for put in puts] == [onnx.TensorProto.UINT8, *[onnx.TensorProto.FLOAT] * 2]
    assert shapes == [["N", 75, 75, 3], ["N", 2], ["N", 2048]]


def test_the_embedding_is_what_the_head_saw(small_export: Small, images: np.ndarray) -> None:
    """The network's pooled features, and beside the same probabilities as without it."""
    calibrated, _, model = small_export
    session = Session(model, device="cpu")
    probabilities, embedding = session.run_with_embedding(images[:3])
    assert np.array_equal(probabilities, session.run(images[:3]))
    with torch.inference_mode():
        expected = calibrated.network.embed(torch.from_numpy(images[:3])).numpy()
    np.testing.assert_allclose(embedding, expected, atol=1e-4)


def test_weights_are_kept_as_fp16_in_the_file_itself(small_export: Small) -> None:
    """The file has every weight inside, in half the size of floats."""
    calibrated, graph, model = small_export
    floats = sum(4 * value.numel() for value in calibrated.state_dict().values())
    assert 0.45 < len(model.data) / floats < 0.55
    assert scan_onnx(model.data)[1] is False
    halves = [tensor for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 85  # of the network's 94 convolutions; the exporter folds the smallest


def test_the_file_does_not_know_where_it_was_made(small_export: Small) -> None:
    """No path, user or source line of the machine is in the file."""
    data = small_export[2].data
    for place in {str(Path.home()), os.getcwd(), str(Path(torch.__file__).parents[1]), "site-packages", ".py"} - {"/"}:
        assert place.encode() not in data, place


def test_one_network_gives_one_file(small_export: Small) -> None:
    """The file is the folded network: converting leaves the network it came from as it was."""
    calibrated, _, _ = small_export
    assert type(calibrated.network.backbone.Conv2d_1a_3x3).__name__ == "BasicConv2d"
    assert calibrated.network.head.weight.dtype == torch.float32
