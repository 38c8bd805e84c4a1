"""What ``report`` shows: the page's headline figures, with bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from gendercls.console import PERCEIVED, note, one_line, stderr

if TYPE_CHECKING:
    from gendercls.metrics import Estimate
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
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("perceived as", ""):
        table.add_column(name)
    kinds = [name for name in ("corrected", "by_hand") if any(getattr(s, name) is not None for s in measures.shares)]
    for name in ("share", *(kind.replace("_", " ") for kind in kinds)):
        table.add_column(name, justify="right")
    for share in measures.shares:
        best = share.by_hand or share.raw
        bar = Bar(1.0, 0.0, best.value if share.raw.total else 0.0, width=_BAR)
        cells = [_words(getattr(share, kind)) for kind in kinds]
        table.add_row(Text(one_line(share.name)), bar, _words(share.raw), *cells)
    return table


def _words(estimate: Rate | Share | Estimate | None) -> str:
    if estimate is None or estimate.value != estimate.value:
        return "–"
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
