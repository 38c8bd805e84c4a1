"""What ``sample`` shows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gendercls.console import counted, note

if TYPE_CHECKING:
    from gendercls.report.sheet import SampleResult


def show_sample(result: SampleResult, preds: Path) -> None:
    """What was drawn, where the page is and what to do with it."""
    strata = "1 stratum" if result.strata == 1 else f"{result.strata} strata"
    left_out = f"; {counted(result.left_out, 'row')} without one left out" if result.left_out else ""
    note(f"drawn: {result.drawn:,} of {counted(result.answered, 'row')} with an answer, in {strata}{left_out}")
    note(f"page: {result.out} ({result.size / 1e3:,.0f} kB)")
    command = shlex.join(["gendercls", "report", str(preds), "--labels", result.labels_name])
    note(f"next: open it in a browser, label, save {result.labels_name}, then {command}")
