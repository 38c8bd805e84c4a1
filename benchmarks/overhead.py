"""How near `gendercls classify` comes to a bare onnxruntime session on the same model: python benchmarks/overhead.py

The bare session runs in its best arrangement on a CPU: one thread each, as many callers as cores, arrays already in
memory. `classify` does the same work and everything else: listing, reading, decoding, resizing, rows, the journal.
Both run in this one process, in turn, so the ratio holds on a noisy machine. Process start is not counted.
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
from pathlib import Path

import numpy as np
import onnxruntime as ort

from gendercls.classify.run import ClassifyOptions, classify
from gendercls.classify.session import CPU_BATCH
from gendercls.images import to_array
from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, read_model_file, shipped_model

DEMO = Path(__file__).parent.parent / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos (default: the demo's faces)")
    parser.add_argument("--count", type=int, default=2000, help="photos a run; fewer are repeated (default 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn (default 3)")
    options = parser.parse_args()
    model = read_model_file(shipped_model())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        gather(options.photos or demo_faces(), folder, options.count)
        bare, whole = [], []
        for number in range(options.rounds):
            bare.append(bare_rate(model, folder))
            whole.append(classify_rate(folder, Path(scratch) / f"{number}.csv"))
    figures = {
        "photos": options.count,
        "cores": available_cores(),
        "bare_session_photos_per_second": statistics.median(bare),
        "classify_photos_per_second": statistics.median(whole),
        "ratio": statistics.median(w / b for w, b in zip(whole, bare, strict=True)),
        "ratios": [w / b for w, b in zip(whole, bare, strict=True)],
    }
    print(json.dumps(figures, indent=2))


def demo_faces() -> Path:
    subprocess.run([sys.executable, DEMO / "photos.py", DEMO / "photos"], check=True, stdout=sys.stderr)
    return DEMO / "photos" / "faces"


def gather(source: Path, folder: Path, count: int) -> None:
    """Fill a folder with ``count`` copies of the source's photos, each under its own name."""
    folder.mkdir()
    photos = sorted(path for path in source.iterdir() if path.is_file())[:count]
    for number in range(count):
        photo = photos[number % len(photos)]
        (folder / f"{number:06}{photo.suffix}").write_bytes(photo.read_bytes())


def bare_rate(model: ModelFile, folder: Path) -> float:
    """Photos per second of the session alone, from arrays in memory."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    paths = sorted(folder.iterdir())
    pre = model.spec.preprocessing
    arrays = np.stack([to_array(path.read_bytes(), pre, name=path.name) for path in paths[:256]])
    batches = [arrays[n : n + CPU_BATCH] for n in range(0, len(arrays) - CPU_BATCH + 1, CPU_BATCH)]
    session.run(["probabilities"], {"images": batches[0]})
    rounds = max(1, len(paths) // (len(batches) * CPU_BATCH))
    work = batches * rounds
    began = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(lambda batch: session.run(["probabilities"], {"images": batch}), work))
    return len(work) * CPU_BATCH / (time.perf_counter() - began)


def classify_rate(folder: Path, out: Path) -> float:
    """Photos per second of the whole tool, as it reports them itself."""
    os.sync()
    return classify(ClassifyOptions(photos=(str(folder),), out=out, device="cpu"), lambda _: None).rate


if __name__ == "__main__":
    main()
