"""What a Ray cluster costs and survives: python benchmarks/ray_nodes.py speed|kills|memory [--photos DIR] [--count N]

speed: the same photos by one process on two cores, and by two nodes of one core each on the same machine, in turn, with
the CPU seconds of the workers, of the command, and of Ray's own processes. kills: nodes killed again and again while a
run goes on; are the bytes those of a run on one machine? memory: what the command holds while it walks through so many
photos whose answers come at once, by default a million by way of Ray; with --without-ray Ray's part is left out, and
what is left is this project's: the walk, the chunks, the window, the rows, the file.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # 127.0.0.1 alone

import ray
from ray.cluster_utils import Cluster as Nodes

from gendercls.classify import run
from gendercls.classify.classifier import Prediction
from gendercls.classify.distributed import Cluster
from gendercls.classify.node import Answers
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.output import Journal
from gendercls.classify.run import classify
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.rows import Columns
from gendercls.sources import Photo, PhotoFile

TICKS = os.sysconf("SC_CLK_TCK")
DAEMONS = ("gcs_server", "raylet", "Agent", "log_monitor", "monitor.py", "dashboard", "reaper")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "kills", "memory"))
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, help="photos: 1,000 for speed and kills, 1,000,000 for memory")
    parser.add_argument("--rounds", type=int, default=3, help="of speed (default 3)")
    parser.add_argument("--kills", type=int, default=10, help="nodes to kill (default 10)")
    parser.add_argument("--without-ray", action="store_true", help="memory without Ray's part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        match options.what:
            case "speed":
                speed(options.photos, options.count or 1000, options.rounds, Path(folder))
            case "kills":
                kills(options.photos, options.count or 1000, options.kills, Path(folder))
            case "memory":
                memory(options.count or 1_000_000, Path(folder), with_ray=not options.without_ray)


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """A cluster of two nodes with a core each, to the first of which this process is connected."""
    head = {"num_cpus": 1, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=head, shutdown_at_exit=False)  # so that threads may add nodes
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.CRITICAL)
    ray._private.worker._worker_logs_enabled = False
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def go(photos: Path, count: int, out: Path, **more: Any) -> float:
    """Classify; how many seconds that took, with the model's opening and without the cluster's start."""
    began = time.perf_counter()
    typed = {"device": "cpu", "limit": count, "force": True, **more}
    classify(ClassifyOptions((str(photos),), out, **typed), lambda progress: None)
    return time.perf_counter() - began


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(photos: Path, count: int, rounds: int, folder: Path) -> None:
    alone, many, shares = [], [], []
    with two_nodes():
        go(photos, 32, folder / "warm.csv", ray="")
        for _ in range(rounds):
            alone.append(go(photos, count, folder / "one.csv", jobs=2))
            before = cpu_seconds()
            many.append(go(photos, count, folder / "many.csv", ray=""))
            after = cpu_seconds()
            shares.append({name: after[name] - before[name] for name in after})
            assert (folder / "one.csv").read_bytes() == (folder / "many.csv").read_bytes()
    print(f"{count:,} photos, {rounds} rounds, medians, the same bytes each time")
    one, two = statistics.median(alone), statistics.median(many)
    print(f"one process, two cores     {one:6.1f} s  {count / one:6.1f}/s")
    print(f"two nodes, a core each     {two:6.1f} s  {count / two:6.1f}/s  {two / one - 1:+.1%}")
    for name in shares[0]:
        seconds = statistics.median(share[name] for share in shares)
        print(f"  CPU of {name:<18}  {seconds:6.1f} s  {seconds / two / 2:.1%} of two cores")


def cpu_seconds() -> dict[str, float]:
    """So far: of the workers, of Ray's own processes, and of this one."""
    found = {"the workers": 0.0, "Ray's own processes": 0.0, "the command": sum(os.times()[:2])}
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / TICKS
            if any(name in line for name in DAEMONS) and "ray" in line:
                found["Ray's own processes"] += seconds
            elif line.startswith("ray::"):
                found["the workers"] += seconds
    return found


# --- kills ----------------------------------------------------------------------------------------------------------


def kills(photos: Path, count: int, most: int, folder: Path) -> None:
    go(photos, count, folder / "one.csv", jobs=2)
    killed, runs, draw = 0, 0, random.Random(1)  # noqa: S311
    with two_nodes() as nodes:
        while killed < most:
            stop = threading.Event()

            def kill(stop: threading.Event = stop) -> None:
                nonlocal killed
                while not stop.wait(draw.uniform(4.0, 8.0)) and killed < most:
                    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
                    killed += 1
                    nodes.add_node(num_cpus=1)

            thread = threading.Thread(target=kill)
            thread.start()
            seconds = go(photos, count, folder / "many.csv", ray="", batch_size=2)
            stop.set()
            thread.join()
            runs += 1
            same = (folder / "one.csv").read_bytes() == (folder / "many.csv").read_bytes()
            print(
                f"run {runs}: {killed} nodes killed so far, {seconds:.1f} s, {'same bytes' if same else 'OTHER BYTES'}"
            )
            assert same


# --- memory ---------------------------------------------------------------------------------------------------------


def keys(count: int) -> Iterator[Photo]:
    for number in range(count):
        key = f"shard-{number // 10_000:05}/photo-{number:012}.jpg"
        yield PhotoFile(key, key.encode())


FOUND = [[Prediction(str(number), "female", 0.75, (0.75, 0.25))] for number in range(64)]


def at_once(setup: Any, work: tuple[Photo, ...], done: int, is_careful: bool) -> Iterator[Answers]:
    """Answers without a model."""
    yield Answers(FOUND[: len(work) - done], True, "a node")


class NoRay:
    """As much of Ray as `Cluster` takes, in this process."""

    @staticmethod
    def wait(streams: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return streams, []

    @staticmethod
    def get(answers: Any) -> Any:
        return answers


def memory(count: int, folder: Path, *, with_ray: bool) -> None:
    model = read_model_file(shipped_model("fp32"))
    columns = Columns(model.spec.answers, has_truth=False, has_faces=False)
    journal = Journal(folder / "preds.csv", columns, {}, 0.0)
    journal.begin(restart=False, force=False)
    if with_ray:
        with two_nodes():
            walk(bare(ray, ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(at_once)), count, journal)
    else:
        walk(bare(NoRay, SimpleNamespace(remote=at_once)), count, journal)


def bare(module: Any, task: Any) -> Cluster:
    """A cluster whose workers answer at once, of 100 cores as it believes."""
    cluster = Cluster.__new__(Cluster)
    cluster._ray, cluster._errors, cluster._task = module, ray.exceptions, task
    cluster._setup, cluster._gpus, cluster._cores = None, 0, 1  # type: ignore[assignment]
    cluster._size, cluster._looked = 100, float("inf")
    cluster.session = SimpleNamespace(batch_size=8)  # type: ignore[assignment]
    return cluster


def walk(cluster: Cluster, count: int, journal: Journal) -> None:
    began, done, told = time.perf_counter(), 0, 0
    print(f"before: {resident():.0f} MB")
    for chunk in cluster.chunks(keys(count)):
        journal.append(run._row(photo, found[0], 1, "", False) for photo, found in chunk)
        done += len(chunk)
        if done - told >= count // 5:
            told = done
            print(f"{done:>12,} photos: {resident():.0f} MB, {done / (time.perf_counter() - began):,.0f} photos/s")


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
