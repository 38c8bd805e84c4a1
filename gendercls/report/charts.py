"""Charts as inline SVG: their colours are the page's, and each has a title and a description in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from gendercls.report.markup import element
from gendercls.stats import Bin, Rate, wilson

_WIDTH = 420.0  # of every drawing, so that text has one size on the page
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 22.0, 30.0, 40.0  # margins
_INSET = 8.0  # between an axis and the first value
_MOST_MARKERS = 40  # more than that run into each other


@dataclass(frozen=True, slots=True)
class Series:
    """A named line: (x, y) in order. style: ``first`` or ``second``, which differ in colour, dashes and markers."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Values of one kind, such as ``right answers``. style: as a `Series` has it."""

    name: str
    values: Sequence[float]
    style: str


@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction of a drawing: values from low to high lie between two coordinates."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.begin + min(1.0, max(0.0, share)) * (self.end - self.begin)


def epoch_chart(
    key: str,
    title: str,
    series: Sequence[Series],
    *,
    from_zero: bool,
    in_words: Callable[[float], str],
    kept: int | None,
    kept_words: str,
) -> Element:
    """Values per epoch; the kept epoch has a line of its own, whose name is ``kept_words``.

    Args:
        key: unique on the page. in_words: a value as its axis and the description show it.
    """
    height = 270.0
    values = [y for line in series for _, y in line.points]
    marks = ticks(0.0 if from_zero else min(values), max(values))
    last = max(x for line in series for x, _ in line.points)
    x = _Axis(1, max(2, last), _LEFT + _INSET, _WIDTH - _RIGHT)
    y = _Axis(marks[0], marks[-1], height - _BOTTOM, _TOP)
    parts = [*_frame(height), *_y_ticks(y, marks, in_words)]
    parts += [_below(x.at(epoch), f"{epoch:g}", height) for epoch in _epoch_ticks(int(x.high))]
    parts.append(_axis_name(height, "epoch"))
    if kept is not None:
        parts.append(_segment("kept", x.at(kept), _TOP, x.at(kept), height - _BOTTOM))
    for line in series:
        parts += _line(line, x, y)
    said = [_series_in_words(line, in_words) for line in series] + ([kept_words] if kept is not None else [])
    return _drawing(key, title, "; ".join(said), height, [*parts, *_legend(series, "" if kept is None else kept_words)])


def reliability_chart(key: str, title: str, bins: Sequence[Bin], style: str, low: float) -> Element:
    """Accuracy against confidence, a point with its 95 % interval for each bin; on the diagonal both are equal.

    Args:
        low: where both axes begin, 0 to 0.9; they end at 1.
    """
    height = 330.0
    x = _Axis(low, 1, _LEFT + _INSET, _WIDTH - _RIGHT)
    y = _Axis(low, 1, height - _BOTTOM - _INSET, _TOP)
    marks = [mark for mark in ticks(low, 1) if low <= mark <= 1]
    parts = [*_frame(height), *_y_ticks(y, marks, percent)]
    parts += [_below(x.at(mark), percent(mark), height) for mark in marks]
    parts.append(_axis_name(height, "confidence"))
    parts.append(_text("legend", _LEFT, 16, "share of right answers", "start"))
    parts.append(_segment("diagonal", x.at(low), y.at(low), x.at(1), y.at(1)))
    for each in bins:
        rate, across = wilson(round(each.accuracy * each.count), each.count), x.at(each.confidence)
        parts.append(_segment(f"whisker {style}", across, y.at(rate.low), across, y.at(rate.high)))
    parts += [_marker(style, x.at(each.confidence), y.at(each.accuracy)) for each in bins]
    gap = max(bins, key=lambda each: abs(each.accuracy - each.confidence))
    description = (
        f"{len(bins)} bins of answers. The widest gap: {percent(gap.confidence, 1)} confidence where "
        f"{percent(gap.accuracy, 1)} of {gap.count:,} were right."
    )
    return _drawing(key, title, description, height, parts)


def histogram(key: str, title: str, groups: Sequence[Group], low: float, description: str) -> Element:
    """How sure answers were: each group on a scale of its own, in 20 bins from ``low`` to 1."""
    height, gap = 60.0 + 105.0 * len(groups), 30.0
    each = (height - _BOTTOM - _TOP - gap * (len(groups) - 1)) / len(groups)
    x = _Axis(low, 1, _LEFT, _WIDTH - _RIGHT)
    parts: list[Element] = []
    for number, group in enumerate(groups):
        top = _TOP + number * (each + gap)
        counts = _counts(group.values, low, 20)
        y = _Axis(0, max(1, *counts), top + each, top)
        parts.append(_text("legend", _LEFT, top - 8, f"{len(group.values):,} {group.name}", "start"))
        parts += _y_ticks(y, [0, y.high], "{:,.0f}".format)
        step = (x.end - x.begin) / len(counts)
        for place, count in enumerate(counts):
            left, up = x.begin + place * step, y.at(count)
            shape = {"x": left + 1, "y": up, "width": step - 2, "height": y.begin - up}
            parts.append(element("rect", class_=f"bar {group.style}", **shape))
    parts += [_below(x.at(mark), percent(mark), height) for mark in ticks(low, 1) if low <= mark <= 1]
    parts.append(_axis_name(height, "confidence"))
    return _drawing(key, title, description, height, parts)


def interval_plot(key: str, title: str, rates: Sequence[tuple[str, Rate, bool]], whole: Rate) -> Element:
    """A line for each of these: its name, a point with its 95 % interval, and how many photos; the whole as a rule.

    Args: rates: name, rate, and whether it stands out.
    """
    line, left = 22.0, 190.0
    height = _TOP + line * len(rates) + _BOTTOM
    lowest = min(rate.low for _, rate, _ in rates)
    marks = ticks(max(0.0, min(lowest, whole.low)), 1.0)
    x = _Axis(marks[0], 1.0, left, _WIDTH - _RIGHT - 44)
    parts = [element("line", class_="grid", x1=x.at(m), y1=_TOP - 6, x2=x.at(m), y2=height - _BOTTOM) for m in marks]
    named = [mark for mark in marks if mark <= 1][:: -1 if len(marks) <= 4 else -2]  # more run into each other
    parts += [_below(x.at(mark), percent(mark), height) for mark in named]
    parts.append(_segment("kept", x.at(whole.value), _TOP - 6, x.at(whole.value), height - _BOTTOM))
    parts.append(_text("legend", x.at(whole.value), 16, f"all {percent(whole.value, 1)}", "middle"))
    for number, (name, rate, stands_out) in enumerate(rates):
        at, style = _TOP + line * (number + 0.5), "second" if stands_out else "first"
        parts.append(_text("legend", left - 8, at + 4, name if len(name) <= 25 else name[:24] + "…", "end"))
        parts.append(_segment(f"whisker {style}", x.at(rate.low), at, x.at(rate.high), at))
        parts.append(_marker(style, x.at(rate.value), at))
        parts.append(_text("tick", _WIDTH - 4, at + 4, f"{rate.total:,}", "end"))
    name, worst, _ = rates[0]
    description = (
        f"{len(rates)} groups, the lowest first. {name}: {percent(worst.value, 1)}, 95 % interval "
        f"{percent(worst.low, 1)} to {percent(worst.high, 1)}, of {worst.total:,}; all: {percent(whole.value, 1)}."
    )
    return _drawing(key, title, description, height, parts)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, evenly apart, of which the first is at most ``low`` and the last at least ``high``.

    >>> ticks(0, 0.29)
    [0.0, 0.1, 0.2, 0.3]
    """
    span = high - low if high - low > 1e-9 else max(abs(high), 1e-9)
    rough = span / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999)
    digits = max(0, 1 - math.floor(math.log10(step)))
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(number * step, digits) for number in range(first, last + 1)]


def percent(share: float, digits: int = 0) -> str:
    """``97 %``; with one digit ``96.8 %``."""
    return f"{100 * share:.{digits}f} %"


def _epoch_ticks(last: int) -> list[int]:
    if last <= 12:
        return list(range(1, last + 1))
    return [1, *(int(mark) for mark in ticks(0, last) if 1 < mark <= last)]


def _counts(values: Sequence[float], low: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (1 - low) * bins)))] += 1
    return counts


def _drawing(key: str, title: str, description: str, height: float, parts: Sequence[Element]) -> Element:
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *parts,
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def _frame(height: float) -> list[Element]:
    right, bottom = _WIDTH - _RIGHT, height - _BOTTOM
    return [_segment("axis", _LEFT, bottom, right, bottom), _segment("axis", _LEFT, _TOP, _LEFT, bottom)]


def _y_ticks(y: _Axis, marks: Sequence[float], in_words: Callable[[float], str]) -> list[Element]:
    parts = []
    for mark in marks:
        at = y.at(mark)
        parts.append(_segment("grid", _LEFT, at, _WIDTH - _RIGHT, at))
        parts.append(_text("tick", _LEFT - 7, at + 4, in_words(mark), "end"))
    return parts


def _below(x: float, words: str, height: float) -> Element:
    return _text("tick", x, height - _BOTTOM + 17, words, "middle")


def _axis_name(height: float, words: str) -> Element:
    return _text("tick", (_LEFT + _WIDTH - _RIGHT) / 2, height - 6, words, "middle")


def _line(line: Series, x: _Axis, y: _Axis) -> list[Element]:
    places = [(x.at(across), y.at(value)) for across, value in line.points]
    way = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    parts = [element("polyline", class_=f"line {line.style}", points=way)]
    if len(places) <= _MOST_MARKERS:
        parts += [_marker(line.style, across, up) for across, up in places]
    return parts


def _legend(series: Sequence[Series], kept_words: str) -> list[Element]:
    """Above the drawing: each line's name, and what the dotted line stands for."""
    parts, x = [], _LEFT
    for line in series:
        parts += [_segment(f"line {line.style}", x, 12, x + 26, 12), _marker(line.style, x + 13, 12)]
        parts.append(_text("legend", x + 32, 16, line.name, "start"))
        x += 54 + 7.5 * len(line.name)
    if kept_words:
        parts.append(_segment("kept", x, 4, x, 20))
        parts.append(_text("legend", x + 8, 16, kept_words, "start"))
    return parts


def _marker(style: str, x: float, y: float) -> Element:
    """A disc or a diamond, so that two lines differ without colour."""
    if style == "first":
        return element("circle", class_="marker first", cx=x, cy=y, r=3.5)
    around = ((x, y - 4.5), (x + 4.5, y), (x, y + 4.5), (x - 4.5, y))
    corners = " ".join(f"{across:.1f},{up:.1f}" for across, up in around)
    return element("polygon", class_="marker second", points=corners)


def _segment(style: str, x1: float, y1: float, x2: float, y2: float) -> Element:
    return element("line", class_=style, x1=x1, y1=y1, x2=x2, y2=y2)


def _text(style: str, x: float, y: float, words: str, anchor: str) -> Element:
    return element("text", words, class_=style, x=x, y=y, text_anchor=anchor)


def _series_in_words(line: Series, in_words: Callable[[float], str]) -> str:
    (first_x, first), (last_x, last) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {in_words(first)} in epoch {first_x:g}"
    return f"{line.name}: {in_words(first)} in epoch {first_x:g}, {in_words(last)} in epoch {last_x:g}"
