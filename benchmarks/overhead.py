"""How near `gendercls classify` comes to what the machine allows: python benchmarks/overhead.py [--photos DIR]

The bare session runs in its best arrangement on a CPU (see arrangements.py): one thread each, as many callers as
cores, arrays already in memory. The bare decode makes those arrays from files, with as many threads. `classify` does
both on the same cores, and everything else: listing, rows, the journal. So it can be as fast as the slower of both
only where the other costs nothing; "both" is the rate at which decode and session, one after the other, would be done.
All run in this one process, in turn, so the ratios hold on a noisy machine. Process start is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from gendercls.classify.options import ClassifyOptions
from gendercls.classify.run import classify
from gendercls.classify.session import CPU_BATCH
from gendercls.images import to_array
from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, Precision, read_model_file, shipped_models

DEMO = Path(__file__).parent.parent / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos (default: the demo's faces)")
    parser.add_argument("--count", type=int, default=2000, help="photos a run; fewer are repeated (default 2000)")
    parser.add_argument("--megapixels", type=float, help="enlarge the photos to that size, as JPEG")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn (default 3)")
    parser.add_argument("--out", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        gather(options.photos or demo_faces(), folder, options.count, options.megapixels)
        figures = {
            precision: compare(precision, read_model_file(path), folder, options.rounds)
            for precision, path in sorted(shipped_models().items())
        }
    text = json.dumps({"photos": options.count, "cores": available_cores(), **figures}, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


def compare(precision: Precision, model: ModelFile, folder: Path, rounds: int) -> dict[str, Any]:
    """Photos per second, the median of the rounds, and ratios, which are of one round each."""
    decodes, sessions, wholes = [], [], []
    for _ in range(rounds):
        decodes.append(decode_rate(model, folder))
        sessions.append(session_rate(model, folder))
        wholes.append(classify_rate(precision, folder))
    lower = [whole / min(pair) for whole, *pair in zip(wholes, decodes, sessions, strict=True)]
    both = [whole * (1 / one + 1 / other) for whole, one, other in zip(wholes, decodes, sessions, strict=True)]
    return {
        "decode": statistics.median(decodes),
        "session": statistics.median(sessions),
        "classify": statistics.median(wholes),
        "ratio_to_the_slower": statistics.median(lower),
        "ratio_to_both": statistics.median(both),
        "ratios_to_the_slower": lower,
        "ratios_to_both": both,
    }


def demo_faces() -> Path:
    subprocess.run([sys.executable, DEMO / "photos.py", DEMO / "photos"], check=True, stdout=sys.stderr)
    return DEMO / "photos" / "faces"


def gather(source: Path, folder: Path, count: int, megapixels: float | None = None) -> None:
    """Fill a folder with ``count`` copies of the source's photos, each under its own name."""
    folder.mkdir()
    photos = sorted(path for path in source.iterdir() if path.is_file())[:count]
    if megapixels is not None:
        photos = [enlarged(path, folder, megapixels) for path in photos[:32]]
    for number in range(count):
        photo = photos[number % len(photos)]
        (folder / f"{number:06}{photo.suffix}").write_bytes(photo.read_bytes())
    if megapixels is not None:
        for photo in photos:
            photo.unlink()


def enlarged(path: Path, folder: Path, megapixels: float) -> Path:
    image = Image.open(path).convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    made = folder / f"enlarged-{path.stem}.jpg"
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC).save(made)
    return made


def decode_rate(model: ModelFile, folder: Path) -> float:
    """Photos per second that become arrays."""
    paths = sorted(folder.iterdir())
    pre = model.spec.preprocessing
    began = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        chunks = [paths[begin : begin + CPU_BATCH] for begin in range(0, len(paths), CPU_BATCH)]
        list(pool.map(lambda chunk: [to_array(path.read_bytes(), pre, name=path.name) for path in chunk], chunks))
    return len(paths) / (time.perf_counter() - began)


def session_rate(model: ModelFile, folder: Path) -> float:
    """Photos per second of the session alone, from arrays in memory."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    paths = sorted(folder.iterdir())
    pre = model.spec.preprocessing
    arrays = np.stack([to_array(path.read_bytes(), pre, name=path.name) for path in paths[:64]])
    batches = [arrays[n : n + CPU_BATCH] for n in range(0, len(arrays), CPU_BATCH)]
    session.run(["probabilities"], {"images": batches[0]})
    work = list(islice(cycle(batches), -(-len(paths) // CPU_BATCH)))
    began = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(lambda batch: session.run(["probabilities"], {"images": batch}), work))
    return sum(map(len, work)) / (time.perf_counter() - began)


def classify_rate(precision: Precision, folder: Path) -> float:
    """Photos per second of the whole tool, as it reports them itself."""
    os.sync()
    out = folder.with_name("preds.csv")
    options = ClassifyOptions(photos=(str(folder),), out=out, precision=precision, device="cpu", force=True)
    return classify(options, lambda _: None).rate


if __name__ == "__main__":
    main()
