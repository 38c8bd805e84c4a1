"""Folders as ``gendercls train`` leaves them, about real photos, with probabilities drawn at random."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import pytest
import tomli_w
from numpy.typing import NDArray

from gendercls import stats
from gendercls.answers import Answers, answers_for, attribute_scores, rounded
from gendercls.labels import Labels, read_labels
from gendercls.labels.splits import make_split
from gendercls.report.training_run import shipped_recipe

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def celeba_labels(celeba: Path) -> Labels:
    return read_labels(celeba)


@pytest.fixture
def make_run(celeba_labels: Labels, tmp_path: Path) -> MakeRun:
    """``make_run(name="run", photos=1000, independent=False, val_fraction=0.2)``: a finished run of 3 epochs."""

    def make(name: str = "run", **options: Any) -> Path:
        return write_run(tmp_path / name, celeba_labels, **options)

    return make


def write_run(
    folder: Path, labels: Labels, *, photos: int = 1000, independent: bool = False, val_fraction: float = 0.2
) -> Path:
    """A finished run on the first photos of those labels. Its answers are drawn: right ones mostly, and too sure."""
    rules = labels.attribute_rules() if independent else labels.default_classes()
    targets = labels.assign_each(rules) if independent else _one_hot(labels.assign(rules), len(rules))
    assigned = np.where(np.arange(len(labels)) < photos, 0, -1)
    parts = make_split(labels, assigned, "identity", val_fraction=val_fraction, test_fraction=0.2, seed=1)
    names = [rule.name for rule in rules]
    answers = answers_for(independent, names)
    logits = np.random.default_rng(1).normal(4.0 if independent else 3.0, 2.5, targets.shape) * (2 * targets - 1)
    folder.mkdir()
    _write_recipe(folder, labels, [f"{rule.name}={rule.rule}" for rule in rules], parts, val_fraction)
    _write_split(folder, labels, names, targets, parts, independent)
    epochs = [_epoch(number, validated=val_fraction > 0) for number in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    temperature = _fit(answers, logits[parts == "val"], targets[parts == "val"]) if val_fraction else 1.0
    probabilities = answers.probabilities(logits, temperature)
    _write_predictions(folder, labels, answers, probabilities, targets, parts)
    result = _result(answers, logits, temperature, targets, parts)
    result |= {"independent": independent, "best": epochs[1] if val_fraction else epochs[2]}
    result |= {"kept": "best on validation" if val_fraction else "last epoch"}
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return folder


def _one_hot(assigned: NDArray[np.intp], classes: int) -> NDArray[np.int8]:
    return (assigned[:, None] == np.arange(classes)).astype(np.int8)


def _fit(answers: Answers, logits: NDArray[np.float64], targets: NDArray[np.int8]) -> float:
    return stats.fit_temperature(
        lambda t: stats.log_loss(answers.probability_of_truth(answers.probabilities(logits, t), targets))
    )


def _write_recipe(
    folder: Path, labels: Labels, classes: list[str], parts: NDArray[np.str_], val_fraction: float
) -> None:
    shipped = shipped_recipe("default")
    assert shipped is not None
    record = {
        "recipe_name": "default",
        "seed": 7,
        "data": labels.source,
        "data_licence": labels.licence,
        "photos_folder": str(labels.root),
        "split": "identity",
        "classes": classes,
        "init": {"name": "weights.pt", "sha256": "ab" * 32, "not_loaded": ["head.weight", "head.bias"]},
        "versions": {"gendercls": "0.2.0", "torch": "2.14.1"},
        "photos": {part: int((parts == part).sum()) for part in ("train", "val", "test")},
        "data_digest": "cd" * 32,
    }
    recipe = {**shipped, "epochs": 3, "val_fraction": val_fraction}
    (folder / "recipe.toml").write_text(tomli_w.dumps({"recipe": recipe, "run": record}))


def _write_split(
    folder: Path,
    labels: Labels,
    names: list[str],
    targets: NDArray[np.int8],
    parts: NDArray[np.str_],
    independent: bool,
) -> None:
    with (folder / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", *(names if independent else ["class"])])
        for number in np.flatnonzero(parts != ""):
            row = targets[number].tolist() if independent else [names[int(targets[number].argmax())]]
            writer.writerow([labels.keys[number], parts[number], *row])


def _epoch(number: int, *, validated: bool) -> dict[str, Any]:
    val_loss = 0.1 + (number - 2) ** 2 / 20  # the second epoch is the best
    return {
        "epoch": number,
        "train_loss": 0.5 / number,
        "train_loss_sum": 50 / number,
        "val_loss": val_loss if validated else None,
        "val_accuracy": 0.98 - val_loss / 4 if validated else None,
        "learning_rate": 0.0003 / number,
        "photos_per_second": 51.25,
        "seconds": 120.5,
    }


def _write_predictions(
    folder: Path,
    labels: Labels,
    answers: Answers,
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int8],
    parts: NDArray[np.str_],
) -> None:
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        shares = [f"p_{name}" for name in answers.names]
        writer.writerow(["path", "split", "label", "confidence", *shares, "truth", "correct"])
        columns = (answers.labels(probabilities), answers.confidence(probabilities), rounded(probabilities))
        said = (answers.truth(targets), answers.correct(probabilities, targets))
        for key, part, label, confidence, row, truth, right in zip(labels.keys, parts, *columns, *said, strict=True):
            if part in ("val", "test"):
                numbers = (f"{value:.6f}" for value in (confidence, *row))
                writer.writerow([key, part, label, *numbers, truth, int(right)])


def _result(
    answers: Answers,
    logits: NDArray[np.float64],
    temperature: float,
    targets: NDArray[np.int8],
    parts: NDArray[np.str_],
) -> dict[str, Any]:
    val, test = parts == "val", parts == "test"
    plain, calibrated = answers.probabilities(logits[test]), answers.probabilities(logits, temperature)
    confidence, right = answers.confidence(calibrated), answers.correct(calibrated, targets)
    confusion = answers.confusion(calibrated[test], targets[test])
    thresholds = stats.threshold_table(confidence[val], right[val]) if val.any() else []
    abstention = []
    for row in thresholds:
        answered = test & (confidence >= row.confidence)
        wrong = stats.wilson(int((~right[answered]).sum()), int(answered.sum()))
        promised = {"wanted_error": row.wanted_error, "confidence": row.confidence}
        promised |= {"val_coverage": row.coverage, "val_error": row.error}
        abstention.append(promised | {"test_coverage": answered.sum() / test.sum(), "test": asdict(wrong)})
    scores = attribute_scores(answers.names, confusion) if confusion.ndim == 3 else None
    return {
        "format": [1, 0],
        "classes": list(answers.names),
        "temperature": temperature,
        "calibrated_on": "val" if val.any() else None,
        "test": asdict(stats.wilson(int(right[test].sum()), int(test.sum()))),
        "test_loss": stats.log_loss(answers.probability_of_truth(calibrated[test], targets[test])),
        "confusion": None if scores else confusion.tolist(),
        "attributes": [score.to_dict() for score in scores] if scores else None,
        "calibration": {
            "bins": 15,
            "before": _reliability(answers, plain, targets[test]),
            "after": _reliability(answers, calibrated[test], targets[test]),
        },
        "abstention": abstention,
    }


def _reliability(answers: Answers, probabilities: NDArray[np.float64], targets: NDArray[np.int8]) -> dict[str, Any]:
    bins = stats.reliability(*answers.decisions(probabilities, targets))
    return {"error": stats.calibration_error(bins), "reliability": [asdict(each) for each in bins]}


# --- pages -------------------------------------------------------------------------------------------------------

_VOID = {"meta", "img", "br", "hr", "input", "link"}


class PageParser(HTMLParser):
    """Builds a tree and refuses what a browser would have to guess: an end tag that closes something else."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("document")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is given twice"
        made = SubElement(self.open[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in _VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1]
        if len(inside):
            inside[-1].tail = (inside[-1].tail or "") + data
        else:
            inside.text = (inside.text or "") + data


class Page:
    """A page as a person or a program reads it."""

    def __init__(self, html: str) -> None:
        parser = PageParser()
        parser.feed(html)
        parser.close()
        assert [element.tag for element in parser.open] == ["document"], "an element is not closed"
        self.html, self.tree = html, parser.open[0]

    def section(self, key: str) -> Element:
        (found,) = (part for part in self.tree.iter("section") if part.get("aria-labelledby") == key)
        return found

    def text(self, key: str) -> str:
        """A section's words, blanks made one."""
        return words(self.section(key))

    def rows(self, key: str, number: int = 0) -> list[list[str]]:
        """The cells of a section's table, its heading first."""
        table = list(self.section(key).iter("table"))[number]
        return [[words(cell) for cell in row] for row in table.iter("tr")]

    def facts(self, key: str) -> dict[str, str]:
        """Names and what is said of them."""
        items = self.section(key).iter("dt"), self.section(key).iter("dd")
        return {words(name): words(said) for name, said in zip(*items, strict=True)}


def words(element: Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], Page]:
    """``read_page(file)``: a page that was written, parsed."""
    return lambda path: Page(path.read_text(encoding="utf-8"))
