"""What ``train``, ``export`` and ``audit`` show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from gendercls.console import PERCEIVED, accuracy_lines, counted, duration, live, note, stderr, warn_or_note

if TYPE_CHECKING:
    from gendercls.export.run import ExportResult
    from gendercls.train.audit.features import FeatureProgress
    from gendercls.train.audit.run import AuditResult
    from gendercls.train.events import EpochMetrics, Report
    from gendercls.train.result import TrainingResult


class _Counted(ProgressColumn):
    """How many of the epoch's steps are done."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f}/{task.total or 0:.0f}")


@contextmanager
def training_progress(epoch_line: str) -> Iterator[Report]:
    """A live line while an epoch runs where there is a terminal, and one plain line an epoch everywhere.

    Args: epoch_line: ``means``, or ``sums`` for the line that the notebook printed, which the recipe `seed` is.
    """
    from gendercls.train.events import EpochMetrics, Step

    columns = (TextColumn("{task.description}"), BarColumn(), _Counted(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True)
    tasks: list[Any] = []

    def report(event: object) -> None:
        if isinstance(event, Step):
            if not tasks:
                tasks.append(bar.add_task("", total=event.steps, text=""))
            text = f"loss {event.loss:.4f}  {event.photos_per_second:.0f} photos/s  {duration(event.seconds_left)} left"
            description = f"epoch {event.epoch} of {event.epochs}"
            bar.update(tasks[0], description=description, completed=event.step, text=text)
        elif isinstance(event, EpochMetrics):
            note(_sums_line(event) if epoch_line == "sums" else _means_line(event))
        else:
            warn_or_note(str(event))

    with live(bar):
        yield report


def _means_line(metrics: EpochMetrics) -> str:
    val = ""
    if metrics.val_loss is not None and metrics.val_accuracy is not None:
        val = f", val loss {metrics.val_loss:.4f}, val accuracy {100 * metrics.val_accuracy:.2f} %"
    speed = f"{metrics.photos_per_second:.1f} photos/s, {duration(metrics.seconds)}"
    return f"epoch {metrics.epoch}: train loss {metrics.train_loss:.4f}{val}, {speed}"


def _sums_line(metrics: EpochMetrics) -> str:
    return f"epoch:  {metrics.epoch - 1}  loss:  {metrics.train_loss_sum}"


def show_training(result: TrainingResult, epoch_line: str) -> None:
    """What a finished run says."""
    best, test = result.best, result.test
    val = ""
    if best.val_loss is not None and best.val_accuracy is not None:
        val = f": val loss {best.val_loss:.4f}, val accuracy {100 * best.val_accuracy:.2f} %"
    note(f"kept epoch {best.epoch}{val}, temperature {result.temperature:.3f}")
    note(f"test part, scored once: {test}, log-loss {result.test_loss:.4f}")
    note(f"calibration error (15 bins): {result.error_before:.4f} before, {result.error_after:.4f} after")
    for kept in result.abstention:
        if kept.promised.wanted_error in (0.01, 0.02) and kept.wrong.total:
            note(
                f"at most {100 * kept.promised.wanted_error:g} % wrong: confidence {kept.promised.confidence:.4f}; "
                f"on test {100 * kept.coverage:.1f} % answered, {kept.wrong} wrong"
            )
    if epoch_line == "sums":
        note(f"{test.count} of {test.total} right, {100 * test.value:.2f} %, loss {result.test_loss_sum}")
    note(f"checkpoint: {result.run / 'best.pt'}")
    note(f"next: gendercls export {result.run}")


def show_export(result: ExportResult) -> None:
    """What the gate saw and where the file is."""
    gate = result.gate
    skipped = f", {result.skipped:,} could not be read" if result.skipped else ""
    allowed = "" if result.losses else f" ({gate.tolerance:g} allowed)"
    note(
        f"gate passed: {counted(gate.photos, 'photo')}{skipped}, largest difference {gate.largest_difference:.1e}"
        f"{allowed}, {gate.decisions_changed} decisions changed, worst photo {gate.worst_photo}"
    )
    for loss in result.losses:
        note(f"{result.spec.precision} against float, {loss}")
    for heading, text in accuracy_lines(result.spec):
        note(f"{heading}: {text}")
    note(f"model: {result.out} ({result.size / 1e6:.1f} MB)")


@contextmanager
def audit_progress() -> Iterator[Callable[[FeatureProgress | str], None]]:
    """A live line while features are computed, where there is a terminal, and a plain line for each note."""
    columns = (TextColumn("features"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True)
    tasks: list[Any] = []

    def report(event: FeatureProgress | str) -> None:
        if isinstance(event, str):
            note(event)
            return
        if not tasks:
            tasks.append(bar.add_task("", total=event.total, text=""))
        left = (event.total - event.done) / event.photos_per_second
        text = f"{event.done:,} of {event.total:,} photos  {event.photos_per_second:.0f}/s  {duration(left)} left"
        bar.update(tasks[0], completed=event.done, text=text)

    with live(bar):
        yield report


def show_audit(result: AuditResult) -> None:
    """What was found, a line each."""
    for line in result.lines():
        warn_or_note(line)
    if result.out is not None:
        note(f"written: {result.out} (see sheet.html there)")
    photos = len(result.findings.photos.keys)
    note(f"audited {counted(photos, 'photo')} of {result.source} in {duration(result.seconds)}")
    note(PERCEIVED)
