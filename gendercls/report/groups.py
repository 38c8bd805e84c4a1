"""The sections on groups of photos: shares by folder, accuracy by group and by two groups at once, parity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from gendercls.report.charts import interval_plot
from gendercls.report.markup import Content
from gendercls.report.measures import Measures
from gendercls.report.page import figure, folded, paragraph, section, table
from gendercls.slices import LEAST_PHOTOS, Slice
from gendercls.stats import Rate

FALSE_ALARMS = 0.05
MOST_LINES, MOST_PAIRS = 30, 15


def groups_section(measures: Measures) -> Iterator[Element]:
    """Those for which there is something to say."""
    if measures.folders:
        yield _folders(measures)
    if measures.slices and measures.quality is not None:
        yield _accuracy(measures, measures.quality.scores.accuracy)


def _folders(measures: Measures) -> Element:
    names = [share.name for share in measures.shares]
    rows = (
        [folder, *(str(rates[name]) if rates[name].total else None for name in names)]
        for folder, rates in measures.folders.items()
    )
    return section("folders", "Shares by folder", table("Share of the answers", ["folder", *names], rows))


def _accuracy(measures: Measures, whole: Rate) -> Element:
    worst = measures.slices[:MOST_LINES]
    sure = [each for each in measures.slices if each.q <= FALSE_ALARMS and each.gap.value < 0]
    lines = [(each.name, each.accuracy, each in sure) for each in worst]
    content: list[Content] = [
        paragraph(
            f"Each group of at least {LEAST_PHOTOS} photos against all others. {len(sure)} of {len(measures.slices)} "
            "are answered rightly less often by more than chance, if one false alarm in twenty such findings is "
            "accepted (Fisher's exact test, Benjamini-Hochberg)."
        ),
        figure(
            "Share of right answers, the lowest first; orange diamonds are more than chance. The numbers are photos.",
            interval_plot("groups", "Accuracy by group", lines, whole),
        ),
        folded("Every group", _table("Accuracy by group", measures.slices)),
    ]
    content += list(_pairs(measures))
    if measures.parity:
        rows = (
            [
                each.attribute,
                str(each.groups),
                _estimate(each.equalized_odds_difference),
                _estimate(each.demographic_parity_difference),
            ]
            for each in measures.parity
        )
        content.append(
            folded(
                "How far the groups of each attribute are apart",
                table(
                    "Greatest differences between groups, 0 is none",
                    ["attribute", "groups", "equalized odds difference", "demographic parity difference"],
                    rows,
                ),
            )
        )
    return section("groups", "For whom it is right less often", *content)


def _pairs(measures: Measures) -> Iterator[Content]:
    """Of two attributes at once, the worst that are more than chance."""
    if not measures.intersections:
        return
    sure = [each for each in measures.intersections if each.q <= FALSE_ALARMS and each.gap.value < 0]
    blind = sum(1 for each in measures.intersections if each.detectable > 0.05)
    yield paragraph(
        f"Of {len(measures.intersections):,} pairs of groups {len(sure):,} are answered rightly less often by more "
        f"than chance. No gap found is not no gap: {blind:,} of them have so few photos that a gap of five points "
        "would go unseen in more than one of five such sets."
    )
    if sure:
        yield _table(f"The {min(MOST_PAIRS, len(sure))} lowest of these pairs", sure[:MOST_PAIRS])


def _table(caption: str, rows: Sequence[Slice]) -> Element:
    header = ["group", "right", "less than all others by", "false alarms (q)", "smallest gap that would show"]
    return table(
        caption,
        header,
        (
            [each.name, str(each.accuracy), str(each.gap), f"{each.q:.3f}", f"{100 * each.detectable:.1f} points"]
            for each in rows
        ),
    )


def _estimate(estimate: object) -> str:
    value, low, high = (100 * getattr(estimate, name) for name in ("value", "low", "high"))
    return f"{value:.1f} points [{low:.1f}, {high:.1f}]"
