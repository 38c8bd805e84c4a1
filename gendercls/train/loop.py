"""Epochs: from a network at its start to the weights that did best on the validation part."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendercls.errors import InterruptedRunError, ModelError
from gendercls.stats import log_loss
from gendercls.train.checkpoint import FORMAT, load_checkpoint, save_tensors
from gendercls.train.dataset import EpochBatches, PhotoSet, TrainingViews, evaluation_loader
from gendercls.train.network import Network
from gendercls.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one epoch gave: losses are means per photo, accuracy in [0, 1], the rate in photos per second."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    photos_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """How far the running epoch is."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    photos_per_second: float
    seconds_left: float


Report = Callable[[Step | EpochMetrics | str], None]
"""Told of each step and epoch, and of notes in words."""


@dataclass
class TrainingState:
    """All that decides how a run goes on."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_loss: float = math.inf
    history: list[EpochMetrics] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "progress": [self.epoch, self.step, self.loss_sum, self.seconds, self.best_loss],
            "history": [asdict(metrics) for metrics in self.history],
        }

    def restore(self, path: Path) -> None:
        """Take over what `to_dict` saved. Raises ModelError for a file of another run."""
        content = load_checkpoint(path)
        try:
            self.network.load_state_dict(content["network"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            torch.set_rng_state(content["random"])
            self.epoch, self.step, self.loss_sum, self.seconds, self.best_loss = content["progress"]
            self.history = [EpochMetrics(**metrics) for metrics in content["history"]]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                "the saved state is not one of this run",
                where=str(path),
                do="continue with the options the run was begun with, or choose another --out",
            ) from error


def begin(network: Network, recipe: Recipe, device: torch.device) -> TrainingState:
    """A run at its start: the network, its running average and the optimizer."""
    network = network.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False).eval()
    return TrainingState(network, average, torch.optim.AdamW(_parameter_groups(network, recipe)))


def train_epochs(
    state: TrainingState,
    train: PhotoSet,
    val: PhotoSet,
    recipe: Recipe,
    *,
    seed: int,
    run: Path,
    save_best: Callable[[Network, EpochMetrics], None],
    report: Report,
    stop: Callable[[], bool],
) -> None:
    """Train until the recipe's last epoch; after each, validate the running average and keep the best.

    ``run/last.pt`` is written after each epoch, every ``checkpoint_minutes`` and when ``stop`` says so; a run that
    continues from it gives the same weights, bit for bit, on one kind of CPU and one version of torch.

    Raises:
        InterruptedRunError: ``stop`` said so; the state is saved.
        ModelError: the loss is no number any more.
    """
    batches = EpochBatches(len(train), recipe.batch_size, seed)
    loader = DataLoader(
        TrainingViews(train, recipe, seed),
        batch_sampler=batches,
        num_workers=recipe.workers,
        worker_init_fn=_quiet_worker,
        # A loader draws a number for its workers; drawn from the network's own random state, a run that continues
        # within an epoch, and so opens its loader once more, would go on with other dropouts.
        generator=torch.Generator(),
        prefetch_factor=4 if recipe.workers else None,
    )
    steps = len(batches)
    while state.epoch < recipe.epochs:
        batches.epoch, batches.first_step = state.epoch, state.step
        for loss, seconds in _train_steps(state, loader, recipe, steps, run, stop):
            state.step += 1
            state.loss_sum += loss
            state.seconds += seconds
            report(_step(state, recipe, steps))
        metrics = _validate(state, val, recipe, steps, batches.batch_size)
        if not math.isfinite(metrics.val_loss):
            raise ModelError(
                f"training went astray: in epoch {metrics.epoch} the validation loss is no number",
                where=str(run),
                do="begin anew with a smaller learning_rate",
            )
        state.history.append(metrics)
        if metrics.val_loss < state.best_loss:
            state.best_loss = metrics.val_loss
            save_best(state.average, metrics)
        state.epoch, state.step, state.loss_sum, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        save_tensors(run / "last.pt", state.to_dict())
        report(metrics)


def predict_logits(network: Network, photos: PhotoSet, recipe: Recipe) -> NDArray[np.float32]:
    """Logits float32 ``[N, K]`` in the order of the photos, in full precision, without augmentation."""
    device = next(network.parameters()).device
    network.eval()
    parts = []
    with torch.inference_mode():
        for images, _ in evaluation_loader(photos, recipe.preprocessing(), recipe.workers):
            parts.append(network(images.to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def _train_steps(
    state: TrainingState,
    loader: DataLoader[tuple[Tensor, int]],
    recipe: Recipe,
    steps: int,
    run: Path,
    stop: Callable[[], bool],
) -> Iterator[tuple[float, float]]:
    """One optimizer step after another: its mean loss and its seconds."""
    network, device = state.network.train(), next(state.network.parameters()).device
    autocast = _autocast(device, recipe)
    began = saved = time.monotonic()
    for images, targets in loader:
        _set_learning_rate(state, recipe, steps)
        with autocast:
            logits = network(images.to(device, non_blocking=True))
        loss = _loss(logits.float(), targets.to(device), recipe.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        state.optimizer.step()
        _update_average(state, recipe.ema_decay, state.epoch * steps + state.step)
        now = time.monotonic()
        yield loss.item(), now - began
        began = now
        if stop():
            save_tensors(run / "last.pt", state.to_dict())
            raise InterruptedRunError(
                f"interrupted in epoch {state.epoch + 1}, step {state.step} of {steps}; the state is saved",
                where=str(run / "last.pt"),
                do="repeat the command with --resume to continue",
            )
        if now - saved > 60 * recipe.checkpoint_minutes:
            save_tensors(run / "last.pt", state.to_dict())
            saved = time.monotonic()


def _loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy of each class's logit against one-hot targets; logits ``[N, K]``, targets ``[N]``."""
    wanted = nn.functional.one_hot(targets, logits.shape[1]).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted * (1 - smoothing) + smoothing / 2)


def _parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """No weight decay for norms and biases; the head, which begins at random, learns at its own rate."""
    groups = []
    for module, rate in ((network.backbone, recipe.learning_rate), (network.head, recipe.head_learning_rate)):
        parameters = list(module.parameters())
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups.append({"params": decayed, "peak": rate, "weight_decay": recipe.weight_decay})
        groups.append({"params": plain, "peak": rate, "weight_decay": 0.0})
    return groups


def _set_learning_rate(state: TrainingState, recipe: Recipe, steps: int) -> None:
    """Linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017), by the number of steps done."""
    done, total = state.epoch * steps + state.step, recipe.epochs * steps
    warmup = recipe.warmup_fraction * total
    if done < warmup:
        factor = (done + 1) / (warmup + 1)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1.0, total - warmup)))
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _update_average(state: TrainingState, decay: float, done: int) -> None:
    """Exponential average of weights and batch statistics; short at first, so that the start is forgotten."""
    weight = 1 - min(decay, (1 + done) / (10 + done))
    with torch.no_grad():
        for average, value in zip(
            state.average.state_dict().values(), state.network.state_dict().values(), strict=True
        ):
            if average.dtype.is_floating_point:
                average.lerp_(value, weight)
            else:
                average.copy_(value)


def _validate(state: TrainingState, val: PhotoSet, recipe: Recipe, steps: int, batch: int) -> EpochMetrics:
    logits = predict_logits(state.average, val, recipe)
    return EpochMetrics(
        epoch=state.epoch + 1,
        train_loss=state.loss_sum / steps,
        val_loss=log_loss(logits, val.targets),
        val_accuracy=float((logits.argmax(axis=1) == val.targets).mean()),
        photos_per_second=steps * batch / state.seconds,
        seconds=state.seconds,
    )


def _step(state: TrainingState, recipe: Recipe, steps: int) -> Step:
    per_step = state.seconds / state.step
    left = (recipe.epochs - state.epoch) * steps - state.step
    rate = recipe.batch_size / per_step
    loss = state.loss_sum / state.step
    return Step(state.epoch + 1, recipe.epochs, state.step, steps, loss, rate, left * per_step)


def _autocast(device: torch.device, recipe: Recipe) -> AbstractContextManager[Any]:
    """bf16 where the processor computes it; elsewhere it would be slower than float."""
    if recipe.autocast == "off":
        return nullcontext()
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 by instruction (AVX-512 BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def _quiet_worker(_: int) -> None:
    """Ctrl-C is for the main process, which saves; and a worker needs one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
