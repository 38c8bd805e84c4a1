"""Which groups of a recipe's keys earn their place: trains without each group and compares on validation photos.

    python benchmarks/ablation.py CELEBA --init inception_v3_faces.pt --out runs/ablation --transfer FAIRFACE

The test part is never scored. Runs are compared photo by photo (paired log-loss after temperature scaling, with its
95 % interval), since a difference of accuracies on 800 photos says little. A run that is done is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls import stats
from gendercls.answers import Answers, answers_for
from gendercls.labels import read_labels
from gendercls.labels.rules import DEFAULT_CLASSES
from gendercls.train.data import prepare
from gendercls.train.dataset import PhotoSet
from gendercls.train.events import EpochMetrics
from gendercls.train.initial import build_network
from gendercls.train.loop import Training, begin, predict, restore_last, train_epochs
from gendercls.train.network import Network
from gendercls.train.recipe import Recipe, load_recipe

GROUPS = {
    "geometry": "crop_min=1 zoom_out_probability=0 aspect=1 rotation=0 flip=0",
    "colour and quality": "brightness=0 contrast=0 saturation=0 hue=0 grey=0 blur=0 low_resolution=0 jpeg=0 erasing=0",
    "regularisation": "dropout=0 label_smoothing=0 weight_decay=0",
    "optimisation": "schedule=constant warmup_fraction=0 gradient_clip=0 ema_decay=0",
}
"""What switches a group off."""

Scores = dict[str, NDArray[np.float64]]
"""By photo: what was given to the truth, on the validation part and on the other data set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--init", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--transfer", type=Path, help="a FairFace folder: its validation rows show what carries over")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--variant", action="append", default=[], metavar="NAME:KEY=VALUE …", help="instead of groups")
    options = parser.parse_args()
    variants = {name: changes for name, _, changes in (text.partition(":") for text in options.variant)}
    variants = variants or {f"without {name}": changes for name, changes in GROUPS.items()}
    scores = {name: _over_seeds(name, changes, options) for name, changes in {"all of it": "", **variants}.items()}
    print(_table(scores))


def _over_seeds(name: str, changes: str, options: argparse.Namespace) -> Scores:
    done = []
    for seed in options.seeds:
        recipe = load_recipe(options.recipe, [*options.set, *changes.split()])
        done.append(_scores(options, recipe, options.out / f"{name.replace(' ', '-')}-{seed}", seed))
    return {key: np.concatenate([scores[key] for scores in done]) for key in done[0]}


def _scores(options: argparse.Namespace, recipe: Recipe, run: Path, seed: int) -> Scores:
    path = run / "scores.npz"
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        np.savez(path, **_train(options, recipe, run, seed))
        for state in run.glob("last*.pt"):
            state.unlink()
    with np.load(path) as stored:
        return dict(stored)


def _train(options: argparse.Namespace, recipe: Recipe, run: Path, seed: int) -> Scores:
    data = prepare(options.data, None, None, seed, recipe, lambda line: None)
    torch.manual_seed(seed)
    network, _ = build_network(
        len(data.classes), init=options.init, dropout=recipe.dropout, input_range=recipe.input_range
    )
    answers, state = answers_for(data.independent, data.names), begin(network, recipe, torch.device("cpu"))
    restore_last(state, run / "last.pt", print)

    def tell(event: object) -> None:
        if isinstance(event, EpochMetrics):
            print(f"{run.name}: {event}", flush=True)

    def keep(average: Network, _: EpochMetrics) -> None:
        torch.save(average.state_dict(), run / "best-weights.pt")

    val = data.photos("val")
    train_epochs(
        state,
        Training(
            recipe=recipe,
            answers=answers,
            train=data.photos("train"),
            val=val,
            seed=seed,
            run=run,
            report=tell,
            stop=lambda: False,
            save_best=keep,
        ),
    )
    best = state.average
    best.load_state_dict(torch.load(run / "best-weights.pt", weights_only=True))
    (run / "best-weights.pt").unlink()
    scores = {"validation": _given_to_truth(answers, best, val, recipe)}
    if options.transfer is not None:
        scores["transfer"] = _given_to_truth(answers, best, _fairface_validation(options.transfer), recipe)
    return scores


def _given_to_truth(answers: Answers, network: Network, photos: PhotoSet, recipe: Recipe) -> NDArray[np.float64]:
    logits = predict(network, photos, recipe).logits
    temperature = answers.fit_temperature(logits, photos.targets)
    return answers.probability_of_truth(answers.probabilities(logits, temperature), photos.targets)


def _fairface_validation(folder: Path) -> PhotoSet:
    labels = read_labels(folder)
    chosen = np.flatnonzero(labels.split == "val")
    targets = np.eye(2, dtype=np.int8)[labels.assign(DEFAULT_CLASSES)[chosen]]
    return PhotoSet([labels.root / labels.keys[n] for n in chosen], targets)


def _table(scores: dict[str, Scores]) -> str:
    sets = list(next(iter(scores.values())))
    heads = [f"{head} ({name})" for name in sets for head in ("accuracy", "log-loss", "paired difference [95 %]")]
    lines = [f"| recipe | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    baseline = next(iter(scores.values()))
    for name, by_set in scores.items():
        cells = []
        for key, given in by_set.items():
            accuracy = stats.wilson(int((given > 0.5).sum()), len(given))
            cells += [
                f"{100 * accuracy.value:.2f} %",
                f"{stats.log_loss(given):.4f}",
                _difference(given, baseline[key]),
            ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(given: NDArray[np.float64], baseline: NDArray[np.float64]) -> str:
    """Mean of the photos' differences in log-loss, with its normal 95 % interval; below 0 is better."""
    if given is baseline:
        return "–"
    differences = np.log(np.maximum(baseline, 1e-300)) - np.log(np.maximum(given, 1e-300))
    half = stats.Z95 * differences.std(ddof=1) / len(differences) ** 0.5
    mean = differences.mean()
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


if __name__ == "__main__":
    main()
