"""Cause faults while `gendercls classify` runs, then repeat the command: python benchmarks/faults.py PHOTOS

Each fault is caused many times, at random moments where it has a moment. Afterwards every file must have its row, and
the bytes must be those of a run that nobody disturbed; where a fault hits single photos, those of all others. The model
is one that costs nothing, whose answer follows from a photo's first pixel. Prints a table; exits with 1 when anything
was lost or wrong. Faults that cannot be caused here are named with the reason.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from fault_bench import Bench, CannotBeCausedError
from fault_disk import DISK_FAULTS
from fault_photos import PHOTO_FAULTS
from fault_power import power_lost
from fault_process import PROCESS_FAULTS
from null_model import null_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=1500, help="how many of them (default 1500)")
    parser.add_argument("--times", type=int, default=20, help="how often each fault is caused (default 20)")
    parser.add_argument("--kills", type=int, default=100, help="how often kill -9 is (default 100)")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args()
    is_good = True
    print("| fault | caused | rows lost | rows wrong | bytes equal |\n| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(Path(scratch), options)
        for cause in (*PROCESS_FAULTS, *DISK_FAULTS, power_lost, *PHOTO_FAULTS):
            name = (cause.__doc__ or "").strip()
            if options.only not in name:
                continue
            bench.lost = bench.wrong = bench.same = bench.tries = 0
            try:
                cause(bench, options.kills if "kill -9" in name else options.times)
            except CannotBeCausedError as error:
                print(f"| {name} | not here: {error} | | | |", flush=True)
                continue
            print(f"| {name} | {bench.tries} | {bench.lost} | {bench.wrong} | {bench.same} |", flush=True)
            is_good = is_good and bench.lost == bench.wrong == 0
    sys.exit(not is_good)


def prepare(scratch: Path, options: argparse.Namespace) -> Bench:
    """Photos of the bench's own, since faults change some; and the run that nobody disturbs."""
    photos = scratch / "photos"
    photos.mkdir()
    for path in sorted(options.photos.iterdir())[: options.count]:
        shutil.copy(path, photos)
    (scratch / "null.onnx").write_bytes(null_model())
    bench = Bench(scratch, photos, random.Random(options.seed))  # noqa: S311 - moments, no secrets
    bench.clean()
    began = time.monotonic()
    bench.finish()
    bench.usual = time.monotonic() - began
    bench.reference = bench.out.read_bytes()
    return bench


if __name__ == "__main__":
    main()
