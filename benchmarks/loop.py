"""How near the training loop comes to the bare network: python benchmarks/loop.py --photos CELEBA --init FILE

The bare network does forward, backward and optimizer step on tensors that are in memory already. The loop does the same
on real photos, and everything else: reading, decoding, augmentation, clipping, the running average. It runs once with
photos decoded each time and once from a cache. All run in this one process, in turn, with the same recipe, threads and
precision, so the ratios hold on a noisy machine. Opening photos, filling the cache and starting workers do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gendercls.answers import answers_for
from gendercls.errors import InterruptedRunError
from gendercls.train.cache import fill_cache, open_cache
from gendercls.train.data import prepare
from gendercls.train.dataset import EpochBatches, PhotoSet, training_loader
from gendercls.train.events import Step
from gendercls.train.initial import build_network
from gendercls.train.loop import Training, TrainingState, begin, train_epochs
from gendercls.train.optimize import autocast, autocast_kind
from gendercls.train.recipe import Recipe, load_recipe

WARM_UP = 8  # steps: what the workers have prepared while the network waited for the first batch
MEMORY_EVERY = 10  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="labelled photos, as gendercls train takes them")
    parser.add_argument("--init", required=True, help="where the weights begin: none, imagenet or a file")
    parser.add_argument("--recipe", default="default", help="a recipe's name or file (default: default)")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="change one key of the recipe")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--steps", type=int, default=40, help="steps that are counted, each time (default 40)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn (default 3)")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, [*options.changes, "checkpoint_minutes=1000"])
    device = torch.device(options.device)
    data = prepare(options.photos, None, None, 1, recipe, lambda line: print(line, file=sys.stderr))
    photos = data.photos("train")
    if WARM_UP + options.steps > len(photos) // recipe.batch_size:
        parser.error(f"--steps: an epoch of {len(photos):,} photos has too few; give less, or a smaller batch_size")
    network, _ = build_network(
        len(data.names), init=options.init, dropout=recipe.dropout, input_range=recipe.input_range
    )
    state = begin(network, recipe, device)
    with tempfile.TemporaryDirectory() as scratch:
        digests = [digest for digest, part in zip(data.digests, data.parts, strict=True) if part == "train"]
        began = time.monotonic()
        fill_cache(Path(scratch) / "cache", photos.paths, digests, recipe, "views", lambda line: None)
        filling = time.monotonic() - began
        cached = PhotoSet(photos.paths, photos.targets, open_cache(Path(scratch) / "cache", digests, recipe, "views"))
        runs: dict[str, Callable[[], tuple[float, int]]] = {
            "bare": lambda: bare_rate(state, photos, recipe, device, options.steps),
            "decoding": lambda: loop_rate(state, photos, data.names, recipe, Path(scratch), options.steps),
            "cached": lambda: loop_rate(state, cached, data.names, recipe, Path(scratch), options.steps),
        }
        results: dict[str, list[tuple[float, int]]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                results[name].append(run())
                print(f"{name}: {results[name][-1][0]:.1f} photos/s", file=sys.stderr)
    figures = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": str(autocast_kind(device, recipe) or torch.float32).removeprefix("torch."),
        "batch_size": recipe.batch_size,
        "workers": recipe.workers,
        "steps": options.steps,
        "photos": len(photos),
        "seconds_to_fill_the_cache": round(filling, 2),
        "photos_per_second": {name: round(statistics.median(rates(found)), 1) for name, found in results.items()},
        "ratio_to_bare": {name: ratio(results[name], results["bare"]) for name in ("decoding", "cached")},
        "ratios": {name: ratios(results[name], results["bare"]) for name in ("decoding", "cached")},
        "peak_megabytes_with_workers": {name: max(m for _, m in found) // 2**20 for name, found in results.items()},
    }
    print(json.dumps(figures, indent=2))


def bare_rate(
    state: TrainingState, photos: PhotoSet, recipe: Recipe, device: torch.device, steps: int
) -> tuple[float, int]:
    """Photos per second of the network alone, and bytes in use. The batches are real views, prepared before."""
    batches = EpochBatches(len(photos), recipe.batch_size, seed=1)
    loader = training_loader(photos, recipe, 1, batches)
    ready = [(images.to(device), targets.to(device)) for (images, targets), _ in zip(loader, range(4), strict=False)]
    network = state.network.train()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            began = time.monotonic()
        images, targets = ready[step % len(ready)]
        with autocast(device, recipe):
            logits = network(images)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets.float())
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        loss.item()  # a GPU is waited for, as the loop does
    return steps * batches.batch_size / (time.monotonic() - began), memory()


def loop_rate(
    state: TrainingState, photos: PhotoSet, names: list[str], recipe: Recipe, scratch: Path, steps: int
) -> tuple[float, int]:
    """Photos per second of gendercls's loop from the start of an epoch, and the most bytes in use."""
    state.epoch = state.step = 0
    times: list[float] = []
    used: list[int] = []

    def report(event: object) -> None:
        if isinstance(event, Step):
            if len(times) % MEMORY_EVERY == 0:
                used.append(memory())
            times.append(time.monotonic())

    training = Training(
        recipe=recipe,
        answers=answers_for(False, names),
        train=photos,
        val=PhotoSet([], photos.targets[:0]),
        seed=1,
        run=scratch,
        report=report,
        stop=lambda: len(times) + 1 >= WARM_UP + steps,
        save_best=lambda network, metrics: None,
    )
    with contextlib.suppress(InterruptedRunError):  # it was asked for
        train_epochs(state, training)
    return steps * recipe.batch_size / (times[-1] - times[WARM_UP - 1]), max(used)


def memory() -> int:
    """Bytes of memory of this process and its workers; pages that several of them share are counted once."""
    processes = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    texts = [Path(f"/proc/{name}/smaps_rollup").read_text(encoding="ascii") for name in processes]
    return sum(int(line.split()[1]) * 1024 for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def rates(found: Sequence[tuple[float, int]]) -> list[float]:
    return [rate for rate, _ in found]


def ratios(found: Sequence[tuple[float, int]], bare: Sequence[tuple[float, int]]) -> list[float]:
    """Each round's rate over the bare network's in the same round."""
    return [round(one / other, 3) for one, other in zip(rates(found), rates(bare), strict=True)]


def ratio(found: Sequence[tuple[float, int]], bare: Sequence[tuple[float, int]]) -> float:
    return statistics.median(ratios(found, bare))


if __name__ == "__main__":
    main()
