"""Do the intervals of shares hold what they promise: python benchmarks/shares.py

Sets of photos are drawn at random from a population whose share is known, with probabilities that are calibrated where
half of the photos are of each class; the errors are counted on another set, and as many photos as a sheet has are
labelled by hand. How often each 95 % interval holds the truth, over many sets, and how wide it is; beside them a plain
sample of as many hand labels. What is said of a set by hand is held against the share of this very set, all else
against that of the population. In the second table photos of the first class are harder than where errors were
counted, so that what is assumed does not hold.

With --preds and --labels the sets are drawn from real photos with other shares than theirs, and the errors are those
that the model's file has: CelebA's photos against FairFace's errors. What is said of one such set comes first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import answers_for
from gendercls.preds import read_preds
from gendercls.report.labelled import label_rows
from gendercls.report.sample import draw
from gendercls.shares import HandLabels, Share, em_prior_shift, prediction_powered, rogan_gladen
from gendercls.stats import Rate, confusion_matrix, wilson

NAMES = ("first", "second")
KINDS = ("raw", "counted errors", "probabilities", "hand labels", "plain sample")
REAL_SHARES = (0.2, 0.5, 0.8)
OF_SET = ("hand labels", "plain sample")
NOTHING = Share(0.0, 0.0, 0.0)  # of errors that cannot have given these answers
Set = tuple[NDArray[np.float64], NDArray[np.int_]]


@dataclass
class Tally:
    """Over the sets of one share: how often each interval held it, and the sum of the widths."""

    held: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    width: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    sets: int = 0

    def add(self, of_population: float, of_set: float, found: dict[str, Share | Rate]) -> None:
        self.sets += 1
        for kind, share in found.items():
            self.held[kind] += share.low <= (of_set if kind in OF_SET else of_population) <= share.high
            self.width[kind] += share.high - share.low

    def row(self, share: float) -> str:
        cells = (f"{100 * self.held[k] / self.sets:.1f} % | {100 * self.width[k] / self.sets:.1f} %" for k in KINDS)
        return f"| {100 * share:.0f} % | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10_000, help="for each share (default 10000)")
    parser.add_argument("--photos", type=int, default=2000, help="in each set (default 2000)")
    parser.add_argument("--counted", type=int, default=1250, help="photos on which errors are counted (default 1250)")
    parser.add_argument("--labels-by-hand", type=int, default=200, help="in each set (default 200)")
    parser.add_argument("--preds", type=Path, help="a preds.csv of real photos")
    parser.add_argument("--labels", type=Path, help="and their labels")
    options = parser.parse_args()
    chance = np.random.default_rng(1)
    if options.preds is not None:
        alone = np.random.default_rng(1)  # so that the examples do not move what follows
        print_examples(alone, *from_photos(alone, options), REAL_SHARES, options.labels_by_hand)
        real, confusion = from_photos(chance, options)
        print_table("drawn from real photos", chance, real, lambda: confusion, REAL_SHARES, options)
        return
    for words, harder in (("as assumed", 0.0), ("the assumption broken", 1.0)):
        made = lambda share, harder=harder: made_set(chance, share, options.photos, harder)  # noqa: E731
        counted = lambda: confusion_of(*made_set(chance, 0.5, options.counted, 0.0))  # noqa: E731
        print_table(words, chance, made, counted, (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95), options)


def print_examples(
    chance: np.random.Generator,
    make: Callable[[float], Set],
    confusion: NDArray[np.int64],
    shares: tuple[float, ...],
    by_hand: int,
) -> None:
    """What is said of one set of each share, beside its own true share."""
    print("\none set each\n")
    print(f"| true share | {' | '.join(KINDS)} |")
    print("| ---: |" + " ---: |" * len(KINDS))
    for share in shares:
        probabilities, truth = make(share)
        found = intervals(chance, probabilities, truth, confusion, by_hand)
        cells = (f"{100 * each.value:.1f} % [{100 * each.low:.1f}, {100 * each.high:.1f}]" for _, each in found)
        print(f"| {100 * truth.mean():.1f} % | {' | '.join(cells)} |", flush=True)


def print_table(
    words: str,
    chance: np.random.Generator,
    make: Callable[[float], Set],
    count_errors: Callable[[], NDArray[np.int64]],
    shares: tuple[float, ...],
    options: argparse.Namespace,
) -> None:
    print(f"\n{words}, {options.sets:,} sets each\n")
    print("| true share | " + " | ".join(f"{kind} | width" for kind in KINDS) + " |")
    print("| ---: |" + " ---: | ---: |" * len(KINDS))
    for share in shares:
        tally = Tally()
        for _ in range(options.sets):
            probabilities, truth = make(share)
            found = intervals(chance, probabilities, truth, count_errors(), options.labels_by_hand)
            tally.add(share, float(truth.mean()), dict(found))
        print(tally.row(share), flush=True)


def made_set(chance: np.random.Generator, share: float, photos: int, harder: float) -> Set:
    """Probabilities ``[N, 2]`` and truth ``[N]``: two normal scores, 92 % right where half are of each class."""
    truth = (chance.random(photos) < share).astype(int)
    apart = 1.405  # the normal quantile of 0.92
    score = chance.normal(np.where(truth == 1, apart, harder - apart))
    second = 1 / (1 + np.exp(-2 * apart * score))
    return np.column_stack([1 - second, second]).round(6), truth


def confusion_of(probabilities: NDArray[np.float64], truth: NDArray[np.int_]) -> NDArray[np.int64]:
    return confusion_matrix(truth, probabilities.argmax(axis=1), 2)


def from_photos(
    chance: np.random.Generator, options: argparse.Namespace
) -> tuple[Callable[[float], Set], NDArray[np.int64]]:
    """Draws of real photos, with as many of the second class as asked, and the errors that the model's file has."""
    preds = read_preds(options.preds)
    labelled = label_rows(preds, options.labels)
    names = {name: number for number, name in enumerate(preds.answers.names)}
    known = preds.has_answer & labelled.has_truth
    truth = np.array([names.get(word, -1) for word in labelled.truth])
    of_class = [np.flatnonzero(known & (truth == number)) for number in (0, 1)]
    assert preds.record is not None
    assert preds.record.counted is not None

    def make(share: float) -> Set:
        seconds = chance.binomial(options.photos, share)
        counts = options.photos - seconds, seconds
        chosen = np.concatenate([chance.choice(of, n, replace=False) for of, n in zip(of_class, counts, strict=True)])
        return preds.probabilities[chosen], truth[chosen]

    return make, preds.record.counted


def intervals(
    chance: np.random.Generator,
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int_],
    confusion: NDArray[np.int64],
    by_hand: int,
) -> Iterator[tuple[str, Share | Rate]]:
    """Of the second class's share, by each kind."""
    answers = np.bincount(probabilities.argmax(axis=1), minlength=2)
    yield "raw", wilson(int(answers[1]), len(truth))
    corrected = rogan_gladen(answers, confusion)
    yield "counted errors", corrected[1] if corrected else NOTHING
    shifted = em_prior_shift(probabilities, confusion.sum(axis=1))
    yield "probabilities", shifted[1] if shifted else NOTHING
    sample = draw(answers_for(False, NAMES), probabilities, by_hand, int(chance.integers(2**31)))
    scores, said = probabilities[sample.rows, 1], truth[sample.rows].astype(np.float64)
    labels = HandLabels(scores, said, sample.stratum, sample.sizes.astype(np.float64))
    powered = prediction_powered(float(probabilities[:, 1].mean()), labels)
    assert powered is not None
    yield "hand labels", powered
    yield "plain sample", wilson(int(truth[chance.choice(len(truth), by_hand, replace=False)].sum()), by_hand)


if __name__ == "__main__":
    main()
