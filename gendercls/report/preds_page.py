"""The page about a preds.csv: which share of the photos is perceived as what, how sure that is, and for whom not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from gendercls.metrics import Estimate
from gendercls.preds import Predictions
from gendercls.report.charts import Group, histogram, percent, reliability_chart
from gendercls.report.gallery import Galleries
from gendercls.report.groups import groups_section
from gendercls.report.labelled import Labelled
from gendercls.report.markup import Content, element
from gendercls.report.measures import ClassShare, Measures, Quality
from gendercls.report.page import PERCEIVED, columns, facts, figure, page, paragraph, section, table
from gendercls.report.tables import attribute_table, confusion_table, precision_table, rate_words
from gendercls.scores import AttributeScores, ClassScores
from gendercls.shares import Share, looks_unfamiliar
from gendercls.stats import Rate


@dataclass(frozen=True, slots=True)
class PredsPage:
    """A page as HTML; how many photos it holds, and how many of those wanted could not be shown."""

    html: str
    pictures: int
    missing_photos: int


def preds_page(preds: Predictions, labelled: Labelled, measures: Measures, root: bytes | None) -> PredsPage:
    """The page. root: the folder that the photos are below; None for a page without photos."""
    galleries = Galleries(preds, labelled, root)
    sections = [_share_section(measures), _confidence_section(preds, measures)]
    if measures.quality is not None:
        sections.append(_quality_section(preds, measures, measures.quality))
    sections += [*groups_section(measures), *galleries.sections(), _failures_section(measures), _receipt(preds)]
    links = (
        element("li", element("a", heading.text or "", href=f"#{heading.get('id')}"))
        for part in sections
        for heading in part.iter("h2")
    )
    title = f"How {_things(measures)} are perceived: {preds.path.name}"
    embedded = f"{galleries.pictures} photos of people are part of this file: share it only where that is allowed."
    return PredsPage(
        page(
            title,
            element(
                "header",
                element("h1", title),
                paragraph(_subtitle(preds, measures)),
                paragraph(PERCEIVED, style="notice"),
                *([paragraph(embedded, style="notice")] if galleries.pictures else []),
            ),
            element("nav", element("ul", *links), aria_label="Sections"),
            *sections,
        ),
        galleries.pictures,
        galleries.missing,
    )


def _things(measures: Measures) -> str:
    return f"{measures.rows:,} photos" if _noun(measures) == "photos" else f"faces in {measures.photos:,} photos"


def _noun(measures: Measures) -> str:
    """What the rows are of."""
    return "photos" if measures.photos == measures.rows else "faces"


def _subtitle(preds: Predictions, measures: Measures) -> str:
    inputs = ", ".join(preds.record.inputs) if preds.record is not None else "photos that are not recorded"
    left = [
        f"{count:,} {words}"
        for count, words in (
            (measures.uncertain, "uncertain"),
            (measures.without_face, "without a face"),
            (measures.failed, "failed"),
            (measures.not_photos, "files that are no photos"),
        )
        if count
    ]
    return f"{inputs}: {measures.answered:,} answered" + "".join(f", {words}" for words in left)


# --- shares ------------------------------------------------------------------------------------------------------


def _share_section(measures: Measures) -> Element:
    content = [
        paragraph(sentence, style="headline" if n == 0 else None) for n, sentence in enumerate(headline(measures))
    ]
    if measures.unfamiliar is not None and looks_unfamiliar(measures.unfamiliar):
        content.append(
            paragraph(
                f"{percent(measures.unfamiliar.value)} of these photos look unlike those the model was made for. Its "
                "answers may mean little here: classify them with --faces, which looks for the faces first.",
                style="notice",
            )
        )
    header = ["class", "share of the answers"]
    header += ["corrected for counted errors", "corrected by the probabilities"] if _has(measures, "corrected") else []
    header += ["by hand labels"] if _has(measures, "by_hand") else []
    rows = (_share_row(share, len(header)) for share in measures.shares)
    return section("shares", "Shares", *content, table("Shares, with 95 % intervals", header, rows), *_how(measures))


def headline(measures: Measures) -> list[str]:
    """What a person may quote: the share of the last class, whose it is, and what was done to get it."""
    last, noun = measures.shares[-1], _noun(measures)
    if not last.raw.total:
        return ["No photo has an answer."]
    if last.by_hand is not None:
        found = _share_words(last.by_hand)
        rests_on = f"{measures.hand_labels:,} {noun} of this set that a person labelled"
        of = f"these {noun}"
        if measures.undetermined:
            rests_on += f" ({measures.undetermined:,} of them as not determinable)"
            of = f"the {noun} that can be determined"
        return [
            f"An estimated {found} of {of} would be perceived as {last.name}.",
            f"The estimate rests on {rests_on}, and on the classifier's answers. The classifier alone counts "
            f"{_rate_words(last.raw)}.",
        ]
    first = f"The classifier perceives {_rate_words(last.raw)} of {last.raw.total:,} answered {noun} as {last.name}."
    if last.corrected is not None:
        second = (
            f"If it errs here as often as where its errors were counted ({measures.counted_on}), the share is "
            f"{_share_words(last.corrected)}. Whether it does is not known: only hand labels of some of these {noun} "
            "can tell (gendercls sample)."
        )
    else:
        second = f"The share is not corrected for the classifier's errors: {measures.why_not_corrected}."
    return [first, second]


def _rate_words(rate: Rate) -> str:
    return f"{percent(rate.value, 1)} (95 % interval {percent(rate.low, 1)} to {percent(rate.high, 1)})"


def _share_words(share: Share) -> str:
    return f"{percent(share.value, 1)} (95 % interval {percent(share.low, 1)} to {percent(share.high, 1)})"


def _has(measures: Measures, name: str) -> bool:
    return any(getattr(share, name) is not None for share in measures.shares)


def _share_row(share: ClassShare, width: int) -> list[Content | None]:
    cells: list[Content | None] = [share.name, rate_words(share.raw)]
    estimates = [share.corrected, share.shifted] if share.corrected is not None else []
    estimates += [share.by_hand] if share.by_hand is not None else []
    cells += [None if estimate is None else _short(estimate) for estimate in estimates]
    return cells + [None] * (width - len(cells))


def _short(estimate: Share | Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{100 * estimate.value:.2f} % [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def _how(measures: Measures) -> Iterator[Element]:
    yield paragraph(
        "The interval of the answers' share is that of chance alone: it knows nothing of wrong answers, and a "
        "classifier that errs in one photo of twelve is wrong about the share too."
    )
    if _noun(measures) == "faces":
        yield paragraph(
            "Faces count as if each was a photo by itself. Those of one photo are often alike, so that this interval "
            "is too narrow where photos hold many."
        )
    if _has(measures, "corrected"):
        yield paragraph(
            "Corrected for counted errors: the share that fits these answers if each class is mistaken as often as "
            f"where errors were counted, {measures.counted_on}; the interval counts in how many photos those were "
            "(Rogan & Gladen). Corrected by the probabilities: the share at which the probabilities agree with "
            "themselves, if photos of a class look here as there (Saerens). Both fail where these photos are harder, "
            "easier or of other people."
        )
    if _has(measures, "by_hand"):
        undetermined = f" {measures.undetermined:,} could not be determined and are left out." * bool(
            measures.undetermined
        )
        yield paragraph(
            f"By hand labels: {measures.hand_labels:,} {_noun(measures)} drawn from this very set.{undetermined} The "
            "estimate assumes nothing of the classifier; its probabilities only make the interval narrower "
            "(prediction-powered inference)."
        )
        if measures.accuracy_by_hand is not None:
            yield paragraph(f"By the same labels, {_short(measures.accuracy_by_hand)} of the answers are right.")


# --- confidence and quality --------------------------------------------------------------------------------------


def _confidence_section(preds: Predictions, measures: Measures) -> Element:
    values = preds.confidence[preds.has_answer].tolist()
    if not values:
        return section("confidence", "Confidence", paragraph("No photo has an answer."))
    low = 0.0 if preds.independent else min(0.9, math.floor(10 / len(preds.answers.names)) / 10)
    unsure = sum(1 for value in values if value < 0.9)
    words = f"{unsure:,} of {len(values):,} answers have a confidence below 90 %."
    drawing = histogram("confidence-all", "Confidence of the answers", [Group("answers", values, "first")], low, words)
    charts = [figure(f"How sure the answers are. {words}", drawing)]
    quality = measures.quality
    if quality is not None and quality.bins and quality.calibration is not None:
        least = min(0.9, math.floor(10 * min(min(b.confidence, b.accuracy) for b in quality.bins)) / 10)
        error = quality.calibration
        caption = (
            "Of answers with a confidence of 90 %, nine in ten should be right. Calibration error "
            f"{percent(error.value, 2)} [{100 * error.low:.2f}, {100 * error.high:.2f}]; a model without any would "
            f"show up to {percent(error.by_chance, 2)} by chance."
        )
        chart = reliability_chart("reliability-all", "Reliability", quality.bins, "first", max(0.0, least))
        charts.append(figure(caption, chart))
    return section("confidence", "Confidence", columns(*charts))


def _quality_section(preds: Predictions, measures: Measures, quality: Quality) -> Element:
    scores = quality.scores
    tiles = [
        ("Right, of all with a label", _tile(scores.accuracy)),
        ("Right, of those answered", _tile(scores.answered_accuracy)),
        ("Answered, of all with a label", _tile(scores.coverage)),
    ]
    content = [
        paragraph(f"Against {measures.label_source}. Labels are other people's guesses: some of them are wrong."),
        facts(tiles, "tiles"),
    ]
    if quality.label_noise is not None:
        rate, low, high = quality.label_noise
        words = f"If at most {100 * rate:g} % of the labels are wrong, between {percent(low, 1)} and {percent(high, 1)}"
        content.append(paragraph(f"{words} of the answers agree with the truth."))
    if isinstance(scores, ClassScores):
        content.append(confusion_table(preds.answers.names, scores.confusion, ("uncertain", "failed or no face")))
        content.append(precision_table(preds.answers.names, scores.confusion[:, : len(preds.answers.names)]))
        content.append(table("More figures, with 95 % intervals", ["figure", "value"], _more(quality)))
    if isinstance(scores, AttributeScores):
        content.append(attribute_table(scores.attributes))
    return section("quality", "How right the answers are", *content)


def _tile(rate: Rate) -> list[Content]:
    if not rate.total:
        return [element("b", "–"), element("span", "nothing was answered")]
    interval = f"95 % interval {100 * rate.low:.2f} to {100 * rate.high:.2f}"
    return [element("b", percent(rate.value, 2)), element("span", f"{rate.count:,} of {rate.total:,}; {interval}")]


def _more(quality: Quality) -> Iterator[Sequence[Content | None]]:
    if quality.balanced_accuracy is not None:
        yield "balanced accuracy: mean recall of the classes", _short(quality.balanced_accuracy)
    for name, auc in quality.auc.items():
        yield f"AUC of {name}: how often such a photo gets the greater probability", _short(auc)
    if quality.brier is not None:
        brier = quality.brier
        yield "Brier score, 0 is perfect", f"{brier.value:.4f} [{brier.low:.4f}, {brier.high:.4f}]"


# --- failures and receipt ----------------------------------------------------------------------------------------


def _failures_section(measures: Measures) -> Element:
    if not measures.failures:
        return section("failures", "Failures", paragraph("Every photo could be read."))
    rows = ([reason, f"{count:,}"] for reason, count in measures.failures.items())
    return section("failures", "Failures", table("Why photos have no answer", ["reason", "photos"], rows))


def _receipt(preds: Predictions) -> Element:
    record = preds.record
    if record is None:
        words = f"{preds.path.name}.run.json is not beside the CSV, so nothing is known of the run."
        return section("receipt", "Receipt", paragraph(words))
    finished = record.finished
    items = [
        ("model", f"{record.model}, SHA-256 {record.model_sha256}"),
        ("device, precision", f"{record.device}, {record.precision}"),
        ("least confidence", f"{record.threshold:g}" if record.threshold else "none"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("finished", f"{finished['at']}, after {finished['seconds']:,.0f} s" if "at" in finished else "not recorded"),
        ("command", str(finished.get("command") or "not recorded")),
        ("file", f"{preds.path.name}, SHA-256 {preds.sha256}"),
    ]
    return section("receipt", "Receipt", facts(((name, [words]) for name, words in items), "facts record"))
