"""What a run tells while it goes on. Plain values, so that whoever shows them needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one epoch gave.

    train_loss is the mean over its photos and train_loss_sum the sum over its batches; accuracy in [0, 1], of whole
    labels; val_loss is the log-loss after temperature scaling; val_loss and val_accuracy are None without a validation
    part; learning_rate is the backbone's last one.
    """

    epoch: int
    train_loss: float
    train_loss_sum: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
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
