"""Everything a person sees: progress, tables, warnings, all on stderr. Data goes to files or stdout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gendercls.answers import AttributeScore
    from gendercls.classify.run import Progress as ClassifyProgress
    from gendercls.classify.run import Summary
    from gendercls.classify.scores import ClassScores, Scores
    from gendercls.classify.tally import Tally
    from gendercls.doctor import Finding
    from gendercls.export.run import ExportResult
    from gendercls.report.run import ReportResult
    from gendercls.spec import ModelSpec
    from gendercls.train.audit.features import FeatureProgress
    from gendercls.train.audit.run import AuditResult
    from gendercls.train.events import EpochMetrics, Report
    from gendercls.train.result import TrainingResult

_stderr = Console(stderr=True, highlight=False)
_UNFAMILIAR = 0.25  # five times the share among a model's own validation photos
_PERCEIVED = "Labels say how a labeller would likely perceive a face, not anyone's gender."


def note(text: str) -> None:
    """One plain line."""
    _stderr.print(printable(text), markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """One line that should not be missed."""
    _stderr.print(Text.assemble(("warning: ", "yellow"), printable(text)), soft_wrap=True)


def printable(text: str) -> str:
    """Text from strangers with control characters and escapes shown instead of obeyed."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """``4.1 s``, ``41 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# --- classify ---------------------------------------------------------------------------------------------------


@contextmanager
def classify_progress(quiet: bool) -> Iterator[Callable[[ClassifyProgress], None]]:
    """A live line while photos are classified, where there is a terminal."""
    columns = (TextColumn("classifying"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=_stderr, disable=quiet or not _stderr.is_terminal, transient=True)
    task = bar.add_task("", total=None, text="")

    def report(progress: ClassifyProgress) -> None:
        known = f"{progress.done:,}" + (f" of {progress.total:,}" if progress.total else "")
        text = f"{known} photos  {progress.rate:.0f}/s"
        if progress.total and progress.rate > 0:
            text += f"  {duration((progress.total - progress.done) / progress.rate)} left"
        if progress.failed:
            text += f"  {progress.failed:,} failed"
        bar.update(task, total=progress.total, completed=progress.done, text=text)

    with bar:
        yield report


def show_summary(summary: Summary) -> None:
    """What a run gave, in lines that can be quoted."""
    tally = summary.tally
    if summary.warning:
        warn(summary.warning)
    if summary.why_not_cuda:
        note(f"ran on the CPU: {summary.why_not_cuda}")
    for line in summary.notes:
        note(line)
    _stderr.print(_shares(tally))
    if tally.has_faces:
        _show_faces(tally)
    elif summary.unfamiliar.low > _UNFAMILIAR:
        warn(
            f"{summary.unfamiliar} of the photos look unlike those the model was validated on: whole scenes, or no "
            "faces at all? --faces finds faces first"
        )
    scores = tally.scores()
    if scores is not None:
        _show_scores(scores, tally, summary)
    elif tally.has_truth:
        warn(f"no photo has a label in {summary.label_source}")
    if tally.failures:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.failures.most_common())
        note(f"failed: {counted(tally.failed, 'photo')}: {reasons}")
    if tally.not_photos:
        note(f"not photos: {counted(tally.not_photos, 'file')}")
    note(headline(summary))
    note(f"rows: {summary.out}")
    note(_PERCEIVED)


def headline(summary: Summary) -> str:
    """``2,000 photos in 41 s (48.8/s) on cpu, fp32: 1,997 with a label, 3 failed``."""
    tally = summary.tally
    parts = [f"{tally.answered:,} with a label"]
    if tally.uncertain:
        parts.append(f"{tally.uncertain:,} uncertain (below {summary.threshold:.3f})")
    parts.append(f"{tally.failed:,} failed")
    kept = f"; {summary.kept:,} rows were there already" if summary.kept else ""
    photos = tally.files - tally.not_photos
    return (
        f"{counted(photos, 'photo')} in {duration(summary.seconds)} ({summary.rate:.1f}/s) on {summary.device}, "
        f"{summary.precision}, {summary.model}: {', '.join(parts)}{kept}"
    )


def _shares(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("perceived as")
    for name in ("faces" if tally.has_faces else "photos", "share", "95 % interval"):
        table.add_column(name, justify="right")
    for name, rate in tally.shares().items():
        table.add_row(
            Text(printable(name)), f"{rate.count:,}", *_share_cells(rate.value, rate.low, rate.high, rate.total)
        )
    return table


def _show_faces(tally: Tally) -> None:
    counts = ", ".join(f"{count:,} with {words}" for words, count in tally.photos_by_faces().items())
    note(f"photos: {counts}; faces: {tally.faces:,}")
    found, single = tally.labelled_with_faces(), tally.by_faces_with_truth[1]
    if found.total:
        note(f"of the labelled photos {found} have a face")
        if single < found.total:
            note(f"scored are those with exactly one: {single:,} of {found.total:,}")


def _share_cells(value: float, low: float, high: float, total: int) -> tuple[str, str]:
    return (f"{100 * value:.2f} %", f"{100 * low:.2f}–{100 * high:.2f}") if total else ("–", "–")


def _show_scores(scores: Scores, tally: Tally, summary: Summary) -> None:
    from gendercls.classify.scores import AttributeScores, ClassScores

    of = " of whole labels" if isinstance(scores, AttributeScores) else ""
    note(f"accuracy{of} against {summary.label_source}: {scores.accuracy}")
    if scores.coverage.value < 1:
        note(f"accuracy of the answered: {scores.answered_accuracy}, coverage {100 * scores.coverage.value:.2f} %")
    match scores:
        case ClassScores():
            _stderr.print(_confusion(scores, tally))
            _stderr.print(_precision_recall(scores, tally))
        case AttributeScores():
            note(f"accuracy of one attribute: {_mean_accuracy(scores.mean_accuracy, len(scores.attributes))}")
            _stderr.print(_attributes(scores.attributes))
    for match, words in (
        ("missing", "have no label"),
        ("ambiguous", "match several labels by file name, so none was taken"),
        ("name", "match a label by file name alone, not by path"),
        ("open", "match a label that leaves the truth open, so they are not scored"),
    ):
        if count := summary.label_matches.get(match, 0):
            note(f"labels: {count:,} of the files {words}")


def _confusion(scores: ClassScores, tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label \\ answer")
    answers = [*tally.answers.names, "uncertain", "failed"]
    columns = [n for n in range(len(answers)) if n < len(tally.answers.names) or scores.confusion[:, n].any()]
    for n in columns:
        table.add_column(Text(printable(answers[n])), justify="right")
    for name, counts in zip(tally.answers.names, scores.confusion, strict=True):
        table.add_row(Text(printable(name)), *(f"{counts[n]:,}" for n in columns))
    return table


def _precision_recall(scores: ClassScores, tally: Tally) -> Table:
    """Apart from the confusion, so that both fit a line of 80."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("of the answered")
    for heading in ("precision", "recall"):
        table.add_column(heading, justify="right")
    for name in tally.answers.names:
        rates = (scores.precision[name], scores.recall[name])
        shown = (f"{100 * r.value:.2f} % [{100 * r.low:.2f}, {100 * r.high:.2f}]" if r.total else "–" for r in rates)
        table.add_row(Text(printable(name)), *shown)
    return table


def _mean_accuracy(value: float, attributes: int) -> str:
    """Without an interval: the attributes of a photo are not independent of each other."""
    return "–" if math.isnan(value) else f"{100 * value:.2f} %, mean over {attributes} attributes"


def _attributes(scores: list[AttributeScore]) -> Table:
    """A line for each attribute, of 80 columns where names are no longer than CelebA's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attribute, %", overflow="fold")
    for heading in ("labelled", "accuracy", "precision", "recall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for score in scores:
        labelled = f"{100 * score.prevalence.value:.1f}" if score.total else "–"
        rates = (score.accuracy, score.precision, score.recall)
        shown = (f"{100 * r.value:.1f} ({100 * r.low:.0f}–{100 * r.high:.0f})" if r.total else "–" for r in rates)
        table.add_row(Text(printable(score.name)), labelled, *shown)
    return table


# --- train and export -------------------------------------------------------------------------------------------


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
    bar = Progress(*columns, console=_stderr, disable=not _stderr.is_terminal, transient=True)
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
            _warn_or_note(str(event))

    with bar:
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
        note(f"int8 against float, {loss}")
    for heading, text in _accuracies(result.spec):
        note(f"{heading}: {text}")
    note(f"model: {result.out} ({result.size / 1e6:.1f} MB)")


# --- report -----------------------------------------------------------------------------------------------------


def show_report(result: ReportResult) -> None:
    """Where the page is and what it lacks."""
    for line in result.notes:
        note(line)
    note(f"page: {result.out} ({result.size / 1e3:,.0f} kB)")


# --- audit ------------------------------------------------------------------------------------------------------


@contextmanager
def audit_progress() -> Iterator[Callable[[FeatureProgress | str], None]]:
    """A live line while features are computed, where there is a terminal, and a plain line for each note."""
    columns = (TextColumn("features"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=_stderr, disable=not _stderr.is_terminal, transient=True)
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

    with bar:
        yield report


def show_audit(result: AuditResult) -> None:
    """What was found, a line each."""
    for line in result.lines():
        _warn_or_note(line)
    if result.out is not None:
        note(f"written: {result.out} (see sheet.html there)")
    photos = len(result.findings.photos.keys)
    note(f"audited {counted(photos, 'photo')} of {result.source} in {duration(result.seconds)}")
    note(_PERCEIVED)


def _warn_or_note(line: str) -> None:
    if line.startswith("warning: "):
        warn(line.removeprefix("warning: "))
    else:
        note(line)


# --- info and doctor --------------------------------------------------------------------------------------------


def info_lines(spec: ModelSpec, file: str, sha256: str) -> Iterator[tuple[str, str]]:
    """A spec as heading and text, for a person."""
    pre, gate, provenance = spec.preprocessing, spec.gate, spec.provenance
    yield "model", f"{spec.name}, {spec.precision}, format {spec.format[0]}.{spec.format[1]}"
    yield "file", f"{file} (SHA-256 {sha256[:16]}…)"
    named = "; ".join(c.name if c.name == c.rule else f"{c.name} = {c.rule}" for c in spec.classes)
    yield ("attributes", f"{len(spec.classes)}, each there or not: {named}") if spec.independent else ("classes", named)
    if spec.opinions:
        yield "opinions", f"what labellers thought, more than what a photo shows: {', '.join(spec.opinions)}"
    yield "photo", f"{pre.fit} to {pre.width}×{pre.height}, {pre.resampling}; face margin {pre.face_margin:g}"
    yield "licence of its data", str(provenance.get("data_licence", "not stated"))
    photos = provenance.get("photos", {})
    counts = ", ".join(f"{count:,} {part}" for part, count in photos.items()) if isinstance(photos, dict) else ""
    yield "trained on", f"{provenance.get('data', 'not stated')} ({counts}), split {provenance.get('split', '?')}"
    init = provenance.get("init", {})
    yield "weights began at", str(init.get("name", "not stated")) if isinstance(init, dict) else "not stated"
    yield from _accuracies(spec)
    for row in spec.thresholds:
        if row.wanted_error in (0.01, 0.02, 0.05):
            wanted, answered = f"{100 * row.wanted_error:g} % wrong", f"{100 * row.coverage:.1f} % answered"
            yield "threshold", f"for at most {wanted}: confidence {row.confidence:.4f}, {answered} (on validation)"
    allowed = (
        f" ({gate.tolerance:g} allowed)" if gate.tolerance < 1 else f", {gate.decisions_changed} decisions changed"
    )
    yield "gate", f"{counted(gate.photos, 'photo')}, largest difference {gate.largest_difference:.1e}{allowed}"
    yield "note", _PERCEIVED


def _accuracies(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    for figure in spec.figures:
        if spec.independent:
            yield "whole label right", str(figure)
            yield "one attribute right", _mean_accuracy(figure.mean_accuracy, len(spec.classes))
        else:
            yield "accuracy", str(figure)


def show_info(spec: ModelSpec, file: str, sha256: str) -> None:
    """A spec on stdout: it is what was asked for."""
    stdout = Console(highlight=False)
    stdout.print(_facts(info_lines(spec, file, sha256)))
    if spec.independent and spec.figures:
        first = spec.figures[0]
        others = " (the other figures: --json)" if len(spec.figures) > 1 else ""
        stdout.print(Text(f"\n{printable(first.on)}{others}"))
        stdout.print(_attributes(first.attribute_scores(spec.class_names)))


def show_findings(findings: list[Finding]) -> None:
    """The examination on stdout."""
    marks = {True: "ok: ", False: "PROBLEM: ", None: ""}
    Console(highlight=False).print(_facts((f.what, marks[f.is_good] + f.value) for f in findings))


def _facts(lines: Iterator[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, text in lines:
        table.add_row(Text(heading), Text(printable(text)))
    return table
