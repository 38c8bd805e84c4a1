"""Measure the shipped model, in each precision that ships, and write the tables of its card.

    python benchmarks/card.py FAIRFACE CELEBA --face-model FILE --out FOLDER

FAIRFACE and CELEBA are folders with photos and labels as published. `gendercls classify` writes a CSV for each of them
and each precision to FOLDER, where it is not there yet, and everything between the two marks in export/MODEL_CARD.md is
replaced by what they say.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from gendercls.labels import read_labels
from gendercls.labels.match import LabelIndex
from gendercls.labels.table import Labels
from gendercls.modelfile import ModelFile, Precision, read_model_file, shipped_models
from gendercls.stats import Rate, calibration_error, paired_difference, reliability, wilson

CARD = Path(__file__).parent.parent / "export" / "MODEL_CARD.md"
BEGIN, END = "<!-- tables: begin (benchmarks/card.py) -->", "<!-- tables: end -->"
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
CHILDREN = AGES[:3]
CLASSES = ("female", "male")
SLICES = ("Eyeglasses", "Wearing_Hat", "Bangs", "Bald", "Blurry", "Pale_Skin", "Wearing_Lipstick", "Young", "No_Beard")
PROMISES = (0.01, 0.02, 0.05)
TEST = "FairFace val, the half on which nothing was chosen"


@dataclass(frozen=True)
class Scored:
    """A photo with truth: what each precision answered, and the groups that it belongs to."""

    truth: str
    confidence: float
    is_right: bool
    is_right_int8: bool | None  # None where int8 does not ship
    split: str = ""
    race: str = ""
    age: str = ""
    luma: float = 0.0
    flags: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fairface", type=Path)
    parser.add_argument("celeba", type=Path)
    parser.add_argument("--face-model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    models = {precision: read_model_file(path) for precision, path in sorted(shipped_models().items())}

    def classified(name: str, photos: Path, labels: Path, *more: str) -> list[list[dict[str, str]]]:
        return [
            classify(
                options.out / f"{name}.{precision}.csv",
                model,
                photos,
                *("--labels", str(labels), "--precision", precision, *more),
            )
            for precision, model in models.items()
        ]

    fairface_photos, fairface_labels = options.fairface / "val", options.fairface / "fairface_label_val.csv"
    fairface = classified("fairface", fairface_photos, fairface_labels)
    frames = classified("celeba", options.celeba, options.celeba)
    with_faces = ("--faces", "--face-model", str(options.face_model), "--max-faces", "1")
    faces = classified("celeba.faces", options.celeba, options.celeba, *with_faces)
    found = wilson(sum(row["face"] == "1" for row in faces[0]), sum(row["face"] != "" for row in faces[0]))
    text = "\n".join(
        tables(
            models,
            fairface_groups(joined(*fairface), fairface_photos, read_labels(fairface_labels)),
            celeba_groups(joined(*frames), read_labels(options.celeba)),
            list(joined(*([row for row in rows if row["face"] == "1"] for rows in faces)).values()),
            found,
        )
    )
    card = CARD.read_text(encoding="utf-8")
    filled, count = re.subn(f"(?s){re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", card)
    assert count == 1, f"{CARD} has not the marks between which the tables stand"
    CARD.write_text(filled, encoding="utf-8")
    print(text)


def classify(out: Path, model: ModelFile, photos: Path, *options: str) -> list[dict[str, str]]:
    """The rows of the CSV, which is made where it is missing; one that another model made ends it."""
    if not out.exists():
        command = [sys.executable, "-m", "gendercls", "classify", str(photos), "--out", str(out), "--device", "cpu"]
        print(" ".join(command + list(options)), file=sys.stderr)
        subprocess.run([*command, *options], check=True)
    record = json.loads(out.with_name(out.name + ".run.json").read_text(encoding="utf-8"))
    if record["model"]["sha256"] != model.sha256:
        sys.exit(f"{out} was made by {record['model']['file']}, not by {model.path.name}: name another --out")
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def joined(fp32: Sequence[dict[str, str]], *int8: Sequence[dict[str, str]]) -> dict[str, Scored]:
    """By path, the photos with a truth."""
    right_int8 = {row["path"]: row["correct"] == "1" for rows in int8 for row in rows}
    return {
        row["path"]: Scored(
            row["truth"], float(row["confidence"] or 0), row["correct"] == "1", right_int8.get(row["path"])
        )
        for row in fp32
        if row["correct"]
    }


def fairface_groups(scored: dict[str, Scored], folder: Path, labels: Labels) -> list[Scored]:
    index = LabelIndex(labels.keys)
    assert labels.split is not None
    grouped = []
    for path, photo in scored.items():
        match, number = index.find(f"val/{path}")
        assert match == "path", path
        race, age = str(labels.columns["race"][number]), str(labels.columns["age"][number])
        with Image.open(folder / path) as image:
            luma = ImageStat.Stat(image.convert("L")).mean[0]
        grouped.append(replace(photo, split=str(labels.split[number]), race=race, age=age, luma=luma))
    return grouped


def celeba_groups(scored: dict[str, Scored], labels: Labels) -> list[Scored]:
    numbers = {Path(key).name: number for number, key in enumerate(labels.keys)}
    return [
        replace(photo, flags={name: int(labels.flags[name][numbers[Path(path).name]]) for name in SLICES})
        for path, photo in scored.items()
    ]


def tables(
    models: dict[Precision, ModelFile],
    fairface: list[Scored],
    celeba: list[Scored],
    faces: list[Scored],
    found: Rate,
) -> Iterator[str]:
    model = models["fp32"]
    test = [photo for photo in fairface if photo.split == "test"]
    adults = [photo for photo in test if photo.age not in CHILDREN]
    sets = (
        (TEST, test),
        ("… adults of these (20 and older)", adults),
        ("FairFace val, all of it (the other half chose the epoch and the temperature)", fairface),
        ("CelebA, whole frames, never trained on", celeba),
        (f"… with `--faces --max-faces 1`; a face was found in {found}", faces),
    )
    yield f"Model {model.spec.name}, {model.path.name}, SHA-256 `{model.sha256}`. Intervals are 95 % Wilson.\n"
    yield "| photos | right | accuracy | 95 % interval |"
    yield "| --- | ---: | ---: | ---: |"
    yield from (overall(name, photos) for name, photos in sets)
    yield from calibration(model, (sets[0], sets[2], ("CelebA, whole frames", celeba)))
    yield from by_group("race (FairFace's words)", "race", sorted({photo.race for photo in fairface}), test, fairface)
    yield from by_group("age (FairFace's words)", "age", AGES, test, fairface)
    yield from by_group("label", "truth", CLASSES, test, fairface)
    yield from by_race_and_label(fairface)
    yield from by_race_age_and_label(fairface)
    yield from by_light(fairface)
    yield from by_attribute(celeba)
    if "int8" in models:
        yield from in_8_bits(models["int8"], sets, fairface)


def calibration(model: ModelFile, sets: Sequence[tuple[str, list[Scored]]]) -> Iterator[str]:
    promises = [row for row in model.spec.thresholds if row.wanted_error in PROMISES]
    heads = (f"wrong with `--max-error {row.wanted_error:g}`, of the answered" for row in promises)
    error = "calibration error (15 bins) | by chance alone, 95 %"
    yield f"\n| photos | accuracy | mean confidence | {error} | {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * (4 + len(promises))}"
    for name, photos in sets:
        confidence = np.array([photo.confidence for photo in photos])
        right = np.array([photo.is_right for photo in photos])
        cells = [f"{100 * right.mean():.2f} %", f"{100 * confidence.mean():.2f} %"]
        cells.append(f"{calibration_error(reliability(confidence, right)):.4f}")
        cells.append("{:.4f}–{:.4f}".format(*error_by_chance(confidence)))
        for row in promises:
            answered = confidence >= row.confidence
            wrong = wilson(int((~right[answered]).sum()), int(answered.sum()))
            cells.append(f"{percent(wrong, 2)} of {100 * answered.mean():.1f} %")
        yield f"| {name} | {' | '.join(cells)} |"


def error_by_chance(confidence: NDArray[np.floating]) -> tuple[float, float]:
    """Where 95 % of calibration errors would lie if each answer were right as often as it is sure."""
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence)) < confidence for _ in range(2_000))
    low, high = np.quantile([calibration_error(reliability(confidence, right)) for right in draws], [0.025, 0.975])
    return float(low), float(high)


def overall(name: str, photos: Sequence[Scored]) -> str:
    rate = accuracy(photos)
    interval = f"{100 * rate.low:.2f}–{100 * rate.high:.2f}"
    return f"| {name} | {rate.count:,} of {rate.total:,} | {100 * rate.value:.2f} % | {interval} |"


def by_group(
    title: str, key: str, names: Sequence[str], test: Sequence[Scored], every: Sequence[Scored]
) -> Iterator[str]:
    yield f"\n| {title} | that half | 95 % interval | all | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in names:
        of_test, of_all = ([photo for photo in photos if getattr(photo, key) == name] for photos in (test, every))
        yield f"| {name.replace('_', ' ')} | {cell(of_test)} | {cell(of_all)} |"


def by_race_and_label(photos: Sequence[Scored]) -> Iterator[str]:
    heads = (f"{label} | 95 % interval" for label in CLASSES)
    yield f"\n| race and label (all) | {' | '.join(heads)} |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for race in sorted({photo.race for photo in photos}):
        groups = ([p for p in photos if (p.race, p.truth) == (race, label)] for label in CLASSES)
        yield f"| {race.replace('_', ' ')} | {' | '.join(cell(group) for group in groups)} |"


def in_8_bits(
    model: ModelFile, sets: Sequence[tuple[str, Sequence[Scored]]], fairface: Sequence[Scored]
) -> Iterator[str]:
    yield f"\nIn 8 bits, {model.path.name}, SHA-256 `{model.sha256}`. Points of accuracy lost against floats"
    yield "on the same photos, with Agresti and Min's 95 % interval:\n"
    yield "| photos | accuracy in 8 bits | points lost | 95 % interval |"
    yield "| --- | ---: | ---: | ---: |"
    groups = [
        (f"… {race.replace('_', ' ')}, {label}", [p for p in fairface if (p.race, p.truth) == (race, label)])
        for race in sorted({photo.race for photo in fairface})
        for label in CLASSES
    ]
    for name, photos in (*sets, ("FairFace val, all of it, by race and label:", fairface), *groups):
        only_fp32 = sum(photo.is_right and not photo.is_right_int8 for photo in photos)
        only_int8 = sum(bool(photo.is_right_int8) and not photo.is_right for photo in photos)
        lost = paired_difference(only_fp32, only_int8, len(photos))
        right = wilson(sum(bool(photo.is_right_int8) for photo in photos), len(photos))
        cells = f"{100 * right.value:.2f} % | {100 * lost.value:+.2f} | {100 * lost.low:+.2f} to {100 * lost.high:+.2f}"
        yield f"| {name} | {cells} |"


def by_race_age_and_label(photos: Sequence[Scored]) -> Iterator[str]:
    yield "\nBy race, age and label, of all of FairFace val: how many are right, and the 95 % interval in percent.\n"
    yield f"| race and label | {' | '.join(AGES)} |"
    yield f"| --- |{' ---: |' * len(AGES)}"
    for race in sorted({photo.race for photo in photos}):
        for label in CLASSES:
            groups = ([p for p in photos if (p.race, p.truth, p.age) == (race, label, age)] for age in AGES)
            yield f"| {race.replace('_', ' ')}, {label} | {' | '.join(counts(group) for group in groups)} |"


def by_light(photos: Sequence[Scored]) -> Iterator[str]:
    yield "\n| mean brightness of the photo, 0–255 (all of FairFace val) | accuracy | 95 % interval |"
    yield "| --- | ---: | ---: |"
    ordered = sorted(photos, key=lambda photo: photo.luma)
    tenth = len(ordered) // 10
    for name, group in (
        ("darkest tenth", ordered[:tenth]),
        ("in between", ordered[tenth:-tenth]),
        ("brightest tenth", ordered[-tenth:]),
    ):
        yield f"| {name}: {group[0].luma:.0f} to {group[-1].luma:.0f} | {cell(group)} |"


def by_attribute(photos: Sequence[Scored]) -> Iterator[str]:
    yield "\n| CelebA's attribute | with it: accuracy | 95 % interval | without it | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in SLICES:
        groups = ([photo for photo in photos if photo.flags[name] == value] for value in (1, 0))
        yield f"| {name.replace('_', ' ')} | {' | '.join(cell(group) for group in groups)} |"


def accuracy(photos: Sequence[Scored]) -> Rate:
    return wilson(sum(photo.is_right for photo in photos), len(photos))


def cell(photos: Sequence[Scored]) -> str:
    rate = accuracy(photos)
    if not rate.total:
        return "– | –"
    return f"{100 * rate.value:.1f} % of {rate.total:,} | {100 * rate.low:.1f}–{100 * rate.high:.1f}"


def counts(photos: Sequence[Scored]) -> str:
    rate = accuracy(photos)
    return f"{rate.count} of {rate.total}, {100 * rate.low:.0f}–{100 * rate.high:.0f}" if rate.total else "–"


def percent(rate: Rate, digits: int) -> str:
    value, low, high = (f"{100 * part:.{digits}f}" for part in (rate.value, rate.low, rate.high))
    return f"{value} % [{low}, {high}]"


if __name__ == "__main__":
    main()
