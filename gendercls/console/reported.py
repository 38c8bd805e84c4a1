"""What ``report`` shows: the page's headline figures, with bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from gendercls.console import PERCEIVED, note, one_line, stderr

if TYPE_CHECKING:
    from gendercls.report.measures import Measures
    from gendercls.report.run import ReportResult
    from gendercls.shares import Share
    from gendercls.stats import Rate

_BAR = 24
_WORST = 3


def show_report(result: ReportResult) -> None:
    """What was found, where the page is and what it lacks."""
    if result.measures is not None:
        for sentence in result.headline:
            note(sentence)
        stderr.print(_shares(result.measures))
        _show_quality(result.measures)
    for line in result.notes:
        note(line)
    note(f"page: {result.out} ({result.size / 1e3:,.0f} kB)")
    if result.measures is not None:
        note(PERCEIVED)


def _shares(measures: Measures) -> Table:
    """A line for each way to know a class's share."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("perceived as", "", ""):
        table.add_column(name)
    for name in ("share", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for share in measures.shares:
        name = one_line(share.name)
        for kind, found in (("counted", share.raw), ("corrected", share.corrected), ("by hand", share.by_hand)):
            if found is not None:
                table.add_row(Text(name), kind, *_share_cells(found))
                name = ""
    return table


def _share_cells(found: Rate | Share) -> tuple[Bar | str, str, str]:
    if math.isnan(found.value):
        return "", "–", "–"
    bar = Bar(1.0, 0.0, found.value, width=_BAR)
    return bar, f"{100 * found.value:.1f} %", f"{100 * found.low:.1f}–{100 * found.high:.1f}"


def _words(estimate: Rate | Share) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _show_quality(measures: Measures) -> None:
    if measures.accuracy_by_hand is not None:
        note(f"right, by hand labels: {_words(measures.accuracy_by_hand)} of the answers")
    if measures.quality is None:
        return
    note(f"accuracy against {measures.label_source}: {measures.quality.scores.accuracy}")
    if measures.quality.calibration is not None:
        error = measures.quality.calibration
        note(f"calibration error: {100 * error.value:.2f} % (by chance up to {100 * error.by_chance:.2f} %)")
    for each in measures.slices[:_WORST]:
        sure = "" if each.q <= 0.05 else ", which may be chance"
        note(f"right least often: {each.name}: {_words(each.accuracy)} of {each.accuracy.total:,}{sure}")
