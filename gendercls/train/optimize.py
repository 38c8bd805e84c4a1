"""One step of training: the loss, the learning rate, the optimizer's groups, the running average, half precision."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendercls.train.network import Network
from gendercls.train.recipe import Recipe


class Loss(nn.Module):
    """Binary cross-entropy of each output against its target, of photos whose target is known.

    An output that is rare (or nearly always yes) can be weighted up: ``weights`` float ``[K, 2]`` holds what a no and a
    yes count for. The logits are shifted by the logarithm of their ratio while training, so that without the shift
    they stay the odds that the photos have (King & Zeng 2001, section 4.2) and probabilities need no correction.
    """

    weights: Tensor
    shift: Tensor

    def __init__(self, smoothing: float, weights: Tensor) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", weights)
        self.register_buffer("shift", torch.log(weights[:, 1] / weights[:, 0]))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over outputs; logits float ``[N, K]``, targets int8 ``[N, K]`` of 1, 0 and -1.

        What is unknown adds nothing. The sum is divided by all outputs and not by the known ones, so that the mean
        over several processes is that of the whole batch.
        """
        wanted = targets.clamp(min=0).float() * (1 - self.smoothing) + self.smoothing / 2
        weight = torch.where(targets == 1, self.weights[:, 1], self.weights[:, 0]) * (targets >= 0)
        losses = nn.functional.binary_cross_entropy_with_logits(logits + self.shift, wanted, reduction="none")
        return (losses * weight).mean()


def balanced_weights(targets: NDArray[np.int8], below: float) -> NDArray[np.float32]:
    """What a no and a yes of each output count for: float32 ``[K, 2]``, ones unless one of the two is rare.

    Args: targets int8 ``[N, K]``; below: the share (0 to 1) under which both are weighted to count alike in total.
    """
    counts = np.stack([(targets == 0).sum(axis=0), (targets == 1).sum(axis=0)], axis=1).astype(np.float64)  # [K, 2]
    total = counts.sum(axis=1, keepdims=True)
    rare = (counts.min(axis=1) < below * total[:, 0]) & (counts.min(axis=1) > 0)
    return np.where(rare[:, None], total / (2 * np.maximum(counts, 1)), 1.0).astype(np.float32)


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """No weight decay for norms and biases; the head, which begins at random, learns at its own rate."""
    groups = []
    for module, rate in ((network.backbone, recipe.learning_rate), (network.head, recipe.head_learning_rate)):
        parameters = list(module.parameters())
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups.append({"params": decayed, "peak": rate, "weight_decay": recipe.weight_decay})
        groups.append({"params": plain, "peak": rate, "weight_decay": 0.0})
    return groups


def learning_rate_factor(recipe: Recipe, done: int, total: int) -> float:
    """The share of the peak rate at a step, in (0, 1]: a linear warm-up, then a cosine to zero or a constant.

    Args: done: steps before this one; total: steps of the whole run.

    Source: Loshchilov & Hutter 2017, equation 5.
    """
    warmup = recipe.warmup_fraction * total
    if done < warmup:
        return (done + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1.0, total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def update_average(average: Network, network: Network, decay: float, done: int) -> None:
    """Exponential average of weights and batch statistics; short at first, so that the start is forgotten."""
    weight = 1 - min(decay, (1 + done) / (10 + done))
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)


def autocast(device: torch.device, recipe: Recipe) -> AbstractContextManager[Any]:
    """The precision of the network's arithmetic while it trains."""
    kind = autocast_kind(device, recipe)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def autocast_kind(device: torch.device, recipe: Recipe) -> torch.dtype | None:
    """bf16 where the processor computes it; else fp16 on a GPU; on a CPU any half would be slower than float."""
    if recipe.autocast == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.bfloat16 if cpu_has_bf16() else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[recipe.autocast]


def gradient_scaler(device: torch.device, recipe: Recipe) -> torch.amp.GradScaler:
    """Keeps small gradients from vanishing in fp16; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=autocast_kind(device, recipe) is torch.float16)


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 by instruction (AVX-512 BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
