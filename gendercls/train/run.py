"""One training run from data to ``best.pt``."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendercls.answers import answers_for
from gendercls.errors import GenderclsError, LabelError, RecipeError, UsageError
from gendercls.labels.rules import classes_to_json
from gendercls.labels.splits import PARTS, SplitMode
from gendercls.train.cache import Form, check_cache_folder, fill_cache, open_cache
from gendercls.train.checkpoint import FORMAT, save_tensors
from gendercls.train.data import Classes, PreparedData, prepare, split_rows
from gendercls.train.dataset import PhotoSet, evaluation_loader
from gendercls.train.device import choose_device
from gendercls.train.events import EpochMetrics, Report
from gendercls.train.folder import check_run_folder, write_metrics, write_run_files
from gendercls.train.initial import InitialWeights, build_network
from gendercls.train.loop import Training, begin, restore_last, train_epochs
from gendercls.train.network import Network
from gendercls.train.optimize import autocast_kind
from gendercls.train.parallel import Ranks, joined
from gendercls.train.recipe import Recipe
from gendercls.train.result import TrainingResult, finish
from gendercls.train.tensorboard import event_writer
from gendercls.train.unfold import measure_norms

_MEASURED_PHOTOS = 256


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the command line says.

    split: None lets the data decide; init: imagenet, none or a path; cache: a folder for decoded photos.
    """

    data: Path
    out: Path
    recipe: Recipe
    recipe_name: str
    classes: Classes
    init: str
    split: SplitMode | None
    seed: int
    device: str
    resume: bool
    cache: Path | None = None


def train(options: TrainOptions, report: Report, stop: Callable[[], bool]) -> TrainingResult:
    """Train, keep the best by validation, calibrate it there, and score it once on the test part.

    Under torchrun the processes train together; the leading one alone reports and writes.

    Raises:
        LabelError, RecipeError, ModelError, DeviceError, OutputError: nothing usable was asked for.
        InterruptedRunError: ``stop`` said so; ``--resume`` continues.
    """
    _check_seed(options.seed)
    choose_device(options.device)
    with joined(options.device) as (ranks, device):
        try:
            return _train(options, ranks, choose_device(device), report if ranks.leads else _say_nothing, stop)
        except GenderclsError:
            with suppress(OSError):  # unless something was left there
                options.out.rmdir()
            raise


def _train(
    options: TrainOptions, ranks: Ranks, device: torch.device, report: Report, stop: Callable[[], bool]
) -> TrainingResult:
    recipe = options.recipe
    _check_batch(recipe, ranks)
    ranks.share(lambda: check_run_folder(options.out, options.resume))
    data = ranks.share(lambda: prepare(options.data, options.classes, options.split, options.seed, recipe, report))
    if options.cache is not None:
        check_cache_folder(options.cache, [options.data, data.labels.root])
    if len(data.photos("train")) < ranks.world:
        raise LabelError(
            f"{ranks.world} processes cannot share {len(data.photos('train'))} photos",
            where=data.labels.source,
            do="start fewer processes, or give more photos",
        )
    torch.manual_seed(options.seed)
    network, initial = build_network(
        len(data.classes), init=options.init, dropout=recipe.dropout, input_range=recipe.input_range
    )
    record = _record(options, data, initial)
    ranks.share(lambda: write_run_files(options.out, recipe.to_dict(), record, split_rows(data), options.resume))
    _tell_start(options, initial, device, ranks, report)
    if initial.is_folded:
        measure_norms(network.to(device), _some_batches(data.photos("train"), recipe))
    state = begin(network, recipe, device)
    if options.resume:
        restore_last(state, options.out / "last.pt", report)
    write_event = event_writer(options.out, state.epoch) if ranks.leads else _say_nothing

    def save_best(average: Network, metrics: EpochMetrics) -> None:
        save_tensors(options.out / "best.pt", _checkpoint(average, metrics, data, options, record))

    def tell(event: object) -> None:
        if isinstance(event, EpochMetrics) and ranks.leads:
            write_metrics(options.out, state.history)
            write_event(event)
        report(event)  # type: ignore[arg-type]

    photos = {part: _photos(part, data, options, ranks, report, stop) for part in PARTS}
    training = Training(
        recipe=recipe,
        answers=answers_for(data.independent, data.names),
        train=photos["train"],
        val=photos["val"],
        seed=options.seed,
        run=options.out,
        report=tell,
        stop=stop,
        save_best=save_best,
        ranks=ranks,
    )
    train_epochs(state, training)
    ranks.gather(None)  # best.pt is there once the leading process is
    return finish(options.out, data, photos, state.average, recipe, ranks, report)


def _some_batches(photos: PhotoSet, recipe: Recipe) -> Iterator[Tensor]:
    """A few hundred photos, evenly from the first to the last."""
    some = photos.share(0, max(1, len(photos) // _MEASURED_PHOTOS))
    return (images for images, _ in evaluation_loader(some, recipe.preprocessing(), recipe.workers))


def _photos(
    part: str, data: PreparedData, options: TrainOptions, ranks: Ranks, report: Report, stop: Callable[[], bool]
) -> PhotoSet:
    """The photos of a part; with a cache, those that it lacks are decoded into it first."""
    photos, digests = data.photos(part), data.digests_of(part)
    folder, recipe = options.cache, options.recipe
    if folder is None:
        return photos
    form: Form = "views" if part == "train" else "evaluation"
    ranks.share(lambda: fill_cache(folder, photos.paths, digests, recipe, form, report, stop))
    return replace(photos, cached=open_cache(folder, digests, recipe, form))


def _tell_start(
    options: TrainOptions, initial: InitialWeights, device: torch.device, ranks: Ranks, report: Report
) -> None:
    report(f"weights begin at: {initial.name}")
    if options.init == "none":
        report("random weights need far more photos and epochs than --init imagenet or --init FILE")
    if initial.not_loaded:
        shown = ", ".join(initial.not_loaded[:4]) + (" …" if len(initial.not_loaded) > 4 else "")
        report(f"not in the initial weights, so begun at random: {shown}")
    precision = {torch.bfloat16: ", bf16", torch.float16: ", fp16"}.get(autocast_kind(device, options.recipe), "")  # type: ignore[arg-type]
    processes = f"{ranks.world} processes of " if ranks.world > 1 else ""
    report(f"device: {device}{precision}, {processes}{torch.get_num_threads()} threads")


def _checkpoint(
    average: Network, metrics: EpochMetrics, data: PreparedData, options: TrainOptions, record: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "weights": {key: value.detach().cpu().contiguous() for key, value in average.state_dict().items()},
        "input_range": list(average.input_range),
        "classes": classes_to_json(data.classes),
        "independent": data.independent,
        "recipe": options.recipe.to_dict(),
        "record": record,
        "metrics": asdict(metrics),
    }


def _record(options: TrainOptions, data: PreparedData, initial: InitialWeights) -> dict[str, Any]:
    """Everything beside the recipe that decided the run; plain values, kept with the weights."""
    counts = {part: int((data.parts == part).sum()) for part in PARTS}
    return {
        "recipe_name": Path(options.recipe_name).name,  # where a file of it lies is nobody's business
        "seed": options.seed,
        "data": data.labels.source,
        "data_licence": data.labels.licence,
        "data_folder": str(options.data.resolve()),
        "photos_folder": str(data.labels.root.resolve()),
        "split": data.mode,
        "classes": [f"{c.name}={c.rule}" for c in data.classes],
        "init": initial.to_dict(),
        "versions": {name: version(name) for name in ("gendercls", "torch", "torchvision", "numpy", "pillow")},
        "python": platform.python_version(),
        # Last, since another seed, split or class changes these too: a run that differs is told by its cause.
        "photos": counts,
        "data_digest": data.digest,
    }


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:  # what numpy's and torch's generators both take
        raise UsageError(f"the seed is {seed}; it must be 0 or more", where="--seed", do="choose another")


def _check_batch(recipe: Recipe, ranks: Ranks) -> None:
    if recipe.batch_size % ranks.world:
        raise RecipeError(
            f"batch_size = {recipe.batch_size} cannot be shared evenly by {ranks.world} processes",
            where="torchrun --nproc-per-node",
            do=f"--set batch_size={max(1, recipe.batch_size // ranks.world) * ranks.world}",
        )


def _say_nothing(_: object) -> None:
    """What the other processes have to say, the leading one says."""
