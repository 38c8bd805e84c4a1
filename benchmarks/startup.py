"""What starting costs: python benchmarks/startup.py PHOTO

`gendercls --help` against a click program without content; `gendercls classify` of one photo against a program that
imports onnxruntime, opens a session of the shipped model and runs one batch. Whole processes, in turn; medians, and
the median of the rounds' ratios or differences.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gendercls.modelfile import shipped_models

CLICK = "import click\n@click.command()\ndef main(): pass\nmain()"
ONNXRUNTIME = """
import sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape[1:]
session.run(["probabilities"], {"images": np.zeros((1, *shape), np.uint8)})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    helps = compare([sys.executable, "-c", CLICK, "--help"], [*ours(), "--help"], options.rounds)
    ratio = statistics.median(us / bare for bare, us in helps)
    print(
        f"--help: {1000 * median(helps, 1):.0f} ms, a bare click program {1000 * median(helps, 0):.0f}, × {ratio:.2f}"
    )
    for precision, path in sorted(shipped_models().items()):
        with tempfile.TemporaryDirectory() as scratch:
            words = ["classify", str(options.photo), "--precision", precision, "--device", "cpu", "--force", "--out"]
            once = [*ours(), *words, str(Path(scratch) / "preds.csv")]
            runs = compare([sys.executable, "-c", ONNXRUNTIME, str(path)], once, options.rounds)
        difference = statistics.median(us - bare for bare, us in runs)
        print(
            f"classify of one photo, {precision}: {1000 * median(runs, 1):.0f} ms, onnxruntime alone "
            f"{1000 * median(runs, 0):.0f}, + {1000 * difference:.0f} ms"
        )


def ours() -> list[str]:
    return [sys.executable, "-m", "gendercls"]


def compare(bare: list[str], ours: list[str], rounds: int) -> list[tuple[float, float]]:
    """Seconds of both, round by round, after one of each that nobody counts."""
    seconds(bare), seconds(ours)
    return [(seconds(bare), seconds(ours)) for _ in range(rounds)]


def median(pairs: list[tuple[float, float]], which: int) -> float:
    return statistics.median(pair[which] for pair in pairs)


def seconds(words: list[str]) -> float:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as users have it
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=env)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
