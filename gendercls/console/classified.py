"""What ``classify`` shows: a live line, and a summary in lines that can be quoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gendercls.console import (
    PERCEIVED,
    UNWEIGHTED,
    attribute_table,
    counted,
    duration,
    live,
    mean_accuracy_text,
    note,
    one_line,
    stderr,
    warn,
)

if TYPE_CHECKING:
    from gendercls.classify.summary import Progress as ClassifyProgress
    from gendercls.classify.summary import Summary
    from gendercls.classify.tally import Tally
    from gendercls.scores import ClassScores, Scores


@contextmanager
def classify_progress(quiet: bool) -> Iterator[Callable[[ClassifyProgress], None]]:
    """A live line while photos are classified, where there is a terminal."""
    columns = (TextColumn("classifying"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=stderr, disable=quiet or not stderr.is_terminal, transient=True)
    task = bar.add_task("", total=None, text="")

    def report(progress: ClassifyProgress) -> None:
        known = f"{progress.done:,}" + (f" of {progress.total:,}" if progress.total else "")
        text = f"{known} photos  {progress.rate:.0f}/s"
        if progress.total and progress.rate > 0:
            text += f"  {duration((progress.total - progress.done) / progress.rate)} left"
        if progress.failed:
            text += f"  {progress.failed:,} failed"
        bar.update(task, total=progress.total, completed=progress.done, text=text)

    with live(bar):
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
    stderr.print(_shares(summary))
    if summary.corrected:
        note(f"corrected: if errors are as frequent as on {summary.corrected_by} (docs/shares.md)")
    if tally.has_faces:
        _show_faces(tally)
    elif summary.looks_unfamiliar:
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
    note(PERCEIVED)


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


def _shares(summary: Summary) -> Table:
    """As counted, and without the classifier's errors."""
    tally = summary.tally
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("perceived as")
    corrected = ("corrected", "95 % interval") if summary.corrected else ()
    for name in ("faces" if tally.has_faces else "photos", "share", "95 % interval", *corrected):
        table.add_column(name, justify="right")
    for name, rate in tally.shares().items():
        cells = [*_share_cells(rate.value, rate.low, rate.high, rate.total)]
        if name in summary.corrected:
            share = summary.corrected[name]
            cells += _share_cells(share.value, share.low, share.high, rate.total)
        table.add_row(Text(one_line(name)), f"{rate.count:,}", *cells)
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
    from gendercls.scores import AttributeScores, ClassScores

    of = " of whole labels" if isinstance(scores, AttributeScores) else ""
    note(f"accuracy{of} against {summary.label_source}: {scores.accuracy}")
    if scores.coverage.value < 1:
        note(f"accuracy of the answered: {scores.answered_accuracy}, coverage {100 * scores.coverage.value:.2f} %")
    match scores:
        case ClassScores():
            stderr.print(_confusion(scores, tally))
            stderr.print(_precision_recall(scores, tally))
        case AttributeScores():
            note(f"accuracy of one attribute: {mean_accuracy_text(scores.mean_accuracy, len(scores.attributes))}")
            stderr.print(attribute_table(scores.attributes))
    if summary.unweighted:
        warn(UNWEIGHTED)
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
        table.add_column(Text(one_line(answers[n])), justify="right")
    for name, counts in zip(tally.answers.names, scores.confusion, strict=True):
        table.add_row(Text(one_line(name)), *(f"{counts[n]:,}" for n in columns))
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
        table.add_row(Text(one_line(name)), *shown)
    return table
