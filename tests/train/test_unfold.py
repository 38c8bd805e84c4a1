"""A model file as the network that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from gendercls.errors import ModelError
from gendercls.modelfile import ModelFile, read_model_file
from gendercls.train.checkpoint import load_checkpoint
from gendercls.train.initial import build_network
from gendercls.train.network import CalibratedNetwork, Network
from gendercls.train.run import TrainOptions, train
from gendercls.train.unfold import measure_norms, unfolded

Small = tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]


@pytest.fixture
def model_path(small_export: Small, tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(small_export[2].data)
    return path


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(4).integers(0, 256, (24, 75, 75, 3)).astype(np.uint8))


def logits(network: Network, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(images)


def test_it_answers_as_the_network_that_was_exported(small_export: Small, images: torch.Tensor) -> None:
    """Weights as the checkpoint had them, but small ones, which the exporter multiplied with their scale."""
    network = unfolded(small_export[2])
    with torch.inference_mode():
        torch.testing.assert_close(network(images), small_export[0](images), atol=1e-5, rtol=0)
    given, found = small_export[0].network.state_dict(), network.network.state_dict()
    large = [key for key, value in given.items() if value.ndim == 4 and value.numel() > 10_000]
    assert len(large) > 80
    assert all(torch.equal(given[key], found[key]) for key in large)


def test_measured_norms_answer_the_same_and_fit_a_batch(small_export: Small, images: torch.Tensor) -> None:
    """Training normalises by the batch: after the measurement that answers as before, and without it otherwise."""
    network = unfolded(small_export[2]).network
    before = logits(network, images)
    in_training = logits(network.train(), images)
    assert float((in_training - before).abs().max()) > 0.1
    network = unfolded(small_export[2]).network
    measure_norms(network, images.split(8))
    torch.testing.assert_close(logits(network, images), before, atol=1e-3, rtol=0)
    torch.testing.assert_close(logits(network.train(), images), before, atol=1e-3, rtol=0)


def test_a_run_may_begin_at_a_model_file(
    small_options: Callable[..., TrainOptions], small_export: Small, model_path: Path, tmp_path: Path
) -> None:
    """All weights are taken, the head's too; the run says which file, and one epoch more makes it no worse."""
    _, initial = build_network(2, init=str(model_path), dropout=0.0, input_range=(-1.0, 1.0))
    low_high = small_export[0].network.input_range
    assert (initial.not_loaded, initial.input_range, initial.is_folded) == ((), low_high, True)
    told: list[object] = []
    out = tmp_path / "run"
    train(small_options(out, init=str(model_path)), told.append, lambda: False)
    record = load_checkpoint(out / "best.pt")["record"]
    assert record["init"]["name"] == "small.onnx"
    assert record["init"]["sha256"] == read_model_file(model_path).sha256
    assert "weights begin at: small.onnx" in told


def test_rounded_weights_are_refused(small_export: Small, model_path: Path) -> None:
    """A file in 8 bits or 16 is named, and what to give instead."""
    rounded = replace(small_export[2], path=model_path, spec=replace(small_export[2].spec, precision="int8"))
    with pytest.raises(ModelError) as caught:
        unfolded(rounded)
    assert str(caught.value) == (
        f"the model computes in int8; its weights are rounded\n  where: {model_path}\n"
        "  do:    give the fp32 file of the same model, or the run's checkpoint"
    )


def test_other_weights_are_refused(small_export: Small, null_model: Path) -> None:
    """A graph without the network's weights, and one whose weights are not those that the self-test saw."""
    with pytest.raises(ModelError, match=r"^the model's weights cannot be taken from it: "):
        unfolded(read_model_file(null_model))
    graph = onnx.load_from_string(small_export[2].data)
    head = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("head.weight"))
    head.raw_data = np.repeat(np.array([[1], [-1]], np.float32), head.dims[1], axis=1).tobytes()
    with pytest.raises(ModelError, match=r"^the weights taken from the model do not answer as it does: "):
        unfolded(replace(small_export[2], data=graph.SerializeToString()))
