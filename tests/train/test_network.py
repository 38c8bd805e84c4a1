"""The network: scaling, the composed head, and where its weights begin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from gendercls.errors import ModelError
from gendercls.train.checkpoint import FORMAT, sha256_of
from gendercls.train.initial import InitialWeights, build_network
from gendercls.train.network import Network

IMAGENET_FILE = "inception_v3_google-0cc3c7bd.pth"
HEAD = ("head.weight", "head.bias")


class Spy(nn.Module):
    """Stands in for the backbone and keeps what it is given."""

    def forward(self, scaled: Tensor) -> Tensor:
        self.given = scaled
        return torch.zeros(len(scaled), 2048)


def build(
    init: object, classes: int = 2, input_range: tuple[float, float] = (0.0, 1.0)
) -> tuple[Network, InitialWeights]:
    return build_network(classes, init=str(init), dropout=0.0, input_range=input_range)


def refusal(init: object) -> str:
    with pytest.raises(ModelError) as caught:
        build(init)
    return str(caught.value)


@pytest.fixture(scope="module")
def state(small_weights: Path) -> dict[str, Tensor]:
    return torch.load(small_weights, weights_only=True)


@pytest.mark.parametrize("input_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_photos_are_scaled_to_what_the_weights_expect(input_range: tuple[float, float]) -> None:
    """0 becomes the range's lower end, 255 its upper and 51 a fifth between; red comes first."""
    network = Network(2, dropout=0.0, input_range=input_range)
    network.backbone = Spy()
    images = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    images[..., 0], images[..., 1] = 255, 51
    network(images)
    low, high = input_range
    assert network.backbone.given.shape == (1, 3, 4, 4)
    means = network.backbone.given.mean(dim=(0, 2, 3)).tolist()
    assert means == pytest.approx([high, low + (high - low) / 5, low], abs=1e-6)


def test_the_head_has_one_output_per_class() -> None:
    """Three classes give three logits a photo."""
    network = Network(3, dropout=0.0, input_range=(0.0, 1.0)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 75, 75, 3, dtype=torch.uint8)).shape == (2, 3)


def test_a_state_dict_is_taken_over(small_weights: Path, state: dict[str, Tensor]) -> None:
    """A file with torchvision's names gives its weights to the backbone; the head, which it lacks, is told."""
    network, initial = build(small_weights, input_range=(-1.0, 1.0))
    assert initial == InitialWeights("inception.pt", sha256_of(small_weights), (-1.0, 1.0), HEAD)
    own = network.backbone.state_dict()
    assert all(torch.equal(own[key], value.float().to(own[key].dtype)) for key, value in state.items())


def test_keys_that_did_not_load_are_told(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """A tensor that the file lacks, or has in another shape, begins at random and is named; others do not hurt."""
    lacking = dict(state)
    del lacking["Mixed_7c.branch1x1.conv.weight"]
    lacking["Conv2d_1a_3x3.conv.weight"] = torch.zeros(1)
    lacking |= {"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(1000)}
    torch.save(lacking, tmp_path / "lacking.pt")
    _, initial = build(tmp_path / "lacking.pt")
    names = ("backbone.Conv2d_1a_3x3.conv.weight", "backbone.Mixed_7c.branch1x1.conv.weight")
    assert initial.not_loaded == names + HEAD


def test_a_checkpoint_of_ours_brings_its_scaling_and_its_head(tmp_path: Path, small_weights: Path) -> None:
    """Weights that a run of ours left know what range they expect; their head serves where the classes are as many."""
    network, _ = build(small_weights, classes=3)
    path = tmp_path / "best.pt"
    torch.save({"format": FORMAT, "weights": network.state_dict(), "input_range": [-1.0, 1.0]}, path)
    same, initial = build(path, classes=3)
    assert (initial.input_range, same.input_range, initial.not_loaded) == ((-1.0, 1.0), (-1.0, 1.0), ())
    assert torch.equal(same.head.weight, network.head.weight)
    assert build(path, classes=2)[1].not_loaded == HEAD


@pytest.mark.parametrize(
    "content", [{"a": torch.zeros(1)}, {0: torch.zeros(1)}, {"weights": torch.zeros(1)}, {"weights": {"a": [1, 2]}}]
)
def test_a_state_dict_of_another_network_is_refused(tmp_path: Path, content: dict[Any, Any]) -> None:
    """A file that fits nothing is refused, and says what would fit."""
    path = tmp_path / "other.pt"
    torch.save(content, path)
    assert refusal(path) == (
        "470 of the network's 470 tensors are not in the file\n"
        f"  where: {path}\n"
        "  do:    give an Inception-v3 state dict with torchvision's names, or a checkpoint made by gendercls train"
    )


@pytest.mark.parametrize("input_range", [None, [0.0], ["low", "high"]])
def test_a_checkpoint_that_does_not_say_its_range_is_refused(
    tmp_path: Path, state: dict[str, Tensor], input_range: object
) -> None:
    """Nobody could tell what its network makes of a photo."""
    path = tmp_path / "best.pt"
    torch.save({"format": FORMAT, "weights": state, "input_range": input_range}, path)
    assert refusal(path) == (
        "the checkpoint does not say which values its network expects of a photo\n"
        f"  where: {path}\n"
        "  do:    give a checkpoint as gendercls train wrote it"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """``--init`` with a path that is not there says so."""
    path = tmp_path / "no.pt"
    assert refusal(path) == f"no such weights file\n  where: {path}\n  do:    check the path"


def test_none_begins_at_random() -> None:
    """``--init none`` depends on the seed alone and has nothing that did not load."""
    torch.manual_seed(3)
    network, initial = build("none", input_range=(-1.0, 1.0))
    assert initial == InitialWeights("random", "", (-1.0, 1.0), ())
    weights = network.backbone.Conv2d_1a_3x3.conv.weight
    assert 0.01 < weights.detach().std().item() < 0.2


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    return tmp_path


ADVICE = (
    "  where: FOLDER\n"
    f"  do:    fetch https://download.pytorch.org/models/{IMAGENET_FILE} elsewhere "
    "and put it into that folder under the same name"
)


def test_imagenet_without_a_network_says_where_the_file_belongs(
    torch_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """``--init imagenet`` offline gives the file's address and the folder it belongs in."""
    message = refusal("imagenet").replace(str(torch_home / "hub" / "checkpoints"), "FOLDER")
    assert message == f"ImageNet's weights are not here and cannot be fetched: no network\n{ADVICE}"
    assert capfd.readouterr().out == ""


def test_imagenet_works_offline_once_the_file_is_there(torch_home: Path, state: dict[str, Tensor]) -> None:
    """With the file in that folder ``--init imagenet`` needs no network, and expects photos scaled to [-1, 1]."""
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048)}, folder / IMAGENET_FILE)
    network, initial = build("imagenet")
    assert initial == InitialWeights("torchvision Inception_V3_Weights.IMAGENET1K_V1", "", (-1.0, 1.0), HEAD)
    assert network.input_range == (-1.0, 1.0)
    key = "Mixed_7c.branch1x1.conv.weight"
    assert torch.equal(network.backbone.state_dict()[key], state[key].float())


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_damaged_imagenet_file_is_refused_and_does_not_run(torch_home: Path) -> None:
    """A file in the cache that is not torchvision's is refused, and no code in it runs."""
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"a": _Bomb(torch_home / "made")}, folder / IMAGENET_FILE)
    message = refusal("imagenet").replace(str(folder), "FOLDER")
    assert message == (f"ImageNet's weights are damaged: the file there is not the one that was published\n{ADVICE}")
    assert not (torch_home / "made").exists()
