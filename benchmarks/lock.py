"""Where the time of `classify` goes, and how much of it Python's lock takes: python benchmarks/lock.py PHOTOS

Decodes in one thread, in as many as there are cores, and in as many processes, which have a lock each. Then py-spy
(pip install py-spy) looks at `classify` 100 times a second: at what each thread that works is doing, and again at which
thread holds the lock. Starting is part of both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from overhead import gather

from gendercls.classify.session import CPU_BATCH
from gendercls.images import Preprocessing, to_array
from gendercls.machine import available_cores
from gendercls.modelfile import read_model_file, shipped_model

SECOND = 100  # looks
# A stack belongs to the first of these that one of its frames has in it; the rest is ours.
WHERE = {
    "start": ("_find_and_load", "_create_inference_session"),
    "guard": ("_wait (gendercls/guard",),
    "onnxruntime": ("run (onnxruntime/",),
    "decoding": ("to_array (gendercls/images",),
    "waiting": ("_worker (concurrent/futures/thread.py:8", "Condition.wait ", "Event.wait "),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5, help="of decoding (default 5)")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        gather(options.photos, folder, options.count)
        data, cores = [path.read_bytes() for path in sorted(folder.iterdir())], available_cores()
        pools: dict[str, Callable[[], Executor]] = {
            "1 thread": lambda: ThreadPoolExecutor(1),
            f"{cores} threads": lambda: ThreadPoolExecutor(cores),
            f"{cores} processes": lambda: ProcessPoolExecutor(cores),
        }
        rounds = [{name: decode_rate(data, pool()) for name, pool in pools.items()} for _ in range(options.rounds)]
        for name in pools:
            rates = [rates[name] for rates in rounds]
            print(f"decoding in {name}: {statistics.median(rates):.0f} photos/s, {min(rates):.0f} to {max(rates):.0f}")
        stacks = looked_at(folder, options.precision, [])
        working = {name: count for name, count in stacks.items() if name not in ("guard", "waiting")}
        for name, count in sorted(working.items(), key=lambda item: -item[1]):
            print(f"{name}: {100 * count / sum(working.values()):.1f} % of the time in which a thread worked")
        held = looked_at(folder, options.precision, ["--gil"])
        held_for = 1000 / SECOND * (held.total() - held["start"]) / options.count
        print(f"Python's lock is held for {held_for:.2f} ms a photo, and for {held['start'] / SECOND:.2f} s at first")


def decode_rate(data: list[bytes], pool: Executor) -> float:
    """Photos per second that become arrays. The bytes go to another process, the arrays do not come back."""
    chunks = [data[begin : begin + CPU_BATCH] for begin in range(0, len(data), CPU_BATCH)]
    work = partial(decode, preprocessing=read_model_file(shipped_model()).spec.preprocessing)
    with pool:
        list(pool.map(work, chunks[:8]))
        began = time.perf_counter()
        list(pool.map(work, chunks))
        return len(data) / (time.perf_counter() - began)


def decode(chunk: list[bytes], preprocessing: Preprocessing) -> int:
    return sum(len(to_array(photo, preprocessing)) for photo in chunk)


def looked_at(folder: Path, precision: str, words: list[str]) -> Counter[str]:
    """How many looks found a thread there."""
    raw = folder.with_name("stacks")
    command = [sys.executable, "-m", "gendercls", "classify", str(folder), "--out", str(folder.with_name("preds.csv"))]
    command += ["--precision", precision, "--device", "cpu", "--force", "--quiet"]
    spy = ["py-spy", "record", "--subprocesses", "--format", "raw", "--rate", str(SECOND), "--output", str(raw), *words]
    subprocess.run([*spy, "--", *command], check=True, capture_output=True)
    found: Counter[str] = Counter()
    for line in raw.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        found[place(frames)] += int(count)
    return found


def place(frames: list[str]) -> str:
    for name, parts in WHERE.items():
        if any(part in frame for frame in frames for part in parts):
            return name
    return "all else"


if __name__ == "__main__":
    main()
