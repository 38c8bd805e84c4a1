"""Do the intervals of shares hold what they promise: python benchmarks/coverage.py

Sets of photos are made whose true share is known, and classified at random with errors that are known; the confusion
is counted on another set. How often each 95 % interval holds the truth, over many sets, and how wide it is. Raw shares
are shown to see what is corrected. In the last two columns the errors among the photos are not those that were counted,
but twice as frequent in one class: what the corrected interval is worth where its assumption is broken.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from gendercls.shares import rogan_gladen
from gendercls.stats import wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10_000, help="for each row (default 10000)")
    parser.add_argument("--photos", type=int, default=5000, help="in each set (default 5000)")
    parser.add_argument("--counted", type=int, default=1250, help="photos of the confusion (default 1250)")
    parser.add_argument("--recall", type=float, nargs=2, default=[0.92, 0.92], help="of both classes (default 0.92)")
    options = parser.parse_args()
    chance = np.random.default_rng(1)
    recall = np.array(options.recall)
    worse = recall - np.array([1 - recall[0], 0])
    print("| true share | raw | width | corrected | width | raw, assumption broken | corrected, broken |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for percent in (5, 10, 25, 50, 75, 90, 95):
        as_assumed = held(chance, percent / 100, recall, recall, options)
        broken = held(chance, percent / 100, recall, worse, options)
        cells = [as_assumed[0], as_assumed[1], as_assumed[2], as_assumed[3], broken[0], broken[2]]
        print(f"| {percent} % | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |", flush=True)


def held(
    chance: np.random.Generator,
    share: float,
    counted: NDArray[np.float64],
    here: NDArray[np.float64],
    options: argparse.Namespace,
) -> tuple[float, float, float, float]:
    """Coverage and mean width of the raw interval, then of the corrected one, for the second class's share."""
    raw_held = corrected_held = 0
    raw_width = corrected_width = 0.0
    for _ in range(options.sets):
        second = chance.binomial(options.photos, share)
        answered = chance.binomial(second, here[1]) + chance.binomial(options.photos - second, 1 - here[0])
        seconds = chance.binomial(options.counted, 0.5)
        right = chance.binomial([options.counted - seconds, seconds], counted)
        confusion = np.array([[right[0], options.counted - seconds - right[0]], [seconds - right[1], right[1]]])
        raw = wilson(answered, options.photos)
        shares = rogan_gladen(np.array([options.photos - answered, answered]), confusion)
        assert shares is not None
        raw_held += raw.low <= share <= raw.high
        corrected_held += shares[1].low <= share <= shares[1].high
        raw_width += raw.high - raw.low
        corrected_width += shares[1].high - shares[1].low
    sets = options.sets
    return raw_held / sets, raw_width / sets, corrected_held / sets, corrected_width / sets


if __name__ == "__main__":
    main()
