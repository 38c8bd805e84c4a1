"""Where a network's weights begin: at random, at ImageNet's, or at a file's."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import Inception_V3_Weights

from gendercls.errors import ModelError
from gendercls.modelfile import read_model_file
from gendercls.train.checkpoint import is_checkpoint, load_tensors, sha256_of
from gendercls.train.network import Network
from gendercls.train.unfold import unfolded


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Where a run's weights began.

    name: for people. digest: SHA-256 of the file. not_loaded: keys left at random. is_folded: a model file's, whose
    batch norms know nothing of the photos; before it is trained the network needs `measure_norms`.
    """

    name: str
    digest: str
    input_range: tuple[float, float]
    not_loaded: tuple[str, ...]
    is_folded: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sha256": self.digest,
            "input_range": list(self.input_range),
            "not_loaded": list(self.not_loaded),
        }


def build_network(
    classes: int, *, init: str, dropout: float, input_range: tuple[float, float]
) -> tuple[Network, InitialWeights]:
    """A network whose weights begin at ``imagenet``, ``none`` (random) or a file.

    Args:
        classes: K, two or more.
        init: ``imagenet``, ``none`` or a path to a state dict with torchvision's names, to a checkpoint of ours or to
            an fp32 model file of ours.
        dropout: before the head, 0 to 1.
        input_range: what a bare state dict expects of a photo's values; ImageNet weights and our own
            checkpoints know theirs.

    Raises:
        ModelError: the file is missing, is no state dict, or fits nothing.
    """
    if init == "none":
        network = Network(classes, dropout=dropout, input_range=input_range, fresh=True)
        return network, InitialWeights("random", "", input_range, ())
    state, start = _given(init, input_range)
    network = Network(classes, dropout=dropout, input_range=start.input_range)
    return network, replace(start, not_loaded=_load(network, state, init))


def _given(init: str, input_range: tuple[float, float]) -> tuple[dict[str, Any], InitialWeights]:
    """What is to be loaded, and whose it is."""
    if init == "imagenet":
        name = "torchvision Inception_V3_Weights.IMAGENET1K_V1"
        return _imagenet(), InitialWeights(name, "", (-1.0, 1.0), ())
    path = Path(init)
    if path.suffix == ".onnx":
        model = read_model_file(path)
        given = unfolded(model).network
        return given.state_dict(), InitialWeights(path.name, model.sha256, given.input_range, (), is_folded=True)
    content, digest = load_tensors(path), sha256_of(path)
    if is_checkpoint(content) and isinstance(content.get("weights"), dict):
        return content["weights"], InitialWeights(path.name, digest, _input_range(content, init), ())
    return content, InitialWeights(path.name, digest, input_range, ())


def _input_range(checkpoint: dict[str, Any], where: str) -> tuple[float, float]:
    try:
        low, high = map(float, checkpoint["input_range"])
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError):
        raise ModelError(
            "the checkpoint does not say which values its network expects of a photo",
            where=where,
            do="give a checkpoint as gendercls train wrote it",
        ) from None
    return low, high


def _imagenet() -> dict[str, Tensor]:
    weights = Inception_V3_Weights.IMAGENET1K_V1
    try:
        with redirect_stdout(sys.stderr):  # torch announces a download on stdout, which is for data
            return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except OSError as error:  # URLError is one
        problem = f"are not here and cannot be fetched: {getattr(error, 'reason', error)}"
    except Exception:  # on bytes that are no weights torch raises a dozen kinds with no common base
        problem = "are damaged: the file there is not the one that was published"
    raise ModelError(
        f"ImageNet's weights {problem}",
        where=str(Path(torch.hub.get_dir()) / "checkpoints"),
        do=f"fetch {weights.url} elsewhere and put it into that folder under the same name",
    )


def _load(network: Network, state: dict[str, Any], where: str) -> tuple[str, ...]:
    """Take over what fits by name and shape; the rest keeps its random start and is told."""
    own = network.state_dict()
    renamed = {
        key if str(key).startswith(("backbone.", "head.")) else f"backbone.{key}": value for key, value in state.items()
    }
    taken = {
        key: value.float()
        for key, value in renamed.items()
        if key in own and isinstance(value, Tensor) and value.shape == own[key].shape
    }
    backbone = [key for key in own if key.startswith("backbone.") and not key.endswith("num_batches_tracked")]
    absent = tuple(key for key in backbone if key not in taken)
    if len(absent) > len(backbone) // 2:
        raise ModelError(
            f"{len(absent):,} of the network's {len(backbone):,} tensors are not in the file",
            where=where,
            do="give an Inception-v3 state dict with torchvision's names, or a checkpoint made by gendercls train",
        )
    network.load_state_dict(taken, strict=False)
    head = () if "head.weight" in taken else ("head.weight", "head.bias")
    return absent + head
