"""The page about a training run: what it gave, how it went, what it was made from."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from gendercls.report.charts import Series, epoch_chart, percent
from gendercls.report.markup import Content, element
from gendercls.report.page import PERCEIVED, columns, facts, figure, folded, page, paragraph, section, table
from gendercls.report.result_file import Epoch, Result
from gendercls.report.scores import abstention_section, answers_section, calibration_section, mistakes_section
from gendercls.report.training_run import PARTS, TrainingRun
from gendercls.stats import Rate

_SPLITS = {
    "identity": "no person is on both sides: all photos of a person are in one part, so the test part holds people the "
    "model has never seen",
    "official": "the parts that the data came with",
    "stratified": "photos drawn at random within each class. The same person may be in the train and the test part, "
    "which flatters the figures",
}


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """A page as HTML; how many photos it holds, and how many of those wanted could not be shown."""

    html: str
    pictures: int
    missing_photos: int


def training_page(run: TrainingRun, photos: Path | None) -> TrainingPage:
    """The page about a run, finished or not. photos: the folder of those in predictions.csv; None to show none."""
    result, pictures, missing = run.result, 0, 0
    sections = [_result_section(run, result) if result else _unfinished_section(run), _epochs_section(run)]
    if result is not None:
        mistakes, pictures, missing = mistakes_section(run, result, photos)
        sections += [answers_section(run, result), calibration_section(result, run.predictions)]
        sections += [abstention_section(result), mistakes]
    sections += [_photos_section(run), _recipe_section(run), _record_section(run)]
    links = (element("li", element("a", heading.text or "", href=f"#{heading.get('id')}")) for heading in _h2(sections))
    title = f"Training run “{run.name}”"
    return TrainingPage(
        page(
            title,
            element("header", element("h1", title), paragraph(_subtitle(run)), paragraph(PERCEIVED, style="notice")),
            element("nav", element("ul", *links), aria_label="Sections"),
            *sections,
        ),
        pictures,
        missing,
    )


def _h2(sections: list[Element]) -> Iterator[Element]:
    return (heading for part in sections for heading in part.iter("h2"))


def _subtitle(run: TrainingRun) -> str:
    classes = (
        f"{len(run.classes)} independent attributes"
        if run.result and run.result.is_independent
        else "; ".join(f"{rule.name} = {rule.rule}" for rule in run.classes)
    )
    return f"{run.record.get('data', 'unnamed data')}, recipe {run.record['recipe_name']}, {classes}"


# --- the result --------------------------------------------------------------------------------------------------


def _result_section(run: TrainingRun, result: Result) -> Element:
    what = "Test photos with every attribute right" if result.is_independent else "Test accuracy"
    tiles = [(what, _accuracy_tile(result.test))]
    if known := [score.accuracy.value for score in result.attributes if score.total]:
        tiles.append(("Accuracy of an attribute", _big(percent(statistics.fmean(known), 2), f"mean of {len(known)}")))
    tiles += [
        ("Log-loss on test", _big(f"{result.test_loss:.4f}", "lower is better")),
        ("Calibration error on test", _big(percent(result.after.error, 2), _before(result))),
        ("Epoch kept", _big(f"{result.best.number}", f"of {len(run.epochs)}" if run.epochs else "")),
        ("Photos", _big(f"{sum(_photos(run).values()):,}", _photos_words(run))),
    ]
    content = [facts(tiles, "tiles"), paragraph(_why_kept(run, result)), paragraph(_split_words(run))]
    if run.opinions:
        content.append(paragraph(_opinion_words(run), style="notice"))
    return section("result", "Result", *content)


def _big(figure: str, below: str) -> list[Content]:
    return [element("b", figure), element("span", below)]


def _accuracy_tile(rate: Rate) -> list[Content]:
    if not rate.total:
        return _big("–", "no test photo has all its labels")
    interval = f"95 % interval {100 * rate.low:.2f} to {100 * rate.high:.2f}"
    return _big(percent(rate.value, 2), f"{rate.count:,} of {rate.total:,}; {interval}")


def _before(result: Result) -> str:
    return f"{percent(result.before.error, 2)} before calibration" if result.is_calibrated else "not calibrated"


def _photos(run: TrainingRun) -> dict[str, int]:
    """How many there are in each part: by the split itself or, where that is gone, by the record."""
    if run.split is None:
        counts = {part: run.record.get(f"photos.{part}") for part in PARTS}
        return {part: count for part, count in counts.items() if isinstance(count, int)}
    return {part: sum(count for (of, _), count in run.split.items() if of == part) for part in PARTS}


def _photos_words(run: TrainingRun) -> str:
    return ", ".join(f"{count:,} {part}" for part, count in _photos(run).items())


def _why_kept(run: TrainingRun, result: Result) -> str:
    number = result.best.number
    if result.is_best_on_validation:
        loss = "" if result.best.val_loss is None else f", {result.best.val_loss:.4f}"
        why = f"Epoch {number} was kept because it had the lowest loss on the validation part{loss}."
    else:
        validated = any(epoch.val_loss is not None for epoch in run.epochs)
        reason = "as the recipe asks" if validated else "since there is no validation part to choose by"
        why = f"Epoch {number}, the last one, was kept, {reason}."
    return f"{why} The test part was scored once, at the end, with these weights; nothing was chosen by it."


def _split_words(run: TrainingRun) -> str:
    name = str(run.record.get("split", "not stated"))
    meaning = f": {_SPLITS[name]}" if name in _SPLITS else ""
    licence = run.record.get("data_licence", "not stated")
    return f"The split is {name}{meaning}. Licence of the data: {licence}."


def _opinion_words(run: TrainingRun) -> str:
    names = ", ".join(sorted(run.opinions))
    return f"Some labels are a labeller’s opinion rather than something that a second one would see too: {names}."


def _unfinished_section(run: TrainingRun) -> Element:
    """Without result.json there is nothing to be said of the test part."""
    planned = run.recipe.get("epochs")
    of = f" of {planned}" if isinstance(planned, int) else ""
    words = f"This run is not finished: it has no result.json yet. {len(run.epochs)}{of} epochs have ended."
    best = run.best
    sofar = (
        "" if best is None else f" The lowest validation loss so far is {best.val_loss:.4f}, in epoch {best.number}."
    )
    promise = "The test part is scored once, when training has ended. To continue: "
    command = element("code", f"gendercls train … --out {run.folder} --resume")
    return section(
        "result",
        "Not finished",
        paragraph(words + sofar, style="notice"),
        paragraph(promise, command),
        paragraph(_split_words(run)),
    )


# --- how it went -------------------------------------------------------------------------------------------------


def _epochs_section(run: TrainingRun) -> Element:
    if not run.epochs:
        return section("epochs", "Epochs", paragraph("No epoch has ended yet: there is no metrics.jsonl."))
    best = run.best
    kept = best.number if best else None
    words = f"kept: epoch {kept}" if run.result else f"best so far: epoch {kept}"
    train = Series("train", "first", tuple((epoch.number, epoch.train_loss) for epoch in run.epochs))
    losses, accuracies = _validated(run, "val_loss"), _validated(run, "val_accuracy")
    series = [train, *([Series("validation", "second", losses)] if losses else [])]
    charts = [
        figure(
            "Mean loss of a photo. The train loss has the recipe’s augmentation and label smoothing in it, so the two "
            "compare only roughly.",
            epoch_chart("loss", "Loss per epoch", series, from_zero=True, in_words=_loss, kept=kept, kept_words=words),
        )
    ]
    if accuracies:
        line = [Series("validation", "second", accuracies)]
        whole = ", every attribute of a photo right" if run.result and run.result.is_independent else ""
        charts.append(
            figure(
                f"Accuracy on the validation part{whole}. The axis does not begin at zero.",
                epoch_chart(
                    "accuracy",
                    "Validation accuracy per epoch",
                    line,
                    from_zero=False,
                    in_words=lambda share: f"{100 * share:g} %",
                    kept=kept,
                    kept_words=words,
                ),
            )
        )
    absent = [] if losses else [paragraph("There is no validation part, so only the train loss is known.")]
    return section("epochs", "Epochs", *absent, columns(*charts), folded("Every epoch", _epochs_table(run.epochs)))


def _validated(run: TrainingRun, name: str) -> tuple[tuple[float, float], ...]:
    values = ((epoch.number, getattr(epoch, name)) for epoch in run.epochs)
    return tuple((number, value) for number, value in values if value is not None)


def _loss(value: float) -> str:
    return f"{value:.4g}"


def _epochs_table(epochs: tuple[Epoch, ...]) -> Element:
    return table(
        "Every epoch",
        ["epoch", "train loss", "val loss", "val accuracy", "learning rate", "photos/s", "seconds"],
        map(_epoch_row, epochs),
    )


def _epoch_row(epoch: Epoch) -> list[Content | None]:
    return [
        str(epoch.number),
        f"{epoch.train_loss:.4f}",
        None if epoch.val_loss is None else f"{epoch.val_loss:.4f}",
        None if epoch.val_accuracy is None else percent(epoch.val_accuracy, 2),
        None if epoch.learning_rate is None else f"{epoch.learning_rate:.3g}",
        f"{epoch.photos_per_second:.1f}",
        f"{epoch.seconds:,.0f}",
    ]


# --- what it was made from ---------------------------------------------------------------------------------------


def _photos_section(run: TrainingRun) -> Element:
    split, totals = run.split or {}, _photos(run)
    names = [rule.name for rule in run.classes if any((part, rule.name) in split for part in PARTS)]
    rows = (
        [part, f"{total:,}", *(_part_of(split.get((part, n), 0), total) for n in names)]
        for part, total in totals.items()
    )
    missing = [paragraph("split.csv is not there, so only the totals are known.")] if run.split is None else []
    return section("photos", "Photos", *missing, table("Photos per part", ["part", "photos", *names], rows))


def _part_of(count: int, total: int) -> str:
    return f"{count:,} ({percent(count / total, 1)})" if total else "0"


def _recipe_section(run: TrainingRun) -> Element:
    name = str(run.record["recipe_name"])
    changed = [key for key in run.recipe if run.shipped is not None and run.shipped.get(key) != run.recipe[key]]
    if run.shipped is None:
        words = f"The recipe {name} is not among the shipped ones, so nothing is marked."
    elif changed:
        words = f"Marked: what differs from the shipped recipe {name} ({len(changed)} of {len(run.recipe)} keys)."
    else:
        words = f"All {len(run.recipe)} keys are those of the shipped recipe {name}."
    items = ((key, _recipe_value(value, run.shipped, key in changed, key)) for key, value in run.recipe.items())
    return section("recipe", "Recipe", paragraph(words), facts(items, "facts"))


def _recipe_value(value: object, shipped: Mapping[str, Any] | None, is_changed: bool, key: str) -> list[Content]:
    if shipped is None or not is_changed:
        return [_plain(value)]
    was = f"shipped: {_plain(shipped[key])}" if key in shipped else "not in the shipped recipe"
    return [element("mark", _plain(value)), " ", element("small", was)]


def _record_section(run: TrainingRun) -> Element:
    items = ((key.replace("_", " "), [_plain(value)]) for key, value in run.record.items())
    return section("record", "Record", facts(items, "facts record"))


def _plain(value: object) -> str:
    """A value of a TOML file, for people."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
