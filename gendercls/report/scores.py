"""The sections on what a finished run is worth: confusion or attributes, calibration, abstention, mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing
from gendercls.report.charts import Group, histogram, percent, reliability_chart
from gendercls.report.markup import Content, element
from gendercls.report.page import columns, figure, folded, paragraph, section, table
from gendercls.report.predictions import Mistake, Prediction, worst_mistakes
from gendercls.report.result_file import Abstention, Reliability, Result
from gendercls.report.tables import attribute_table, confusion_table, precision_table, rate_words
from gendercls.report.thumbnails import SIDE, thumbnail
from gendercls.report.training_run import TrainingRun
from gendercls.stats import wilson

MOST_MISTAKES = 24


# --- confusion and attributes ------------------------------------------------------------------------------------


def answers_section(run: TrainingRun, result: Result) -> Element:
    """Which labels got which answers on the test part."""
    if result.confusion is None:
        return _attributes_section(run, result)
    tables = confusion_table(result.classes, result.confusion), precision_table(result.classes, result.confusion)
    return section("answers", "Answers on the test part", *tables)


def _attributes_section(run: TrainingRun, result: Result) -> Element:
    return section(
        "answers",
        "Attributes on the test part",
        paragraph(
            "Each attribute is answered by itself, yes from a probability of one half on. Where an attribute is rare, "
            "a model that always says no is right most of the time: compare accuracy with the share labelled yes, and "
            "look at recall."
        ),
        attribute_table(result.attributes, run.opinions),
    )


# --- calibration -------------------------------------------------------------------------------------------------


def calibration_section(result: Result, predictions: Sequence[Prediction] | None) -> Element:
    """Whether an answer of 90 % is right nine times in ten."""
    one_is = "each answer about each attribute" if result.is_independent else "each photo’s answer"
    content = [
        paragraph(
            f"A model that says 90 % should be right nine times in ten. Here {one_is} on the test part counts once, in "
            "bins of equally many answers from the least to the most confident; the calibration error (ECE) is the "
            "mean distance from the diagonal."
        )
    ]
    if result.is_calibrated:
        stages = [("before", "Before calibration", result.before, "second")]
        stages.append(("after", f"After calibration, temperature {result.temperature:.3f}", result.after, "first"))
    else:
        content.append(paragraph("There was no validation part to fit a temperature on, so nothing was calibrated."))
        stages = [("after", "Not calibrated", result.after, "first")]
    low = _lowest(stage for *_, stage, _ in stages)
    content.append(columns(*(_reliability_figure(*stage, low) for stage in stages)))
    bins = [folded(f"The bins: {title.lower()}", _bins_table(title, stage)) for _, title, stage, _ in stages]
    least = 0.0 if result.is_independent else 1 / len(result.classes)
    content.append(columns(*_confidence_figure(predictions or (), least), element("div", *bins)))
    return section("calibration", "Calibration", *content)


def _lowest(stages: Iterator[Reliability]) -> float:
    """Where the axes begin, so that answers that are nearly all sure do not crowd in a corner."""
    least = min(min(each.confidence, each.accuracy) for stage in stages for each in stage.bins)
    return min(0.9, math.floor(least * 10) / 10)


def _reliability_figure(key: str, title: str, stage: Reliability, style: str, low: float) -> Element:
    drawing = reliability_chart(f"reliability-{key}", title, stage.bins, style, low)
    return figure(f"{title}. Calibration error {percent(stage.error, 2)}; bars are 95 % intervals.", drawing)


def _bins_table(title: str, stage: Reliability) -> Element:
    rows = (
        [str(number), f"{each.count:,}", percent(each.confidence, 2), _bin_accuracy(each.accuracy, each.count)]
        for number, each in enumerate(stage.bins, start=1)
    )
    return table(title, ["bin", "answers", "mean confidence", "right"], rows)


def _bin_accuracy(accuracy: float, count: int) -> str | None:
    return rate_words(wilson(round(accuracy * count), count))


def _confidence_figure(predictions: Sequence[Prediction], low: float) -> list[Element]:
    right = [row.confidence for row in predictions if row.is_right]
    wrong = [row.confidence for row in predictions if row.is_right is False]
    if not right and not wrong:
        return []
    groups = [Group("right answers", right, "first"), Group("wrong answers", wrong, "second")]
    sure = sum(1 for value in wrong if value >= 0.9)
    words = f"{sure:,} of {len(wrong):,} wrong answers had a confidence of 90 % or more."
    drawing = histogram("confidence", "Confidence of right and of wrong answers", groups, low, words)
    return [figure("How sure right and wrong answers were. Each row has its own scale.", drawing)]


# --- abstention --------------------------------------------------------------------------------------------------


def abstention_section(result: Result) -> Element:
    """What confidence was promised to keep which error rate, and whether it did."""
    title = "When “uncertain” is allowed"
    if not result.abstention:
        words = "No confidence kept any of the error rates asked for on the validation part."
        if not result.is_calibrated:
            words = "Without a validation part there are no thresholds."
        return section("abstention", title, paragraph(words))
    return section(
        "abstention",
        title,
        paragraph(
            "Below a threshold of confidence the answer is “uncertain”. Each threshold was chosen on the validation "
            "part as the lowest that keeps an error rate; whether it holds is seen on the test part."
        ),
        table(
            "Promised on validation, kept on test",
            ["wrong at most", "confidence", "val answered", "val wrong", "test answered", "test wrong", "promise"],
            map(_abstention_row, result.abstention),
        ),
    )


def _abstention_row(row: Abstention) -> list[Content | None]:
    return [
        f"{100 * row.wanted_error:g} %",
        f"{row.confidence:.4f}",
        percent(row.val_coverage, 1),
        percent(row.val_error, 2),
        percent(row.test_coverage, 1),
        rate_words(row.test),
        _promise(row),
    ]


def _promise(row: Abstention) -> str:
    if not row.test.total:
        return "nothing answered"
    if row.test.value <= row.wanted_error:
        return "kept"
    return "missed, within the interval" if row.test.low <= row.wanted_error else "broken"


# --- mistakes ----------------------------------------------------------------------------------------------------


def mistakes_section(run: TrainingRun, result: Result, folder: Path | None) -> tuple[Element, int, int]:
    """The surest wrong answers, how many of them are shown as pictures, and how many could not be.

    folder: of the photos; None for no pictures.
    """
    title = "Worst mistakes on the test part"
    if run.predictions is None:
        return section("mistakes", title, paragraph("predictions.csv is not there, so they are not known.")), 0, 0
    every = worst_mistakes(run.predictions, result.answers, is_independent=result.is_independent)
    shown = every[:MOST_MISTAKES]
    if not shown:
        return section("mistakes", title, paragraph("No answer on the test part is known to be wrong.")), 0, 0
    words = paragraph(f"{_count_words(len(shown), len(every))} A sure and wrong answer may point at a wrong label.")
    if folder is None:
        return section("mistakes", title, words, element("ol", *map(_mistake, shown), class_="names")), 0, 0
    preprocessing = replace(run.preprocessing, height=SIDE, width=SIDE)
    pictures = [_picture(folder, mistake, preprocessing) for mistake in shown]
    missing = sum(1 for picture in pictures if picture.tag != "img")
    items = (_mistake(mistake, picture) for mistake, picture in zip(shown, pictures, strict=True))
    licence = run.record.get("data_licence", "not stated")
    content = [
        words,
        paragraph(
            f"These are photos of people. Licence of the data: {licence}. Share this page only where that and the law "
            "allow it."
        ),
    ]
    if missing:
        lost = f"{missing} of these {len(shown)} photos could not be shown; they were looked for in {folder}."
        content.append(paragraph(lost, " Name their folder with --photos.", style="notice"))
    whole = section("mistakes", title, *content, element("ol", *items, class_="mistakes"))
    return whole, len(pictures) - missing, missing


def _count_words(shown: int, every: int) -> str:
    if every == 1:
        return "One photo was answered wrongly."
    if shown == every:
        return f"All {every:,} photos that were answered wrongly, the surest first."
    return f"The {shown} surest of {every:,} photos that were answered wrongly."


def _picture(folder: Path, mistake: Mistake, preprocessing: Preprocessing) -> Element:
    try:
        address = thumbnail(folder, mistake.path, preprocessing)
    except PhotoError as error:
        return element("div", f"no picture: {error.what}", class_="no-picture")
    return element("img", src=address, alt=f"Photo {mistake.path}", width=SIDE, height=SIDE)


def _mistake(mistake: Mistake, *picture: Element) -> Element:
    lines = [
        element("span", "labelled ", element("b", mistake.labelled)),
        element("span", "answered ", element("b", mistake.answered)),
        element("span", f"{100 * mistake.sureness:.2f} % sure"),
    ]
    if mistake.about:
        lines.insert(0, element("b", mistake.about))
    if mistake.others:
        lines.append(element("span", f"and {mistake.others} more wrong"))
    return element("li", *picture, *lines, element("span", mistake.path, class_="path"))
