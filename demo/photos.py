"""Write the demo's photos into a folder: python demo/photos.py FOLDER.

All come from files inside scikit-image's wheel, so no network is needed: NASA's portrait of Eileen Collins (public
domain), 100 small faces of Labeled Faces in the Wild, and Stéfan van der Walt's cat Chelsea (CC0).
"""

from __future__ import annotations

import io
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

FACES = 100
SIDE = 100  # pixels; the faces are stored at 25
HEAD = (125, 15, 325, 215)  # left, top, right, bottom of the head in the portrait of 512 x 512 pixels


def main(folder: Path) -> None:
    """Write the photos below ``folder``, which is made where it is missing; files of the same names are replaced."""
    data = sample_folder()
    for name in ("faces", "pets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.open(data / "astronaut.png").crop(HEAD).save(folder / "astronaut.png")
    shutil.copyfile(data / "chelsea.png", folder / "pets" / "cat.png")
    write_faces(data / "lfw_subset.npy", folder / "faces")
    (folder / "truncated.jpg").write_bytes(first_half_as_jpeg(data / "astronaut.png"))
    (folder / "notes.txt").write_text("A text among the photos.\n", encoding="utf-8")
    print(  # noqa: T201
        f"Wrote {folder}: an astronaut's portrait, {FACES} small faces, a truncated photo, a text, and a cat, "
        "for which the model was never meant: it takes every photo for a face and answers all the same."
    )


def sample_folder() -> Path:
    """Where scikit-image keeps the samples that its wheel carries; found without importing it."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit("Error: scikit-image is not installed\n  do:    pip install scikit-image, or run make demo")
    return Path(spec.origin).parent / "data"


def write_faces(source: Path, folder: Path) -> None:
    """Write the first 100 arrays of ``source`` as PNG; it holds float64 ``[200, 25, 25]`` in [0, 1], faces first."""
    for number, face in enumerate(np.load(source)[:FACES], start=1):
        image = Image.fromarray((face * 255).round().astype(np.uint8))
        image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")


def first_half_as_jpeg(source: Path) -> bytes:
    """The first half of the photo's bytes as a JPEG, as a broken download leaves it."""
    buffer = io.BytesIO()
    Image.open(source).convert("RGB").save(buffer, format="JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python demo/photos.py FOLDER")
    main(Path(sys.argv[1]))
