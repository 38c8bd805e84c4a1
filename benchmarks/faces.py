"""What a face detector finds: python benchmarks/faces.py --detector FILE --marked FOLDER --portraits FOLDER

``--marked``: a folder with ``faces.csv`` (file, x, y, w, h in pixels) and the photos in ``images``, as WIDER FACE's.
Faces of fewer pixels than ``--least`` count neither as missed nor, found, as right or wrong. ``--mosaic 2`` makes one
large photo of each 2×2 of them: a crowd.
``--portraits``: photos of one person each: in how many a face is found, or several. Prints tables as Markdown; the last
says what one thread spends on a photo of each folder, with the model that ships.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls.classify.detector import Detector
from gendercls.classify.session import Device, Session
from gendercls.detectorfile import read_detector
from gendercls.faces import AT_LEAST, Face, face_crop, find_faces
from gendercls.images import decode_with_size, to_array
from gendercls.modelfile import read_model_file, shipped_models
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
    parser.add_argument("--mosaic", type=int, default=1, help="marked photos on each side of a photo (default 1)")
    parser.add_argument("--photos", type=int, default=500, help="how many portraits, evenly from each folder (500)")
    options = parser.parse_args()
    print("| detector | photos | recall | precision | ms a photo |\n| --- | --- | ---: | ---: | ---: |")
    for path in options.detector:
        detector = Detector(read_detector(path), Device("cpu"))
        if options.marked is not None:
            found = _marked(detector, options.marked, options.least, options.mosaic)
            cells = f"{found.recall} | {found.precision} | {found.milliseconds:.1f}"
            print(f"| {path.stem} | {options.marked.name} | {cells} |", flush=True)
        for folder in options.portraits:
            counts, milliseconds = _portraits(detector, folder, options.photos)
            total = len(counts)
            several = f"several in {sum(n > 1 for n in counts)}"
            found_in = wilson(sum(n > 0 for n in counts), total)
            print(f"| {path.stem} | {folder.name} | {found_in} | {several} | {milliseconds:.1f} |", flush=True)
    folders = [*options.portraits, *([options.marked / "images"] if options.marked is not None else [])]
    _print_stages(Detector(read_detector(options.detector[0]), Device("cpu")), folders, options.photos)


def _print_stages(detector: Detector, folders: list[Path], photos: int) -> None:
    sessions = {precision: Session(read_model_file(path), device="cpu") for precision, path in shipped_models().items()}
    stages = ["whole: decode", *(f"whole: classify {precision}" for precision in sessions)]
    stages += ["faces: decode", "faces: detect", "faces: crop", *(f"faces: classify {name}" for name in sessions)]
    print(f"\n| ms a photo, one thread | faces a photo | {' | '.join(stages)} |")
    print(f"| --- | ---: |{' ---: |' * len(stages)}")
    for folder in folders:
        spent, faces, count = _stages(detector, sessions, list(_evenly(folder, photos)))
        cells = (f"{1000 * spent[stage] / count:.2f}" for stage in stages)
        print(f"| {folder} | {faces / count:.2f} | {' | '.join(cells)} |", flush=True)


def _stages(detector: Detector, sessions: dict[str, Session], paths: list[Path]) -> tuple[dict[str, float], int, int]:
    """Seconds by stage, and how many faces and photos there were."""
    spent: dict[str, float] = defaultdict(float)
    pre = next(iter(sessions.values())).model.spec.preprocessing

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        spent[name] += time.perf_counter() - began

    whole, crops = [], []
    for path in paths:
        data = path.read_bytes()
        with stage("whole: decode"):
            whole.append(to_array(data, pre, name=path.name))
        with stage("faces: decode"):
            image, size = decode_with_size(data, name=path.name, at_least=AT_LEAST)
        with stage("faces: detect"):
            faces = find_faces(image, size, detector.run)
        with stage("faces: crop"):
            crops += [face_crop(image, size, face, pre) for face in faces]
    for way, arrays in (("whole", whole), ("faces", crops)):
        for precision, session in sessions.items():
            for begin in range(0, len(arrays), session.batch_size):
                batch = np.stack(arrays[begin : begin + session.batch_size])
                with stage(f"{way}: classify {precision}"):
                    session.run(batch)
    return spent, len(crops), len(paths)


def _find(detector: Detector, data: bytes) -> tuple[list[Face], float]:
    image, size = decode_with_size(data, at_least=AT_LEAST)
    began = time.perf_counter()
    faces = find_faces(image, size, detector.run)
    return faces, 1000 * (time.perf_counter() - began)


def _marked(detector: Detector, folder: Path, least: float, mosaic: int) -> Marked:
    hits = wrong = total = 0
    milliseconds = []
    for data, truth in _mosaics(folder, _truth(folder / "faces.csv"), mosaic):
        faces, spent = _find(detector, data)
        milliseconds.append(spent)
        counts = truth[:, 2:].max(axis=1) >= least
        total += int(counts.sum())
        for face, owner in zip(faces, _owners(faces, truth), strict=True):
            hits += owner >= 0 and bool(counts[owner])
            wrong += owner < 0 and max(face.w, face.h) >= least
    return Marked(wilson(hits, total), wilson(hits, hits + wrong), float(np.median(milliseconds)))


def _mosaics(folder: Path, truth: dict[str, Boxes], side: int) -> Iterator[tuple[bytes, Boxes]]:
    """Files of side × side photos each, and where the faces are in them."""
    names = list(truth)
    if side == 1:
        yield from (((folder / "images" / name).read_bytes(), truth[name]) for name in names)
        return
    for begin in range(0, len(names), side * side):
        chosen = names[begin : begin + side * side]
        images = [Image.open(folder / "images" / name).convert("RGB") for name in chosen]
        width, height = (max(image.size[axis] for image in images) for axis in (0, 1))
        places = [(width * (number % side), height * (number // side)) for number in range(len(images))]
        canvas = Image.new("RGB", (width * side, height * side))
        for image, place in zip(images, places, strict=True):
            canvas.paste(image, place)
        file = io.BytesIO()
        canvas.save(file, "BMP")
        boxes = [truth[name] + [*place, 0, 0] for name, place in zip(chosen, places, strict=True)]
        yield file.getvalue(), np.concatenate(boxes)


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
        faces, spent = _find(detector, path.read_bytes())
        counts.append(len(faces))
        milliseconds.append(spent)
    return counts, float(np.median(milliseconds))


def _evenly(folder: Path, photos: int) -> Iterator[Path]:
    every = sorted(path for path in folder.iterdir() if path.is_file())
    return iter(every[:: max(1, len(every) // photos)][:photos])


if __name__ == "__main__":
    main()
