"""One step: what the loss weighs, how the rate goes, what decays, and which precision is used."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gendercls.train.network import Network
from gendercls.train.optimize import (
    Loss,
    autocast_kind,
    balanced_weights,
    cpu_has_bf16,
    learning_rate_factor,
    parameter_groups,
    update_average,
)
from gendercls.train.recipe import load_recipe

ONES = torch.ones(2, 2)


def test_the_loss_is_that_of_a_sigmoid_and_bce() -> None:
    """Without smoothing and weights it is torch's BCELoss of sigmoids against one-hot targets, as the notebook had."""
    logits = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    targets = torch.eye(2, dtype=torch.int8)[torch.arange(16) % 2]
    expected = torch.nn.BCELoss()(torch.sigmoid(logits), targets.float())
    assert Loss(0.0, ONES)(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_smoothing_asks_for_less_than_certainty() -> None:
    """With smoothing s the least loss lies at the probability 1 - s/2 of what is true."""
    logits = torch.linspace(0, 8, 801)[:, None].repeat(1, 2) * torch.tensor([1, -1])
    targets = torch.tensor([[1, 0]], dtype=torch.int8)
    losses = [Loss(0.1, ONES)(row[None], targets).item() for row in logits]
    assert torch.sigmoid(logits[int(np.argmin(losses)), 0]).item() == pytest.approx(0.95, abs=1e-3)


def test_what_is_unknown_teaches_nothing() -> None:
    """An attribute whose value is unknown gives no gradient; the others give theirs."""
    logits = torch.zeros(3, 2, requires_grad=True)
    Loss(0.1, ONES)(logits, torch.tensor([[1, -1], [-1, 0], [0, 1]], dtype=torch.int8)).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).tolist() == [[False, True], [True, False], [False, False]]


def test_the_loss_of_halves_is_the_loss_of_the_whole() -> None:
    """The mean of two processes' losses is the whole batch's, whatever is unknown or weighted."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(8, 2, generator=generator)
    targets = torch.randint(-1, 2, (8, 2), generator=generator, dtype=torch.int8)
    loss = Loss(0.05, torch.tensor([[0.6, 3.0], [1.0, 1.0]]))
    halves = [loss(logits[rank::2], targets[rank::2]).item() for rank in range(2)]
    assert np.mean(halves) == pytest.approx(loss(logits, targets).item(), rel=1e-6)


def test_a_rare_class_weighs_as_much_as_the_common_one() -> None:
    """Below the share both sides of an output count alike in total; above it all photos count 1."""
    targets = np.array([[1, 1]] * 5 + [[0, 1]] * 35 + [[0, 0]] * 60, np.int8)
    weights = balanced_weights(targets, 0.1)
    assert weights[0] * np.array([95, 5]) == pytest.approx([50, 50])
    assert weights[1].tolist() == [1, 1]
    assert balanced_weights(targets, 0).tolist() == [[1, 1], [1, 1]]
    assert balanced_weights(np.zeros((4, 1), np.int8), 0.5).tolist() == [[1, 1]]


def test_weights_leave_the_odds_as_they_are() -> None:
    """An output trained on a rare class with weights says, without correction, how rare the class is."""
    targets = torch.from_numpy(np.array([[1]] * 40 + [[0]] * 960, np.int8))
    weights = torch.from_numpy(balanced_weights(targets.numpy(), 0.1))
    assert weights[0, 1] > 10
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([bias], max_iter=100)
    loss = Loss(0.0, weights)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(bias.expand(1000, 1), targets)
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.sigmoid(bias).item() == pytest.approx(0.04, abs=1e-3)


@given(total=st.integers(1, 500), warmup=st.floats(0, 0.9))
def test_the_rate_rises_then_falls_to_zero(total: int, warmup: float) -> None:
    """The factor rises through the warm-up, never passes 1, and falls from there on."""
    recipe = load_recipe("default", [f"warmup_fraction={warmup}"])
    factors = [learning_rate_factor(recipe, done, total) for done in range(total)]
    peak = int(np.argmax(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert np.all(np.diff(factors[: peak + 1]) >= 0)
    assert np.all(np.diff(factors[peak:]) <= 0)
    assert peak <= warmup * total + 1


def test_a_constant_rate_is_constant() -> None:
    """The recipe `seed` has one rate from the first step to the last."""
    recipe = load_recipe("seed")
    assert {learning_rate_factor(recipe, done, 100) for done in range(100)} == {1.0}


def test_norms_and_biases_do_not_decay() -> None:
    """Weight decay is for what has two dimensions or more; each parameter is in one group."""
    network = Network(2, dropout=0.0, input_range=(0.0, 1.0))
    groups = parameter_groups(network, load_recipe("default", ["weight_decay=0.1"]))
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}


def test_without_decay_the_average_is_the_network() -> None:
    """ema_decay = 0 keeps the weights as they are; a decay of 0.99 moves a hundredth, and faster at first."""
    network = torch.nn.Linear(1, 1)
    average = copy.deepcopy(network)
    with torch.no_grad():
        average.weight.zero_()
        network.weight.fill_(1.0)
    update_average(average, network, 0.99, done=10_000)  # type: ignore[arg-type]
    assert average.weight.item() == pytest.approx(0.01, rel=1e-3)
    update_average(average, network, 0.99, done=0)  # type: ignore[arg-type]
    assert average.weight.item() > 0.9
    update_average(average, network, 0.0, done=10_000)  # type: ignore[arg-type]
    assert average.weight.item() == 1.0


@pytest.mark.parametrize(("word", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("off", None)])
def test_the_recipe_names_the_precision(word: str, kind: torch.dtype | None) -> None:
    """A precision that the recipe names is taken, whatever the processor has."""
    assert autocast_kind(torch.device("cpu"), load_recipe("default", [f"autocast={word}"])) is kind


def test_bf16_is_what_the_processor_says() -> None:
    """Without a name bf16 is used where the processor's own flags have it, and else float."""
    has_bf16 = bool({"avx512_bf16", "amx_tile"} & set(Path("/proc/cpuinfo").read_text().split()))
    assert cpu_has_bf16() == has_bf16
    assert autocast_kind(torch.device("cpu"), load_recipe("default")) is (torch.bfloat16 if has_bf16 else None)
