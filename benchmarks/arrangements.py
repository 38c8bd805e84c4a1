"""In which arrangement does onnxruntime run the shipped model fastest on this CPU: python benchmarks/arrangements.py

One-thread sessions called from as many threads as there are cores, against one session that splits each operation over
the cores; photos at once; spinning and the memory arena on and off. All ways take turns, round by round, in this one
process; the table has each way's median and its ratio to the way that `classify` goes. Arrays are noise: nothing in the
network depends on what they show.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gendercls.classify.session import CPU_BATCH
from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, read_model_file, shipped_models


@dataclass(frozen=True)
class Way:
    """is_wide: one session over all cores, else a one-thread session for all callers."""

    is_wide: bool
    batch: int
    spins: bool
    has_arena: bool

    def __str__(self) -> str:
        session = "one wide session" if self.is_wide else "one thread a caller"
        spinning = f" | {'yes' if self.spins else 'no'}" if self.is_wide else " | –"
        return f"{session} | {self.batch}{spinning} | {'yes' if self.has_arena else 'no'}"


OURS = Way(is_wide=False, batch=CPU_BATCH, spins=True, has_arena=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each way in each round (default 1.5)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ways = [Way(False, batch, True, arena) for batch in (1, 4, 8, 16) for arena in (True, False)]
    ways += [Way(True, *rest) for rest in itertools.product((1, 4, 8, 16), (True, False), (True, False))]
    for precision, path in sorted(shipped_models().items()):
        model = read_model_file(path)
        pre = model.spec.preprocessing
        print(f"\n{model.spec.name}, {precision}, {pre.width}×{pre.height} pixels, {available_cores()} cores\n")
        print("| session | photos at once | spinning | arena | photos/s | ratio |")
        print("| --- | ---: | --- | --- | ---: | ---: |")
        rates: dict[Way, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                rates[way].append(rate(way, model, options.seconds))
        ours = statistics.median(rates[OURS])
        for way in sorted(ways, key=lambda way: -statistics.median(rates[way])):
            median = statistics.median(rates[way])
            mark = " (`classify`)" if way == OURS else ""
            print(f"| {way} | {median:.1f} | {median / ours:.3f}{mark} |", flush=True)


def rate(way: Way, model: ModelFile, seconds: float) -> float:
    """Photos per second, after each caller has run once, in a session of its own."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores() if way.is_wide else 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = way.has_arena
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(way.spins)))
    session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    pre = model.spec.preprocessing
    shape = (way.batch, pre.height, pre.width, 3)
    images = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    callers = 1 if way.is_wide else available_cores()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda _: run(session, images, 0), range(callers)))
        began = time.perf_counter()
        counts = list(pool.map(lambda _: run(session, images, seconds), range(callers)))
        return sum(counts) / (time.perf_counter() - began)


def run(session: ort.InferenceSession, images: NDArray[np.uint8], seconds: float) -> int:
    """How many photos went through until the time was over; one batch at the least."""
    end, count = time.perf_counter() + seconds, 0
    while True:
        session.run(["probabilities"], {"images": images})
        count += len(images)
        if time.perf_counter() >= end:
            return count


if __name__ == "__main__":
    main()
