"""One training run from data to ``best.pt``: what is trained on what, and what it gave."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray

from gendercls import stats
from gendercls.errors import DeviceError, LabelError, ModelError, OutputError, UsageError
from gendercls.labels import ClassRule, Labels, read_labels
from gendercls.labels.rules import classes_to_json
from gendercls.labels.splits import PARTS, SplitMode, make_split, split_mode
from gendercls.train.checkpoint import FORMAT, load_checkpoint, save_tensors
from gendercls.train.dataset import PhotoSet, check_photos
from gendercls.train.loop import EpochMetrics, Report, begin, cpu_has_bf16, predict_logits, train_epochs
from gendercls.train.network import InitialWeights, Network, build_network
from gendercls.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the command line says. classes, split: None lets the data decide; init: imagenet, none or a path."""

    data: Path
    out: Path
    recipe: Recipe
    recipe_name: str
    classes: tuple[ClassRule, ...] | None
    init: str
    split: SplitMode | None
    seed: int
    device: str
    resume: bool


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run says: the best epoch, its temperature, and how often it was right on the test part."""

    run: Path
    best: EpochMetrics
    temperature: float
    test: stats.Rate
    test_loss: float
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Photos that can be used, with class and part. digest: SHA-256 over keys, classes, parts and contents."""

    labels: Labels
    classes: tuple[ClassRule, ...]
    mode: SplitMode
    keys: list[str]
    targets: NDArray[np.int64]
    parts: NDArray[np.str_]
    digest: str
    left_out: tuple[str, ...]

    def photos(self, part: str) -> PhotoSet:
        chosen = np.flatnonzero(self.parts == part)
        return PhotoSet([self.labels.root / self.keys[n] for n in chosen], self.targets[chosen])


def train(options: TrainOptions, report: Report, stop: Callable[[], bool]) -> TrainingResult:
    """Train, keep the best by validation, calibrate it there, and score it once on the test part.

    Raises:
        LabelError, RecipeError, ModelError, DeviceError, OutputError: nothing usable was asked for.
        InterruptedRunError: ``stop`` said so; ``--resume`` continues.
    """
    device = _device(options.device)
    _check_seed(options.seed)
    last = options.out / "last.pt"
    _check_run_folder(options, last)
    data = prepare(options, report)
    torch.manual_seed(options.seed)
    network, initial = build_network(
        len(data.classes), init=options.init, dropout=options.recipe.dropout, input_range=options.recipe.input_range
    )
    _tell_start(options, initial, device, report)
    record = _record(options, data, initial)
    _write_run_files(options, data, record)
    state = begin(network, options.recipe, device)
    if options.resume and last.exists():
        state.restore(last)
        report(f"continuing in epoch {state.epoch + 1}, step {state.step + 1}")

    def save_best(average: Network, metrics: EpochMetrics) -> None:
        save_tensors(options.out / "best.pt", _checkpoint(average, metrics, data, options, record))

    def tell(event: object) -> None:
        if isinstance(event, EpochMetrics):
            lines = [json.dumps(asdict(metrics)) for metrics in state.history]
            (options.out / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        report(event)  # type: ignore[arg-type]

    train_epochs(
        state,
        data.photos("train"),
        data.photos("val"),
        options.recipe,
        seed=options.seed,
        run=options.out,
        save_best=save_best,
        report=tell,
        stop=stop,
    )
    return _finish(options, data, network, report)


def prepare(options: TrainOptions, report: Report) -> PreparedData:
    """Read labels, form classes, find the photos, open each once, and divide them. Reports what was taken."""
    labels = read_labels(options.data)
    for note in labels.notes:
        report(note)
    report(f"licence of the data: {labels.licence}")
    classes = options.classes or labels.default_classes()
    assigned = labels.assign(classes)
    left_out: Counter[str] = Counter()
    left_out["no class rule covers them"] = int((assigned < 0).sum())
    used = np.flatnonzero(assigned >= 0)
    report(f"opening {len(used):,} photos")
    checks = check_photos([labels.root / labels.keys[n] for n in used], options.recipe.preprocessing())
    named = []
    for number, check in zip(used, checks, strict=True):
        if check.reason:
            assigned[number] = -1
            left_out[check.reason] += 1
            named.append(f"{labels.keys[number]}: {check.reason}")
    digests = dict(zip(used.tolist(), (check.digest for check in checks), strict=True))
    if not (assigned >= 0).any():
        reason, count = left_out.most_common(1)[0]
        raise LabelError(
            f"none of the {len(labels):,} labelled photos can be used: {reason} ({count:,})",
            where=str(labels.root),
            do="check that the photos lie there under the names that the labels use",
        )
    mode = split_mode(labels, options.split)
    recipe = options.recipe
    fractions = {"val_fraction": recipe.val_fraction, "test_fraction": recipe.test_fraction}
    split = make_split(labels, assigned, mode, **fractions, seed=options.seed)
    if (split == "train").sum() < 2:
        raise LabelError("the train part has one photo; two are needed", where=labels.source, do="give more photos")
    left_out["in no part of the split"] = int(((split == "") & (assigned >= 0)).sum())
    kept = np.flatnonzero(split != "")
    digest = hashlib.sha256()
    for number in kept:
        row = f"{labels.keys[number]}\0{assigned[number]}\0{split[number]}\0{digests[int(number)]}\n"
        digest.update(row.encode("utf-8", "surrogateescape"))  # a name on disk need not be UTF-8
    data = PreparedData(
        labels,
        classes,
        mode,
        [labels.keys[n] for n in kept],
        assigned[kept].astype(np.int64),
        split[kept],
        digest.hexdigest(),
        tuple(named),
    )
    _tell_data(data, left_out, report)
    return data


def _tell_data(data: PreparedData, left_out: Counter[str], report: Report) -> None:
    report("classes: " + ", ".join(f"{c.name} = {c.rule}" for c in data.classes))
    for part in PARTS:
        counts = np.bincount(data.targets[data.parts == part], minlength=len(data.classes))
        shares = ", ".join(f"{n:,} {c.name}" for n, c in zip(counts, data.classes, strict=True))
        report(f"{part}: {counts.sum():,} photos ({shares}), split {data.mode}")
    for reason, count in left_out.most_common():
        if count:
            report(f"left out: {reason} ({count:,})")
    for line in data.left_out[:5]:
        report(f"left out: {line}")


def _tell_start(options: TrainOptions, initial: InitialWeights, device: torch.device, report: Report) -> None:
    report(f"weights begin at: {initial.name}")
    if options.init == "none":
        report("random weights need far more photos and epochs than --init imagenet or --init FILE")
    if initial.not_loaded:
        shown = ", ".join(initial.not_loaded[:4]) + (" …" if len(initial.not_loaded) > 4 else "")
        report(f"not in the initial weights, so begun at random: {shown}")
    bf16 = device.type == "cpu" and options.recipe.autocast == "auto" and cpu_has_bf16()
    report(f"device: {device}{', bf16' if bf16 else ''}, {torch.get_num_threads()} threads")


def _finish(options: TrainOptions, data: PreparedData, network: Network, report: Report) -> TrainingResult:
    """Calibrate the best weights on the validation part, score them once on the test part, and write that down."""
    path = options.out / "best.pt"
    checkpoint = load_checkpoint(path)
    checkpoint["weights"] = _as_shipped(checkpoint["weights"])
    network.load_state_dict(checkpoint["weights"])
    val, test = data.photos("val"), data.photos("test")
    report("calibrating on the validation part and scoring the test part once")
    logits = predict_logits(network, val, options.recipe)
    temperature = stats.fit_temperature(logits, val.targets)
    probabilities = stats.softmax(logits, temperature)
    right = probabilities.argmax(axis=1) == val.targets
    thresholds = stats.threshold_table(probabilities.max(axis=1).round(6), right)
    logits = predict_logits(network, test, options.recipe)
    answers = logits.argmax(axis=1)
    confusion = stats.confusion_matrix(test.targets, answers, len(data.classes))
    rate = stats.wilson(int((answers == test.targets).sum()), len(test))
    test_loss = stats.log_loss(logits, test.targets, temperature)
    checkpoint["calibration"] = {"temperature": temperature, "thresholds": [asdict(row) for row in thresholds]}
    where = f"{data.labels.source}, test part of the {data.mode} split, whole photos, PyTorch"
    checkpoint["figures"] = [{"on": where, "correct": rate.count, "total": rate.total, "confusion": confusion.tolist()}]
    save_tensors(path, checkpoint)
    return TrainingResult(options.out, EpochMetrics(**checkpoint["metrics"]), temperature, rate, test_loss, confusion)


def _as_shipped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as fp16 numbers: half the file for a model and its checkpoint.

    Done before calibration and test, so that every figure is of the weights as they are kept. Norms and biases,
    which are few and span a wider range, stay float.
    """
    return {key: value.half() if value.ndim > 1 else value for key, value in weights.items()}


def _checkpoint(
    average: Network, metrics: EpochMetrics, data: PreparedData, options: TrainOptions, record: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "weights": {key: value.detach().cpu().contiguous() for key, value in average.state_dict().items()},
        "input_range": list(average.input_range),
        "classes": classes_to_json(data.classes),
        "recipe": options.recipe.to_dict(),
        "record": record,
        "metrics": asdict(metrics),
    }


def _record(options: TrainOptions, data: PreparedData, initial: InitialWeights) -> dict[str, Any]:
    """Everything beside the recipe that decided the run; plain values, kept with the weights."""
    counts = {part: int((data.parts == part).sum()) for part in PARTS}
    return {
        "recipe_name": options.recipe_name,
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


def _write_run_files(options: TrainOptions, data: PreparedData, record: dict[str, Any]) -> None:
    recipe = {"recipe": options.recipe.to_dict(), "run": record}
    path = options.out / "recipe.toml"
    if options.resume and path.exists():
        _check_same_run(path, recipe)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["path", "split", "class"])
    for key, part, target in zip(data.keys, data.parts, data.targets, strict=True):
        writer.writerow([key, part, data.classes[target].name])
    try:
        path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
        (options.out / "split.csv").write_bytes(rows.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise OutputError(
            f"the run's files cannot be written: {error}", where=str(options.out), do="check it"
        ) from None


def _check_same_run(path: Path, recipe: dict[str, Any]) -> None:
    """A run that goes on must be the run that was begun: same recipe, data, classes and seed."""
    import tomllib

    try:
        begun = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the run's recipe cannot be read: {error}", where=str(path), do="choose another --out, and begin anew"
        ) from None
    now = tomllib.loads(tomli_w.dumps(recipe))
    free = {"workers", "checkpoint_minutes"}  # speed alone
    for section, ignored in (("recipe", free), ("run", {"data_folder", "photos_folder", "recipe_name"})):
        was = begun.get(section, {})
        for key in [key for key in now[section] if key not in ignored]:
            if _differs(was.get(key), now[section][key]):
                raise ModelError(
                    f"the run was begun with another value of {key}",
                    where=f"{path} has {was.get(key)!r}, this command {now[section][key]!r}",
                    do="continue with the same options and data, or choose another --out",
                )


def _differs(was: Any, now: Any) -> bool:
    """Whether two recorded values differ; of two tables, in a key that both have, since later versions add some."""
    if isinstance(was, dict) and isinstance(now, dict):
        return any(_differs(was[key], now[key]) for key in was.keys() & now.keys())
    return bool(was != now)


def _check_run_folder(options: TrainOptions, last: Path) -> None:
    if options.resume and not options.out.is_dir():
        raise UsageError(
            "there is no run to continue", where=str(options.out), do="name the run's folder with --out RUN"
        )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the run's folder cannot be made: {error.strerror}", where=str(options.out), do="check it"
        ) from None
    if not os.access(options.out, os.W_OK):
        raise OutputError("the run's folder is not writable", where=str(options.out), do="choose another --out")
    if not options.resume and (last.exists() or (options.out / "best.pt").exists()):
        raise OutputError(
            "the folder already holds a run",
            where=str(options.out),
            do="continue it with --resume, or choose another --out",
        )


def default_run_folder(recipe_name: str) -> Path:
    """``runs/<time>-<recipe>``, in local time."""
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe_name).stem}"


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"no device {asked!r}", where="--device", do="use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"torch finds {'no such' if torch.cuda.is_available() else 'no'} CUDA device",
            where=f"--device {asked}",
            do="use --device cpu, or mend the GPU's driver",
        )
    return torch.device(asked)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:  # what numpy's and torch's generators both take
        raise UsageError(f"the seed is {seed}; it must be 0 or more", where="--seed", do="choose another")
