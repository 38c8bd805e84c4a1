"""Tables of rates: confusion, precision and recall, attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import AttributeScore
from gendercls.report.charts import percent
from gendercls.report.markup import Content, element
from gendercls.report.page import table
from gendercls.stats import Rate, precision_recall


def rate_words(rate: Rate) -> str | None:
    """``96.75 % [95.28, 97.77] (774/800)``; None where nothing was counted."""
    return str(rate) if rate.total else None


def confusion_table(names: Sequence[str], counts: NDArray[np.int64], others: Sequence[str] = ()) -> Element:
    """Counts ``[K, A]``, truth by answer. others: what the last A - K columns are; empty ones are left out."""
    shown = [number for number in range(counts.shape[1]) if number < len(names) or counts[:, number].any()]
    heads = [*(f"answered {name}" for name in names), *others]
    rows: list[list[Content | None]] = []
    for name, row in zip(names, counts.tolist(), strict=True):
        cells = (_share_cell(row[number], sum(row)) for number in shown)
        rows.append([f"labelled {name}", *cells, f"{sum(row):,}"])
    header = ["label", *(heads[number] for number in shown), "photos"]
    return table("Confusion, with shares of the row", header, rows)


def _share_cell(count: int, total: int) -> Element:
    share = count / total if total else 0.0
    words = f" {percent(share, 1)}" if total else ""
    return element("span", element("b", f"{count:,}"), words, class_="share", style=f"--share: {share:.3f}")


def precision_table(names: Sequence[str], counts: NDArray[np.int64]) -> Element:
    """Of counts ``[K, K]``, truth by answer."""
    return table(
        "Precision and recall, with 95 % intervals",
        ["class", "precision: of these answers, right", "recall: of these labels, found"],
        ([name, *map(rate_words, precision_recall(counts, number))] for number, name in enumerate(names)),
    )


def attribute_table(scores: Sequence[AttributeScore], opinions: AbstractSet[str] = frozenset()) -> Element:
    """The most accurate attribute first. opinions: names of those that are marked as a labeller's opinion."""
    ordered = sorted(scores, key=lambda score: -score.accuracy.value if score.total else math.inf)
    rows = ([_attribute_name(score, opinions), *_attribute_rates(score), f"{score.total:,}"] for score in ordered)
    return table(
        "Attributes by accuracy, with 95 % intervals",
        ["attribute", "accuracy", "labelled yes", "precision", "recall", "photos"],
        rows,
    )


def _attribute_rates(score: AttributeScore) -> Iterator[str | None]:
    """Without the counts."""
    rates = (score.accuracy, score.prevalence, score.precision, score.recall)
    return (str(rate).partition(" (")[0] if rate.total else None for rate in rates)


def _attribute_name(score: AttributeScore, opinions: AbstractSet[str]) -> Content:
    if score.name not in opinions:
        return score.name
    return element("span", score.name, " ", element("span", "opinion", class_="tag"))
