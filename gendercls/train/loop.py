"""Epochs: from a network at its start to the weights that are kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendercls.answers import Answers
from gendercls.errors import InterruptedRunError, ModelError, PhotoError
from gendercls.stats import log_loss
from gendercls.train.checkpoint import FORMAT, load_checkpoint, previous, save_state
from gendercls.train.dataset import EpochBatches, PhotoLoader, PhotoSet, evaluation_loader, training_loader
from gendercls.train.events import EpochMetrics, Report, Step
from gendercls.train.network import Network
from gendercls.train.optimize import (
    Loss,
    autocast,
    balanced_weights,
    gradient_scaler,
    learning_rate_factor,
    parameter_groups,
    set_learning_rate,
    update_average,
)
from gendercls.train.parallel import ALONE, Ranks, spread
from gendercls.train.recipe import Recipe


@dataclass
class TrainingState:
    """All that decides how a run goes on. best_epoch: of the weights that are kept so far, 0 for none."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    history: list[EpochMetrics] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        progress = [self.epoch, self.step, self.loss_sum, self.seconds, self.best_loss, self.best_epoch]
        return {
            "format": FORMAT,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "progress": progress,
            "history": [asdict(metrics) for metrics in self.history],
        }

    def restore(self, path: Path) -> None:
        """Take over what `to_dict` saved. Raises ModelError for a damaged file or one of another run."""
        content = load_checkpoint(path)
        try:
            self.network.load_state_dict(content["network"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            torch.set_rng_state(content["random"])
            self.epoch, self.step, self.loss_sum, self.seconds, self.best_loss, self.best_epoch = content["progress"]
            self.history = [EpochMetrics(**metrics) for metrics in content["history"]]
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                "the saved state is not one of this run",
                where=str(path),
                do="continue with the options the run was begun with, or choose another --out",
            ) from error


def begin(network: Network, recipe: Recipe, device: torch.device) -> TrainingState:
    """A run at its start: the network, its running average and the optimizer."""
    network = network.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe))
    return TrainingState(network, average, optimizer, gradient_scaler(device, recipe))


def restore_last(state: TrainingState, last: Path, report: Report) -> bool:
    """Take over the newest state that can be read, last or the one before; whether there was one.

    Raises:
        ModelError: there are saved states and none of them can be used.
    """
    refused: list[ModelError] = []
    for path in (last, previous(last)):
        if not path.exists():
            continue
        try:
            state.restore(path)
        except ModelError as error:
            refused.append(error)
            report(f"not used: {path}: {error.what}")
            continue
        report(f"continuing from {path.name} in epoch {state.epoch + 1}, step {state.step + 1}")
        return True
    if refused:
        raise refused[0]
    return False


@dataclass(frozen=True, slots=True)
class Training:
    """What a run is trained with. run: the folder for its state; stop: whether the person asked to end it."""

    recipe: Recipe
    answers: Answers
    train: PhotoSet
    val: PhotoSet
    seed: int
    run: Path
    report: Report
    stop: Callable[[], bool]
    save_best: Callable[[Network, EpochMetrics], None]
    ranks: Ranks = ALONE


def train_epochs(state: TrainingState, training: Training) -> None:
    """Train until the recipe's last epoch, or until patience ends; keep the best epoch's weights, or the last one's.

    After each epoch the running average is validated. ``run/last.pt`` is written after each epoch, every
    ``checkpoint_minutes`` and when ``stop`` says so; a run that continues from it gives the same weights, bit for
    bit, on one kind of CPU and one version of torch.

    Raises:
        InterruptedRunError: ``stop`` said so; the state is saved.
        PhotoError: a photo cannot be read any more; the state is saved.
        ModelError: the loss is no number any more.
    """
    recipe, ranks = training.recipe, training.ranks
    batches = EpochBatches(len(training.train), recipe.batch_size, training.seed, ranks.rank, ranks.world)
    loader = training_loader(training.train, recipe, training.seed, batches)
    device = next(state.network.parameters()).device
    weights = torch.from_numpy(balanced_weights(training.train.targets, recipe.balance_below))
    loss = Loss(recipe.label_smoothing, weights).to(device)
    state.network.dropout.ranks = ranks
    network = spread(state.network, ranks)
    steps = len(batches)
    while state.epoch < recipe.epochs and not _is_out_of_patience(state, recipe):
        batches.epoch, batches.first_step = state.epoch, state.step
        _train_epoch(state, training, network, loss, loader, steps)
        metrics = _validate(state, training, steps, batches.batch_size)
        state.history.append(metrics)
        if recipe.keep == "last" or (metrics.val_loss is not None and metrics.val_loss < state.best_loss):
            state.best_loss = math.inf if metrics.val_loss is None else metrics.val_loss
            state.best_epoch = metrics.epoch
            if ranks.leads:
                training.save_best(state.average, metrics)
        state.epoch, state.step, state.loss_sum, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        _save(state, training)
        training.report(metrics)
    if _is_out_of_patience(state, recipe):
        training.report(f"ended early: no epoch was better than epoch {state.best_epoch}")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a network says of N photos, in their order. logits: float32 ``[N, K]``; norms: float32 ``[N]``, above 0, the
    length of the features that the head saw.
    """

    logits: NDArray[np.float32]
    norms: NDArray[np.float32]


def predict(network: Network, photos: PhotoSet, recipe: Recipe, ranks: Ranks = ALONE) -> Predicted:
    """What the network says, in full precision, without augmentation.

    With several processes each computes its share, and all of them get the whole.
    """
    device = next(network.parameters()).device
    network.eval()
    share = photos.share(ranks.rank, ranks.world)
    width = photos.targets.shape[1] + 1  # logits, then the norm
    parts = [np.empty((0, width), np.float32)]
    with torch.inference_mode():
        for images, _ in evaluation_loader(share, recipe.preprocessing(), recipe.workers):
            features = network.embed(images.to(device))
            columns = torch.cat([network.head(features), features.norm(dim=1, keepdim=True)], dim=1)
            parts.append(columns.float().cpu().numpy())
    every = np.empty((len(photos), width), np.float32)
    for rank, part in enumerate(ranks.gather(np.concatenate(parts))):
        every[rank :: ranks.world] = part
    return Predicted(every[:, :-1], every[:, -1])


def _train_epoch(
    state: TrainingState,
    training: Training,
    network: nn.Module,
    loss: Loss,
    loader: PhotoLoader,
    steps: int,
) -> None:
    """The rest of an epoch, step after step, with the state saved now and then."""
    recipe, ranks = training.recipe, training.ranks
    network.train()
    began = saved = time.monotonic()
    for images, targets in _watched(loader, state, training):
        local = _train_step(state, recipe, network, loss, images, targets, steps)
        mean, is_asked = ranks.mean_and_any(local, training.stop())
        now = time.monotonic()
        state.step, state.loss_sum, state.seconds = state.step + 1, state.loss_sum + mean, state.seconds + now - began
        began = now
        training.report(_step(state, recipe, steps))
        if is_asked:
            _save(state, training)
            ranks.gather(None)  # the first process that ends has torchrun end the others, which may still be saving
            raise InterruptedRunError(
                f"interrupted in epoch {state.epoch + 1}, step {state.step} of {steps}; the state is saved",
                where=str(training.run / "last.pt"),
                do="repeat the command with --resume to continue",
            )
        if now - saved > 60 * recipe.checkpoint_minutes:
            _save(state, training)
            began = saved = time.monotonic()


def _train_step(
    state: TrainingState,
    recipe: Recipe,
    network: nn.Module,
    loss: Loss,
    images: Tensor,
    targets: Tensor,
    steps: int,
) -> float:
    """One optimizer step; the mean loss of this process's share of the batch."""
    device = loss.shift.device
    done = state.epoch * steps + state.step
    set_learning_rate(state.optimizer, learning_rate_factor(recipe, done, recipe.epochs * steps))
    with autocast(device, recipe):
        logits = network(images.to(device, non_blocking=True))  # [N, K]
    value = loss(logits.float(), targets.to(device, non_blocking=True))
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(value).backward()
    if recipe.gradient_clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    update_average(state.average, state.network, recipe.ema_decay, done)
    return float(value.item())


def _watched(loader: PhotoLoader, state: TrainingState, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches. A photo that was fine when the run began and is not any more ends it."""
    try:
        yield from loader
    except PhotoError:
        if training.ranks.world == 1:  # else the leading process waits for this one
            _save(state, training)
        raise


def _save(state: TrainingState, training: Training) -> None:
    if training.ranks.leads:
        save_state(training.run / "last.pt", state.to_dict())


def _is_out_of_patience(state: TrainingState, recipe: Recipe) -> bool:
    return bool(recipe.patience) and state.epoch - state.best_epoch >= recipe.patience and state.step == 0


def _validate(state: TrainingState, training: Training, steps: int, batch: int) -> EpochMetrics:
    """What the epoch gave. Raises ModelError when the loss is no number any more."""
    val, answers = training.val, training.answers
    val_loss = val_accuracy = None
    if len(val):
        logits = predict(state.average, val, training.recipe, training.ranks).logits
        val_loss = _calibrated_loss(answers, logits, val)
        val_accuracy = float(answers.correct(answers.probabilities(logits), val.targets).mean())
    if not math.isfinite(state.loss_sum if val_loss is None else val_loss):
        raise ModelError(
            f"training went astray: in epoch {state.epoch + 1} the loss is no number",
            where=str(training.run),
            do="begin anew with a smaller learning_rate",
        )
    return EpochMetrics(
        epoch=state.epoch + 1,
        train_loss=state.loss_sum / steps,
        train_loss_sum=state.loss_sum,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=state.optimizer.param_groups[0]["lr"],
        photos_per_second=steps * batch / state.seconds,
        seconds=state.seconds,
    )


def _calibrated_loss(answers: Answers, logits: NDArray[np.float32], val: PhotoSet) -> float:
    """Log-loss at the temperature that suits these logits best; NaN where they are no numbers.

    The kept weights are calibrated in the end, so an epoch that is too sure of itself is none the worse for that.
    """
    if not np.isfinite(logits).all():
        return math.nan
    temperature = answers.fit_temperature(logits, val.targets)
    return log_loss(answers.probability_of_truth(answers.probabilities(logits, temperature), val.targets))


def _step(state: TrainingState, recipe: Recipe, steps: int) -> Step:
    per_step = state.seconds / state.step
    left = (recipe.epochs - state.epoch) * steps - state.step
    rate = recipe.batch_size / per_step
    loss = state.loss_sum / state.step
    return Step(state.epoch + 1, recipe.epochs, state.step, steps, loss, rate, left * per_step)
