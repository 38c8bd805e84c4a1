"""Memory and speed as the folder grows: python benchmarks/growth.py PHOTOS [--counts 100 1000 … 1000000]

Photos are hard links in folders of at most 10,000, the model costs nothing, so what is seen is the tool. Each count is
a process of its own: its peak memory, when its first row was on the disk, and its photos per second. The rate past the
start is that of all photos but the first hundred, from when each part of the journal was seen to be written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from null_model import null_model

PER_FOLDER = 10_000
START = 100
LOOK = 0.005  # seconds between two looks at the journal


@dataclass(frozen=True)
class Run:
    """first_row: seconds from the start of the process; rate: photos a second past the first hundred."""

    count: int
    memory: float
    first_row: float
    seconds: float
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    print("| photos | peak memory | first row | all of it | photos/s past the start |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "null.onnx"
        model.write_bytes(null_model())
        made = 0
        for count in sorted(options.counts):
            made = link(options.photos, Path(scratch) / "photos", made, count)
            run = measure(Path(scratch), model, count)
            rate = f"{run.rate:,.0f}" if count > START else "–"
            print(
                f"| {count:,} | {run.memory:.0f} MB | {run.first_row:.2f} s | {run.seconds:.1f} s | {rate} |",
                flush=True,
            )


def link(source: Path, folder: Path, made: int, count: int) -> int:
    """Add photos to the folder until there are ``count``: links to copies, each used so often as a file system lets."""
    originals = sorted(path for path in source.iterdir() if path.is_file())
    copies = folder.with_name("copies")
    copies.mkdir(exist_ok=True)
    for number in range(made, count):
        original = originals[number % len(originals)]
        copy = copies / original.name
        if not copy.exists():
            copy.write_bytes(original.read_bytes())
        place = folder / f"{number // PER_FOLDER:04}" / f"{number:07}{original.suffix}"
        if number % PER_FOLDER == 0 or number == made:
            place.parent.mkdir(parents=True, exist_ok=True)
        os.link(copy, place)
    return count


def measure(scratch: Path, model: Path, count: int) -> Run:
    out = scratch / "preds.csv"
    part = scratch / "preds.csv.part"
    words = ["classify", str(scratch / "photos"), "--out", str(out), "--model", str(model), "--quiet", "--force"]
    began = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "gendercls", *words], os.environ)
    first = 0.0
    past: tuple[float, int] | None = None
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if past is None:
            rows = part.read_bytes().count(b"\n") - 1 if part.exists() else 0
            now = time.perf_counter() - began
            first = first or (now if rows > 0 else 0.0)
            past = (now, rows) if rows >= START else None
        time.sleep(LOOK)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        sys.exit(f"classify failed at {count:,} photos")
    assert out.read_bytes().count(b"\n") == count + 1
    then, rows = past or (0.0, 0)
    return Run(count, usage.ru_maxrss / 1024, first or seconds, seconds, (count - rows) / (seconds - then))


if __name__ == "__main__":
    main()
