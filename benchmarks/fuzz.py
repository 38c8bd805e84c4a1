"""Damaged photos of every format through `gendercls classify`: python benchmarks/fuzz.py PHOTOS [--files 20000]

Real photos are written in every format that is read, and damaged: bits flipped, cut off, parts removed, doubled, put in
from other files, numbers in their headers made huge. With --as-is the folder's files are taken as they are, which is
for the broken files that decoders' own projects keep. Every file must have its row; none may crash the process or keep
it for longer than a photo may take. Prints the rows by their reason; exits with 1 when anything else happened.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from null_model import null_model
from PIL import Image, features

from gendercls.errors import PhotoError
from gendercls.images import to_array
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.rows import path_field
from gendercls.sources import PhotoFile, readable_name

Mutation = Callable[[bytearray, random.Random, list[bytes]], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--as-is", action="store_true", help="damage nothing: the files in and below it as they are")
    parser.add_argument("--files", type=int, default=20_000, help="how many damaged files (default 20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where files go that crashed the process or kept it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.photos
        if not options.as_is:
            folder = Path(scratch) / "photos"
            folder.mkdir()
            damage(options.photos, folder, options.files, random.Random(options.seed))  # noqa: S311 - no secrets
        figures, killers = classified(folder, Path(scratch))
        if options.as_is:
            figures["slowest"] = slowest(folder, set(files_below(folder)) - set(killers))
        if options.keep is not None:
            for name in killers:
                (options.keep / name).parent.mkdir(parents=True, exist_ok=True)
                (options.keep / name).write_bytes((folder / name).read_bytes())
    print(json.dumps(figures, indent=2))
    wrong = ("without_a_row", "crashed", "never_ended", "tracebacks")
    sys.exit(any(figures[key] for key in wrong) or figures["files"] != figures["rows"])


def classified(folder: Path, scratch: Path) -> tuple[dict[str, Any], list[str]]:
    """What became of a folder's files, and the names of those that ended the process."""
    model, out = scratch / "null.onnx", scratch / "preds.csv"
    model.write_bytes(null_model())
    words = ["classify", str(folder), "--model", str(model), "--out", str(out), "--json", "--device", "cpu"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "gendercls", *words, "--photo-timeout", "20"],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(f"classify ended with {done.returncode}:\n{done.stderr[-2000:]}")
    with out.open(encoding="utf-8", newline="") as file:
        rows = [(row["path"], row["error"]) for row in csv.DictReader(file)]
    names = {path_field(readable_name(os.fsencode(name))): name for name in files_below(folder)}
    errors = dict(rows)
    crashed = [name for path, name in names.items() if errors.get(path, "").startswith("crashed")]
    never_ended = [name for path, name in names.items() if errors.get(path, "").startswith("took more than")]
    killers = crashed + never_ended
    reasons = Counter(re.split(r"[:(]", error)[0].strip() or "an answer" for _, error in rows)
    figures = {
        "files": len(names),
        "rows": len(rows),
        "without_a_row": len(names.keys() - errors.keys()),
        "crashed": len(crashed),
        "never_ended": len(never_ended),
        "tracebacks": done.stderr.count("Traceback"),
        "seconds": round(seconds, 1),
        "reasons": dict(reasons.most_common()),
    }
    return figures, killers


def files_below(folder: Path) -> Iterator[str]:
    """The names of all files in and below the folder but hidden ones."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name).relative_to(folder).as_posix() for name in files if not name.startswith("."))


def slowest(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The file that takes longest from the disk to the model's input, each alone in one thread."""
    preprocessing = read_model_file(shipped_model()).spec.preprocessing
    longest, which = 0.0, ""
    with silence():
        for name in names:
            photo = PhotoFile(name, os.fsencode(folder / name))
            began = time.monotonic()
            with contextlib.suppress(PhotoError):
                to_array(photo.read(), preprocessing, name=name)
            longest, which = max((longest, which), (time.monotonic() - began, name))
    return {"file": which, "seconds": round(longest, 2)}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing on stderr, where Pillow and the libraries below it say what they think of the files."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


# --- files ------------------------------------------------------------------------------------------------------


def damage(source: Path, folder: Path, count: int, chance: random.Random) -> None:
    """Write that many files into the folder."""
    seeds = [
        (suffix, content)
        for path in chance.sample(sorted(source.iterdir()), 24)
        for suffix, content in in_every_format(Image.open(path).convert("RGB"))
    ]
    contents = [content for _, content in seeds]
    for number in range(count):
        suffix, content = seeds[number % len(seeds)]
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            chance.choice(MUTATIONS)(changed, chance, contents)
        (folder / f"{number:05}.{suffix}").write_bytes(changed)


def in_every_format(photo: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Suffix and bytes of a photo in each format that is read, and in each way that a format has to keep pixels."""
    small = photo.resize((64, 80))
    grey, palette = small.convert("L"), small.convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    other = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    ways: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("jpg", photo, {"format": "JPEG", "exif": exif}),
        ("jpg", small, {"format": "JPEG", "progressive": True}),
        ("jpg", small.convert("CMYK"), {"format": "JPEG"}),
        ("mpo", small, {"format": "MPO", "save_all": True, "append_images": [other]}),
        ("png", small, {"format": "PNG", "exif": exif}),
        ("png", palette, {"format": "PNG"}),
        ("png", small.convert("RGBA"), {"format": "PNG", "save_all": True, "append_images": [other.convert("RGBA")]}),
        ("png", grey.convert("I;16"), {"format": "PNG"}),
        ("webp", small, {"format": "WEBP", "exif": exif}),
        ("webp", small.convert("RGBA"), {"format": "WEBP", "lossless": True}),
        ("webp", small, {"format": "WEBP", "save_all": True, "append_images": [other]}),
        ("gif", palette, {"format": "GIF"}),
        ("gif", palette, {"format": "GIF", "save_all": True, "append_images": [other.convert("P")]}),
        ("bmp", small, {"format": "BMP"}),
        ("bmp", palette, {"format": "BMP"}),
        *(
            ("tif", small, {"format": "TIFF", "compression": compression})
            for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        ("tif", grey.convert("1"), {"format": "TIFF", "compression": "group4"}),
        ("tif", grey.convert("F"), {"format": "TIFF"}),
    ]
    if features.check("avif"):
        ways.append(("avif", small, {"format": "AVIF", "speed": 10}))
    for suffix, image, how in ways:
        written = io.BytesIO()
        image.save(written, **how)  # type: ignore[arg-type]
        yield suffix, written.getvalue()


# --- damage -----------------------------------------------------------------------------------------------------


def flip_bits(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    for _ in range(chance.choice((1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_in_the_head(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    for _ in range(chance.choice((1, 2, 4))):
        data[chance.randrange(min(64, len(data)))] = chance.randrange(256)


def cut_off(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    del data[max(1, chance.randrange(len(data))) :]


def remove_a_part(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    begin = chance.randrange(len(data))
    del data[begin : begin + chance.choice((1, 2, 4, 16, 256))]
    data[:0] = b"" if data else b"\0"


def double_a_part(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    begin = chance.randrange(len(data))
    part = data[begin : begin + chance.choice((4, 16, 256, 4096))]
    data[begin:begin] = part * chance.choice((1, 2, 16))


def put_in_of_another(data: bytearray, chance: random.Random, others: list[bytes]) -> None:
    other = chance.choice(others)
    begin, place = chance.randrange(len(other)), chance.randrange(len(data))
    part = other[begin : begin + chance.choice((8, 64, 1024))]
    data[place : place + chance.choice((0, len(part)))] = part


def huge_number(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    order = chance.choice("<>")
    kind = chance.choice("HI")
    number = chance.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF))
    packed = struct.pack(order + kind, number & (0xFFFF if kind == "H" else 0xFFFFFFFF))
    place = chance.randrange(min(len(data), 512))
    data[place : place + len(packed)] = packed


def append_garbage(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    data += chance.randbytes(chance.choice((1, 100, 10_000)))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    flip_in_the_head,
    cut_off,
    remove_a_part,
    double_a_part,
    put_in_of_another,
    huge_number,
    append_garbage,
)

if __name__ == "__main__":
    main()
