"""What a face detector finds: python benchmarks/faces.py --detector FILE --marked FOLDER --portraits FOLDER

``--marked``: a folder with ``faces.csv`` (file, x, y, w, h in pixels) and the photos in ``images``, as WIDER FACE's.
Faces of fewer pixels than ``--least`` count neither as missed nor, found, as right or wrong.
``--portraits``: photos of one person each: in how many a face is found, or several. Prints a table as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.classify.detector import Detector
from gendercls.classify.session import Device
from gendercls.detectorfile import read_detector
from gendercls.faces import AT_LEAST, Face, find_faces
from gendercls.images import decode_with_size
from gendercls.stats import Rate, wilson

OVERLAP = 0.5  # intersection over union from which a box is that face's
Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Marked:
    """What was found of the faces that people marked. milliseconds: a photo, decoding apart."""

    recall: Rate
    precision: Rate
    milliseconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", type=Path, action="append", required=True)
    parser.add_argument("--marked", type=Path)
    parser.add_argument("--portraits", type=Path, action="append", default=[])
    parser.add_argument("--least", type=float, default=20, help="pixels of a face's longer side (default 20)")
    parser.add_argument("--photos", type=int, default=500, help="how many portraits, evenly from each folder (500)")
    options = parser.parse_args()
    print("| detector | photos | recall | precision | ms a photo |\n| --- | --- | ---: | ---: | ---: |")
    for path in options.detector:
        detector = Detector(read_detector(path), Device("cpu"))
        if options.marked is not None:
            found = _marked(detector, options.marked, options.least)
            cells = f"{found.recall} | {found.precision} | {found.milliseconds:.1f}"
            print(f"| {path.stem} | {options.marked.name} | {cells} |", flush=True)
        for folder in options.portraits:
            counts, milliseconds = _portraits(detector, folder, options.photos)
            total = len(counts)
            several = f"several in {sum(n > 1 for n in counts)}"
            found_in = wilson(sum(n > 0 for n in counts), total)
            print(f"| {path.stem} | {folder.name} | {found_in} | {several} | {milliseconds:.1f} |", flush=True)


def _find(detector: Detector, path: Path) -> tuple[list[Face], float]:
    image, size = decode_with_size(path.read_bytes(), name=path.name, at_least=AT_LEAST)
    began = time.perf_counter()
    faces = find_faces(image, size, detector.run)
    return faces, 1000 * (time.perf_counter() - began)


def _marked(detector: Detector, folder: Path, least: float) -> Marked:
    hits = wrong = total = 0
    milliseconds = []
    for name, truth in _truth(folder / "faces.csv").items():
        faces, spent = _find(detector, folder / "images" / name)
        milliseconds.append(spent)
        counts = truth[:, 2:].max(axis=1) >= least
        total += int(counts.sum())
        for face, owner in zip(faces, _owners(faces, truth), strict=True):
            hits += owner >= 0 and bool(counts[owner])
            wrong += owner < 0 and max(face.w, face.h) >= least
    return Marked(wilson(hits, total), wilson(hits, hits + wrong), float(np.median(milliseconds)))


def _owners(faces: list[Face], truth: Boxes) -> list[int]:
    """For each face found the marked one that it is, -1 for none. Each marked one is taken once, by the surest."""
    free, owners = set(range(len(truth))), [-1] * len(faces)
    for number in sorted(range(len(faces)), key=lambda number: -faces[number].confidence):
        face = faces[number]
        overlaps = {n: _overlap((face.x, face.y, face.w, face.h), truth[n]) for n in free}
        best = max(overlaps, key=lambda n: overlaps[n], default=-1)
        if best >= 0 and overlaps[best] >= OVERLAP:
            free.remove(best)
            owners[number] = best
    return owners


def _overlap(box: tuple[int, ...], other: Boxes) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    low = np.maximum(box[:2], other[:2])
    high = np.minimum(np.add(box[:2], box[2:]), other[:2] + other[2:])
    common = float(np.prod((high - low).clip(0)))
    return common / (box[2] * box[3] + float(other[2] * other[3]) - common)


def _truth(path: Path) -> dict[str, Boxes]:
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            boxes[row["file"]].append([float(row[key]) for key in "xywh"])
    return {name: np.array(values) for name, values in boxes.items()}


def _portraits(detector: Detector, folder: Path, photos: int) -> tuple[list[int], float]:
    """How many faces each photo has, and the median of the milliseconds that took."""
    counts, milliseconds = [], []
    for path in _evenly(folder, photos):
        faces, spent = _find(detector, path)
        counts.append(len(faces))
        milliseconds.append(spent)
    return counts, float(np.median(milliseconds))


def _evenly(folder: Path, photos: int) -> Iterator[Path]:
    every = sorted(path for path in folder.iterdir() if path.is_file())
    return iter(every[:: max(1, len(every) // photos)][:photos])


if __name__ == "__main__":
    main()
