"""Kill `gendercls train` with SIGKILL at random moments and continue it.

    OMP_NUM_THREADS=1 python benchmarks/train_kills.py CELEBA --init FILE

A small run on the first photos is killed, continued, killed again. When it ends, every tensor of its best.pt and
last.pt must be that of a run that nobody disturbed, to the last bit, and its answers the same bytes; then the next such
run is begun, until all kills are done. Once last.pt is cut in half as well: the state before it must be used. Exits
with 1 when anything differs. With several threads the order of sums, and so their last bits, may differ by themselves.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendercls.labels import read_labels
from gendercls.train.checkpoint import load_tensors, previous

CHANGES = ("size=75", "epochs=3", "batch_size=32", "workers=2", "checkpoint_minutes=0.06")
ANSWERS = "predictions.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="CelebA")
    parser.add_argument("--init", required=True, help="where the weights begin: none, imagenet or a file")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="change one key of the recipe")
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (default 20)")
    parser.add_argument("--limit", type=int, default=400, help="photos in the run (default 400)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args()
    moments = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "photos"
        gather(options.photos, data, options.limit)
        reference = Run(data, Path(scratch) / "reference", options)
        began = time.monotonic()
        reference.go_on()
        usual = time.monotonic() - began
        print(f"undisturbed: {usual:.0f} s", flush=True)
        finished = kill_and_compare(data, Path(scratch), reference, usual, moments, options)
    print(f"killed {options.kills} times in {finished} runs: every weight and answer as undisturbed")


def kill_and_compare(
    data: Path, scratch: Path, reference: Run, usual: float, moments: random.Random, options: argparse.Namespace
) -> int:
    """Kill and continue until the kills are done and the last run has ended. Returns the number of runs."""
    kills = finished = 0
    is_cut = False
    while kills < options.kills:
        run = Run(data, scratch / f"killed-{finished}", options)
        while True:
            after = moments.uniform(0.05, 0.6) * usual if kills < options.kills else None
            if not run.go_on(after):
                break
            kills += 1
            kept = run.saved_states()
            print(f"kill {kills} after {after:.1f} s; began {run.said()}; states saved: {kept}", flush=True)
            if not is_cut and kills >= options.kills // 2 and kept == 2:
                is_cut = True
                run.cut_last_state()
        finished += 1
        print(f"run {finished} ended; its last process began {run.said()}", flush=True)
        if differences := list(run.differences(reference)):
            sys.exit("DIFFERS: " + ", ".join(differences[:5]))
        run.remove()
    if not is_cut:
        sys.exit("no kill left two saved states, so none was damaged: give more kills")
    return finished


class Run:
    """One run of `gendercls train`, in as many processes as it takes."""

    def __init__(self, data: Path, out: Path, options: argparse.Namespace) -> None:
        self.out = out
        self.out.mkdir()
        self.log = out.with_suffix(".log")
        words = ["train", str(data), "--out", str(out), "--init", options.init, "--device", "cpu", "--resume"]
        for change in (*CHANGES, *options.changes):
            words += ["--set", change]
        self.command = [sys.executable, "-m", "gendercls", *words]

    def go_on(self, kill_after: float | None = None) -> bool:
        """Begin or continue the run; whether it was killed, ``kill_after`` seconds later, before it ended."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(self.command, stdout=log, stderr=log)
            try:
                status = process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()  # the main process alone: its workers find that out by themselves
                process.wait()
                return True
        if status:
            sys.exit(f"the run failed:\n{self.log.read_text(encoding='utf-8', errors='replace')}")
        return False

    def said(self) -> str:
        """Where the last process began, in its words."""
        notes = re.findall(
            r"(?:not used|continuing from)[^\n]*", self.log.read_text(encoding="utf-8", errors="replace")
        )
        return "; ".join(note.replace(str(self.out), "RUN") for note in notes) or "without a note of an earlier state"

    def saved_states(self) -> int:
        """How many states the run could continue from, 0 to 2."""
        return sum(path.exists() for path in (self.out / "last.pt", previous(self.out / "last.pt")))

    def cut_last_state(self) -> None:
        last = self.out / "last.pt"
        os.truncate(last, last.stat().st_size // 2)
        print("cut last.pt in half", flush=True)

    def differences(self, reference: Run) -> Iterator[str]:
        """What is not as in the other run; of states and checkpoints their tensors, since they hold times as well."""
        for name in ("best.pt", "last.pt"):
            mine, theirs = tensors(load_tensors(self.out / name)), tensors(load_tensors(reference.out / name))
            if mine.keys() != theirs.keys():
                yield f"{name}: the names of its tensors"
            for key in mine.keys() & theirs.keys():
                if not same_bits(mine[key], theirs[key]):
                    yield f"{name}: {key}"
        if (self.out / ANSWERS).read_bytes() != (reference.out / ANSWERS).read_bytes():
            yield ANSWERS

    def remove(self) -> None:
        shutil.rmtree(self.out)


def gather(source: Path, folder: Path, count: int) -> None:
    """A folder of the source's first photos and a label file of theirs."""
    labels = read_labels(source)
    (folder / "photos").mkdir(parents=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "Male"])
        for key, male in zip(labels.keys[:count], labels.flags["Male"][:count].tolist(), strict=True):
            name = Path(key).name
            shutil.copyfile(labels.root / key, folder / "photos" / name)
            writer.writerow([f"photos/{name}", 1 if male == 1 else -1])


def tensors(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested dictionaries and lists, by their path."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {path: value for key, inner in items for path, value in tensors(inner, f"{name}/{key}").items()}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal to the bit; unlike numbers, a NaN is equal to itself and 0.0 is not -0.0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    as_bytes = [value.contiguous().reshape(-1).view(torch.uint8).numpy() for value in (one, other)]
    return bool(np.array_equal(*as_bytes))


if __name__ == "__main__":
    main()
