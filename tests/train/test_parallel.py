"""Several processes: together they do what one does with the same batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gendercls.train.parallel import ALONE, WholeBatchDropout
from gendercls.train.run import TrainOptions, train

# Each process prints its losses; in float64, where rounding cannot hide a mistake.
SCRIPT = """
import torch
from torch import nn
from gendercls.train.optimize import Loss
from gendercls.train.parallel import WholeBatchDropout, joined, spread

def main():
    torch.manual_seed(3)
    dropout = WholeBatchDropout(0.3)
    convolution, norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
    network = nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), dropout, nn.Linear(8 * 36, 2))
    network.double()
    images, targets = torch.randn(8, 3, 8, 8).double(), torch.randint(-1, 2, (8, 2), dtype=torch.int8)
    with joined("cpu") as (ranks, device):
        dropout.ranks = ranks
        module = spread(network, ranks).train()
        loss, optimizer = Loss(0.1, torch.ones(2, 2).double()), torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            value = loss(module(images[ranks.rank :: ranks.world]), targets[ranks.rank :: ranks.world])
            value.backward()
            optimizer.step()
            mean, asked = ranks.mean_and_any(value.item(), ranks.rank == 1)
            if ranks.leads:
                print(f"{mean:.12f}", asked)
        if ranks.leads:
            print(" ".join(f"{x:.12f}" for x in [*norm.running_mean.tolist(), *norm.running_var.tolist()]))

main()
"""


def torchrun(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return subprocess.run([*launch, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)


def test_two_processes_step_as_one(tmp_path: Path) -> None:
    """Losses and batch statistics of two processes are those of one, to twelve digits in float64."""
    script = tmp_path / "steps.py"
    script.write_text(SCRIPT)
    alone = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split("\n")
    both = torchrun(script, cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    together = both.stdout.split("\n")
    assert [line.split()[1] for line in alone[:4]] == ["False"] * 4
    assert [line.split()[1] for line in together[:4]] == ["True"] * 4
    for one, two in zip(alone, together, strict=True):
        numbers = [[float(word) for word in line.split() if word[-1].isdigit()] for line in (one, two)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-10)


def test_dropout_is_one_mask_for_the_whole_batch() -> None:
    """Each process keeps its rows of the mask that one process would draw; in evaluation nothing is dropped."""
    photos = torch.ones(6, 5)
    torch.manual_seed(1)
    whole = WholeBatchDropout(0.4)(photos)
    assert {round(value, 4) for value in whole.unique().tolist()} == {0.0, 1.6667}
    for rank in range(2):
        torch.manual_seed(1)
        dropout = WholeBatchDropout(0.4)
        dropout.ranks = type(ALONE)(rank, 2)
        assert torch.equal(dropout(photos[rank::2]), whole[rank::2])
    assert torch.equal(WholeBatchDropout(0.4).eval()(photos), photos)


CHANGES = ("autocast=off", "learning_rate=1e-5")


@pytest.fixture(scope="module")
def weights(shared: Path) -> str:
    """Real ones: random ones would blow rounding up into other losses."""
    return str(shared.parent / "weights" / "inception_v3_faces.pt")


@pytest.fixture(scope="module")
def command(small_data: Path, weights: str) -> list[object]:
    """A run of seconds."""
    options: list[object] = ["train", small_data, "--init", weights, "--device", "cpu"]
    for change in ("size=75", "epochs=2", "batch_size=8", "workers=0", *CHANGES):
        options += ["--set", change]
    return options


def test_torchrun_gives_the_loss_curve_of_one_process(
    command: list[object], weights: str, small_options: Callable[..., TrainOptions], tmp_path: Path
) -> None:
    """``torchrun -m gendercls train``, two processes: the same losses within rounding, one voice, one run folder."""
    train(small_options(tmp_path / "one", *CHANGES, init=weights), lambda event: None, lambda: False)
    both = torchrun("-m", "gendercls", *command, "--out", tmp_path / "two", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("test part, scored once: ") == 1
    assert "device: cpu, 2 processes of 1 threads" in both.stderr
    assert sorted(os.listdir(tmp_path / "one")) == sorted(os.listdir(tmp_path / "two"))
    texts = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("one", "two")]
    curves = [[json.loads(line) for line in text.splitlines()] for text in texts]
    for one, two in zip(*curves, strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=2e-3)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=2e-3)
    results = [json.loads((tmp_path / run / "result.json").read_text()) for run in ("one", "two")]
    assert results[0]["test_loss"] == pytest.approx(results[1]["test_loss"], rel=2e-2)


def test_an_error_is_told_once(command: list[object], tmp_path: Path) -> None:
    """What is wrong with the options is told by one process, and all of them end."""
    done = torchrun("-m", "gendercls", *command, "--set", "batch_size=7", "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode != 0
    message = (
        "Error: batch_size = 7 cannot be shared evenly by 2 processes\n"
        "  where: torchrun --nproc-per-node\n"
        "  do:    --set batch_size=6\n"
    )
    assert done.stderr.count(message) == 1
    done = torchrun("-m", "gendercls", "train", tmp_path / "no", "--out", tmp_path / "run", cwd=tmp_path)
    assert done.stderr.count("Error: no such label file or folder\n") == 1
    assert not (tmp_path / "run").exists()
