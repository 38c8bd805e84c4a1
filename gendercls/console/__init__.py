"""Everything a person sees: progress, tables, warnings, all on stderr. Data goes to files or stdout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

    from gendercls.answers import AttributeScore
    from gendercls.spec import ModelSpec

stderr = Console(stderr=True, highlight=False, emoji=False)
UNWEIGHTED = (
    "the labels have weights, which are not used: what is said here is of the photos with a label, not of all "
    "(gendercls report --labels uses them)"
)
PERCEIVED = "Labels say how a labeller would likely perceive a face, not anyone's gender."


def note(text: str) -> None:
    """One plain line."""
    stderr.print(one_line(text), markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """One line that should not be missed."""
    stderr.print(Text.assemble(("warning: ", "yellow"), one_line(text)), soft_wrap=True)


def printable(text: str) -> str:
    """Text from strangers with control characters and escapes shown instead of obeyed; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """As `printable`, where a stranger's line end would pass for the end of ours."""
    return printable(text).replace("\n", "\\n")


@contextmanager
def live(bar: Progress) -> Iterator[None]:
    """The bar while the block runs, where it is wanted: before rich 14.3 a disabled one too ends with an empty line."""
    with nullcontext() if bar.disable else bar:
        yield


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """``4.1 s``, ``41 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def warn_or_note(line: str) -> None:
    """One line, which says itself whether it is a warning."""
    if line.startswith("warning: "):
        warn(line.removeprefix("warning: "))
    else:
        note(line)


def fact_table(lines: Iterator[tuple[str, str]]) -> Table:
    """Headings and their text."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, text in lines:
        table.add_row(Text(heading), Text(printable(text)))
    return table


def accuracy_lines(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """A model's measured figures as heading and text."""
    for figure in spec.figures:
        if spec.independent:
            yield "whole label right", str(figure)
            yield "one attribute right", mean_accuracy_text(figure.mean_accuracy, len(spec.classes))
        else:
            yield "accuracy", str(figure)


def mean_accuracy_text(value: float, attributes: int) -> str:
    """Without an interval: the attributes of a photo are not independent of each other."""
    return "–" if math.isnan(value) else f"{100 * value:.2f} %, mean over {attributes} attributes"


def attribute_table(scores: list[AttributeScore]) -> Table:
    """A line for each attribute, of 80 columns where names are no longer than CelebA's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attribute, %", overflow="fold")
    for heading in ("labelled", "accuracy", "precision", "recall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for score in scores:
        labelled = f"{100 * score.prevalence.value:.1f}" if score.total else "–"
        rates = (score.accuracy, score.precision, score.recall)
        shown = (f"{100 * r.value:.1f} ({100 * r.low:.0f}–{100 * r.high:.0f})" if r.total else "–" for r in rates)
        table.add_row(Text(one_line(score.name)), labelled, *shown)
    return table
