"""What ``info`` and ``doctor`` show, on stdout: it is what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gendercls.console import PERCEIVED, accuracy_lines, attribute_table, counted, fact_table, one_line, stderr

if TYPE_CHECKING:
    from gendercls.classify.speed import SpeedReport
    from gendercls.doctor import Finding
    from gendercls.spec import ModelSpec


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
    known = photos.items() if isinstance(photos, dict) else ()
    counts = ", ".join(f"{count:,} {part}" for part, count in known if isinstance(count, int))
    yield "trained on", f"{provenance.get('data', 'not stated')} ({counts}), split {provenance.get('split', '?')}"
    init = provenance.get("init", {})
    yield "weights began at", str(init.get("name", "not stated")) if isinstance(init, dict) else "not stated"
    yield from accuracy_lines(spec)
    for row in spec.thresholds:
        if row.wanted_error in (0.01, 0.02, 0.05):
            wanted, answered = f"{100 * row.wanted_error:g} % wrong", f"{100 * row.coverage:.1f} % answered"
            yield "threshold", f"for at most {wanted}: confidence {row.confidence:.4f}, {answered} (on validation)"
    allowed = (
        f" ({gate.tolerance:g} allowed)" if gate.tolerance < 1 else f", {gate.decisions_changed} decisions changed"
    )
    yield "gate", f"{counted(gate.photos, 'photo')}, largest difference {gate.largest_difference:.1e}{allowed}"
    yield "note", PERCEIVED


def show_info(spec: ModelSpec, file: str, sha256: str) -> None:
    """A spec on stdout: it is what was asked for."""
    stdout = Console(highlight=False, emoji=False)
    stdout.print(fact_table((heading, one_line(text)) for heading, text in info_lines(spec, file, sha256)))
    if spec.independent and spec.figures:
        first = spec.figures[0]
        others = " (the other figures: --json)" if len(spec.figures) > 1 else ""
        stdout.print(Text(f"\n{one_line(first.on)}{others}"))
        stdout.print(attribute_table(first.attribute_scores(spec.class_names)))


def show_findings(findings: list[Finding]) -> None:
    """The examination on stdout."""
    marks = {True: "ok: ", False: "PROBLEM: ", None: ""}
    Console(highlight=False).print(fact_table((f.what, marks[f.is_good] + f.value) for f in findings))


@contextmanager
def measuring() -> Iterator[Callable[[str], None]]:
    """A live line that says what is being measured, where there is a terminal."""
    with stderr.status("") as status:
        yield lambda text: status.update(Text(text))


def show_speed(report: SpeedReport) -> None:
    """What was measured on stdout, what the defaults are, and what follows."""
    stdout = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what")
    table.add_column("photos/s", justify="right")
    table.add_column("")
    for speed in report.speeds:
        table.add_row(speed.what, f"{speed.rate:,.1f}", "default" if speed.is_default else "")
    unreadable = f"; {counted(report.unreadable, 'file')} among them could not be read" if report.unreadable else ""
    stdout.print(f"\n{counted(report.photos, 'photo')} tried on {report.device}{unreadable}")
    stdout.print(table)
    for line in report.conclusions:
        stdout.print(line, soft_wrap=True)
