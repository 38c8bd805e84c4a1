"""What `gendercls audit` finds of what was put there on purpose.

    python benchmarks/audit.py flips DATA --init WEIGHTS   labels flipped at random: precision and recall
    python benchmarks/audit.py leaks DATA                  copies of train photos in val and test: found, and false

DATA is what `gendercls audit` takes; it is only read. The real command runs on a table of its photos made for this.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from gendercls.labels import Labels, read_labels
from gendercls.stats import wilson

Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["flips", "leaks"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--init", default="imagenet", help="flips: weights to judge with (default imagenet)")
    parser.add_argument("--share", type=float, default=0.02, help="flips: of the labels (default 0.02)")
    parser.add_argument("--copies", type=int, default=600, help="leaks: how many (default 600)")
    parser.add_argument("--seed", type=int, default=1, help="of what is flipped or copied (default 1)")
    options = parser.parse_args()
    labels = read_labels(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "photos").symlink_to(labels.root.resolve())
        {"flips": flips, "leaks": leaks}[options.what](options, labels, Path(scratch))


# --- flipped labels ---------------------------------------------------------------------------------------------


def flips(options: argparse.Namespace, labels: Labels, scratch: Path) -> None:
    rows = labelled_rows(labels)
    classes = sorted({str(row["class"]) for row in rows})
    assert len(classes) == 2, "labels of two classes are flipped"
    print(f"as they are: {len(suspects(rows, scratch / 'as-they-are', options.init))} suspects")
    chosen = random.Random(options.seed).sample(range(len(rows)), round(options.share * len(rows)))  # noqa: S311
    for number in chosen:
        rows[number]["class"] = classes[1 - classes.index(str(rows[number]["class"]))]
    flipped = {str(rows[number]["path"]) for number in chosen}
    found = suspects(rows, scratch / "flipped", options.init)
    hits = [path in flipped for path in found]
    first = hits[: len(flipped)]
    print(f"{len(flipped)} of {len(rows)} labels flipped, seed {options.seed}: {len(found)} suspects")
    print(f"precision: {wilson(sum(hits), len(hits))}")
    print(f"recall:    {wilson(sum(hits), len(flipped))}")
    print(f"precision of the first {len(first)}: {wilson(sum(first), len(first))}")


def suspects(rows: list[Row], folder: Path, init: str) -> list[str]:
    """Paths of the photos whose labels the command suspects, the worst first."""
    audit(rows, folder, "--init", init)
    return [row["path"] for row in read(folder / "label_errors.csv")]


# --- planted copies ---------------------------------------------------------------------------------------------


def leaks(options: argparse.Namespace, labels: Labels, scratch: Path) -> None:
    choose = random.Random(options.seed)  # noqa: S311
    rows = labelled_rows(labels)
    for row in rows:
        row["split"] = choose.choices(["train", "val", "test"], [8, 1, 1])[0]
        row["identity"] = ""  # the copies shall be found by the pictures alone
    planted = {}
    (scratch / "copies").mkdir()
    for number, row in enumerate(choose.sample([row for row in rows if row["split"] == "train"], options.copies)):
        kind = list(ALL_EDITS)[number % len(ALL_EDITS)]
        path = f"copies/{number}{ALL_EDITS[kind][0]}"
        with Image.open(scratch / str(row["path"])) as photo:
            (scratch / path).write_bytes(ALL_EDITS[kind][1](photo.convert("RGB")))
        planted[path] = (str(row["path"]), kind)
        rows.append({**row, "path": path, "split": choose.choice(["val", "test"])})
    audit(rows, scratch / "leaks")
    groups: dict[str, list[str]] = {}
    for row in read(scratch / "leaks" / "leaks.csv"):
        groups.setdefault(row["group"], []).append(row["path"])
    found = Counter(
        planted[p][1] for paths in groups.values() for p in paths if p in planted and planted[p][0] in paths
    )
    made = Counter(kind for _, kind in planted.values())
    for edits, words in ((EDITS, "copies of train photos in val and test"), (BEYOND, "copies of kinds not promised")):
        print(f"{words}: {wilson(sum(found[kind] for kind in edits), sum(made[kind] for kind in edits))} found")
        for kind in edits:
            print(f"  {kind:32} {found[kind]} of {made[kind]}")
    duplicates: dict[str, set[str]] = {}
    for row in read(scratch / "leaks" / "duplicates.csv"):
        duplicates.setdefault(row["group"], set()).add(planted.get(row["path"], (row["path"],))[0])
    others = [sorted(origins) for origins in duplicates.values() if len(origins) > 1]
    print(f"{len(others)} groups hold photos of different origin, false or copies that the data has itself:")
    for origins in others:
        print("  " + " = ".join(origins))


def saved(kind: str, change: Callable[[Image.Image], Image.Image] | None = None, **how: object) -> Callable[..., bytes]:
    def save(photo: Image.Image) -> bytes:
        file = io.BytesIO()
        (change(photo) if change else photo).save(file, kind, **how)
        return file.getvalue()

    return save


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda photo: photo.resize((round(photo.width * factor), round(photo.height * factor)))


def brighter(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda photo: ImageEnhance.Brightness(photo).enhance(factor)


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda photo: ImageOps.crop(photo, round(min(photo.size) * share / 2))


EDITS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "JPEG, quality 30": (".jpg", saved("JPEG", quality=30)),
    "JPEG, quality 60": (".jpg", saved("JPEG", quality=60)),
    "JPEG, quality 90": (".jpg", saved("JPEG", quality=90)),
    "PNG": (".png", saved("PNG")),
    "WebP, quality 50": (".webp", saved("WEBP", quality=50)),
    "half the size, JPEG 75": (".jpg", saved("JPEG", resized(0.5), quality=75)),
    "half the size, JPEG 30": (".jpg", saved("JPEG", resized(0.5), quality=30)),
    "1.5 times the size, JPEG 75": (".jpg", saved("JPEG", resized(1.5), quality=75)),
    "a tenth brighter, JPEG 75": (".jpg", saved("JPEG", brighter(1.1), quality=75)),
    "a fifth darker, JPEG 75": (".jpg", saved("JPEG", brighter(0.8), quality=75)),
    "mirrored, JPEG 75": (".jpg", saved("JPEG", ImageOps.mirror, quality=75)),
    "mirrored, half the size, JPEG 50": (".jpg", saved("JPEG", lambda p: resized(0.5)(ImageOps.mirror(p)), quality=50)),
}


BEYOND = {
    "cropped by 4 %, JPEG 75": (".jpg", saved("JPEG", cropped(0.04), quality=75)),
    "cropped by 10 %, JPEG 75": (".jpg", saved("JPEG", cropped(0.10), quality=75)),
    "turned by 2 degrees, JPEG 75": (".jpg", saved("JPEG", lambda photo: photo.rotate(2), quality=75)),
}
ALL_EDITS = EDITS | BEYOND


# --- both -------------------------------------------------------------------------------------------------------


def labelled_rows(labels: Labels) -> list[Row]:
    """A row for each photo that the default classes cover."""
    rules = labels.default_classes()
    assigned = labels.assign(rules)
    return [
        {
            "path": f"photos/{labels.keys[n]}",
            "class": rules[assigned[n]].name,
            "identity": "" if labels.identity is None or labels.identity[n] < 0 else int(labels.identity[n]),
        }
        for n in np.flatnonzero(assigned >= 0).tolist()
    ]


def audit(rows: list[Row], out: Path, *more: str) -> None:
    table = out.with_suffix(".csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    words = [sys.executable, "-m", "gendercls", "audit", str(table), "--out", str(out), "--json", *more]
    began = time.monotonic()
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    judged = json.loads(done.stdout)["label_errors"]
    agreement = "" if judged is None else f", judge agrees with {100 * judged['judge']['all classes']['value']:.2f} %"
    print(f"audited {len(rows)} photos in {time.monotonic() - began:.0f} s{agreement}")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
