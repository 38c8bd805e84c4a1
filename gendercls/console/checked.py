"""What ``compare``, ``verify`` and ``sort`` show, in lines that can be quoted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gendercls.console import PERCEIVED, UNWEIGHTED, counted, live, note, one_line, stderr, warn

if TYPE_CHECKING:
    from gendercls.classify.verdict import Verdict
    from gendercls.report.agreement import PairedRates
    from gendercls.report.compare import Comparison, Unpaired
    from gendercls.report.sort import Sorted
    from gendercls.report.sorted_list import Undone
    from gendercls.stats import Difference, Rate

_SLICES = 10
_NAMED = 10


def _table(first: str, *headings: str) -> Table:
    """The first column is text, the others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(Text(one_line(heading)), justify="right")
    return table


# --- compare -----------------------------------------------------------------------------------------------------


def show_comparison(found: Comparison) -> None:
    """How two CSVs differ: what made them first, the worst slices last."""
    _show_runs(found)
    note(f"rows in both: {found.rows:,}{_only('first', found.only_first)}{_only('second', found.only_second)}")
    note(f"changed predictions: {found.changed}")
    if found.failed_only_first or found.failed_only_second:
        note(
            f"failed: {found.failed_only_first:,} in the first alone, {found.failed_only_second:,} in the second alone"
        )
    if not math.isnan(found.apart.mean):
        where = f" ({found.apart.at})" if found.apart.largest else ""
        note(f"probabilities differ by {found.apart.mean:.6f} in the mean, {found.apart.largest:.6f} at most{where}")
    if found.labels and found.changed.count:
        stderr.print(_labels(found))
    stderr.print(_shares(found))
    if found.conflicts:
        warn(f"{counted(found.conflicts, 'row')} with another truth in the second: not scored")
    if found.accuracy is not None:
        _show_accuracy(found.accuracy)
        if found.unweighted:
            warn(UNWEIGHTED)
    if found.slices and found.changed.count:
        stderr.print(_slices(found))
        if len(found.slices) > _SLICES:
            note(f"the first {_SLICES} of {len(found.slices):,} slices; all of them: --json")
    if found.out is not None:
        note(f"changed predictions: {found.out}")
    note(PERCEIVED)


def _show_runs(found: Comparison) -> None:
    note(f"first:  {found.first}")
    note(f"second: {found.second}")
    for path in found.unrecorded:
        warn(f"what made {path} is not known: its .run.json is not beside it")
    if found.runs:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("made with", "first", "second"):
            table.add_column(heading, overflow="fold")
        for difference in found.runs:
            table.add_row(*(Text(one_line(text)) for text in (difference.what, difference.first, difference.second)))
        stderr.print(table)
    elif not found.unrecorded:
        note("made with the same model, options and versions")


def _only(which: str, left: Unpaired) -> str:
    return f"; only in the {which}: {left.count:,} (as {left.first})" if left.count else ""


def _labels(found: Comparison) -> Table:
    table = _table("first \\ second", *found.words)
    for name, counts in zip(found.words, found.labels, strict=True):
        table.add_row(Text(one_line(name)), *(f"{count:,}" for count in counts))
    return table


def _shares(found: Comparison) -> Table:
    table = _table("perceived as", "first", "second", "difference [95 %]")
    for name, share in found.shares.items():
        cells = (_percent(share.first), _percent(share.second), _points(share.difference))
        table.add_row(Text(one_line(name)), *cells)
    return table


def _show_accuracy(accuracy: PairedRates) -> None:
    note(f"accuracy, first:  {accuracy.first}")
    note(f"accuracy, second: {accuracy.second}")
    note(
        f"second less first: {accuracy.difference}; right in the first alone {accuracy.only_first:,}, in the second "
        f"alone {accuracy.only_second:,}; McNemar p = {accuracy.p:.3g}"
    )


def _slices(found: Comparison) -> Table:
    has_truth = any(part.accuracy for part in found.slices)
    truth = ("difference [95 %]", "q") if has_truth else ()
    table = _table("where", "rows", "changed", *truth)
    for part in found.slices[:_SLICES]:
        cells = [f"{part.changed.total:,}", f"{part.changed.count:,} ({_percent(part.changed)})"]
        if has_truth:
            accuracy = part.accuracy
            cells += [_points(accuracy.difference) if accuracy else "–", f"{part.q:.3g}" if part.q is not None else "–"]
        table.add_row(Text(one_line(part.name)), *cells)
    return table


def _percent(rate: Rate) -> str:
    return f"{100 * rate.value:.2f} %" if rate.total else "–"


def _points(difference: Difference) -> str:
    return str(difference).replace(" points", "") if difference.total else "–"


# --- verify ------------------------------------------------------------------------------------------------------


def show_verdict(found: Verdict) -> None:
    """What was looked at, what agrees, and the first faults of each kind."""
    for line in found.notes:
        note(f"{line}: the last decimals may differ")
    for title, faults in (
        ("rows that do not follow from their own numbers", found.contradictory),
        ("photos at another place in the listing", found.misplaced),
        ("photos that are gone", found.gone),
        ("photos without a row", found.added),
        ("photos with another answer", found.different),
    ):
        if faults.count:
            warn(f"{title}: {faults.count:,}")
            for fault in faults.first:
                note(f"  {fault.path}: {fault.what}")
            if faults.count > len(faults.first):
                note(f"  and {faults.count - len(faults.first):,} more")
    if found.untried:
        note(f"not read again, since that ended a process before: {counted(found.untried, 'photo')}")
    drawn = ", drawn at random," if found.is_sample else ""
    rounded = f", {found.rounded:,} but for rounding (at most {found.largest:.6f})" if found.rounded else ""
    note(
        f"{found.tried:,} of {counted(found.photos, 'file')}{drawn} read again on {found.device}, {found.model}: "
        f"{found.same:,} the same{rounded}, {found.different.count:,} with another answer"
    )
    if found.is_sample and not found.different.count:
        note(f"so of all of them at most {100 * found.differing.high:.2f} % have another answer (95 %)")
    if found.is_match:
        so_far = ", as far as was looked" if found.is_sample else ""
        note(f"{found.preds} is what its model says of these photos{so_far}")


# --- sort --------------------------------------------------------------------------------------------------------


@contextmanager
def sort_progress() -> Iterator[Callable[[int, int], None]]:
    """A live line while links or copies are made, where there is a terminal."""
    columns = (TextColumn("sorting"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True)
    task = bar.add_task("", total=None, text="")
    with live(bar):
        yield lambda done, total: bar.update(task, total=total, completed=done, text=f"{done:,} of {total:,} photos")


def show_sorted(found: Sorted, how_to_undo: str) -> None:
    """What was made and what was left out."""
    table = _table("folder", "photos")
    for name, count in sorted(found.folders.items()):
        table.add_row(Text(one_line(name)), f"{count:,}")
    stderr.print(table)
    if found.not_photos:
        note(f"left out: {counted(found.not_photos, 'file')} that are no photos")
    if found.missing:
        warn(f"{counted(len(found.missing), 'photo')} not there any more, such as {found.missing[0]}")
    nouns = {"link": "links", "copy": "copies"}
    there = f", {found.there:,} were there already" if found.there else ""
    note(f"{nouns[found.kind]} made below {found.into}: {found.made:,}{there}")
    note(f"to take them back: {how_to_undo}")


def show_undone(found: Undone) -> None:
    """What was taken back, and what was not since it has changed."""
    note(f"removed: {found.removed:,}" + (f"; gone before: {found.gone:,}" if found.gone else ""))
    if found.kept:
        warn(f"{len(found.kept):,} are no longer what was made, so they stay, and the list with them:")
        for made in found.kept[:_NAMED]:
            note(f"  {made}")
        if len(found.kept) > _NAMED:
            note(f"  and {len(found.kept) - _NAMED:,} more")
