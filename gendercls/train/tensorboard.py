"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gendercls.train.events import EpochMetrics


def event_writer(run: Path, epochs_done: int) -> Callable[[EpochMetrics], None]:
    """Writes each epoch's numbers to ``run/tensorboard``; does nothing where ``tensorboard`` is not installed.

    Args: epochs_done: later ones that an interrupted run may have left there no longer count.
    """
    if find_spec("tensorboard") is None:
        return lambda metrics: None

    @cache
    def writer() -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(run / "tensorboard"), purge_step=epochs_done + 1)

    def write(metrics: EpochMetrics) -> None:
        for tag, value in (
            ("loss/train", metrics.train_loss),
            ("loss/val", metrics.val_loss),
            ("accuracy/val", metrics.val_accuracy),
            ("learning_rate", metrics.learning_rate),
            ("photos_per_second", metrics.photos_per_second),
        ):
            if value is not None:
                writer().add_scalar(tag, value, metrics.epoch)
        writer().flush()

    return write
