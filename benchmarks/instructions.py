"""How many instructions a photo costs beside decoding and network: python benchmarks/instructions.py

Callgrind counts those of `gendercls classify` of some photos and of many, tiny ones and with a model that costs
nothing; the difference is what a photo costs. Counts, unlike seconds, hardly differ from run to run. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from null_model import null_model
from PIL import Image

SIDE = 8  # pixels
FEW, MANY = 64, 320
COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")
# Each command in a process of its own, which is forked when all that they share has been loaded and counted: to load it
# is most of the work.
TYPED = """
import json, os, sys
import gendercls.classify.run, gendercls.classify.session, gendercls.console.classified
from gendercls.cli import main
for words in map(json.loads, sys.argv[1:]):
    child = os.fork()
    if child == 0:
        sys.argv[1:] = words
        main()
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "null.onnx").write_bytes(null_model(SIDE))
        few, many = instructions([command(Path(scratch), count) for count in (FEW, MANY)])
    print(json.dumps({"instructions_per_photo": (many - few) // (MANY - FEW), "instructions_to_start": few}))


def command(scratch: Path, count: int) -> list[str]:
    """To classify that many photos, in one thread so that the order of things is the same."""
    photos = scratch / f"{count}"
    photos.mkdir()
    for number in range(count):
        Image.new("RGB", (SIDE, SIDE), (number % 256, 0, 0)).save(photos / f"{number:03}.bmp")
    words = ["classify", str(photos), "--out", str(scratch / f"{count}.csv"), "--model", str(scratch / "null.onnx")]
    return [*words, "--jobs", "1", "--device", "cpu", "--quiet"]


def instructions(commands: list[list[str]]) -> list[int]:
    """Of the process that classifies, for each command, with those that loaded what it needs."""
    counter = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*counter, sys.executable, "-c", TYPED, *map(json.dumps, commands)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    counts = COLLECTED.findall(done.stderr)  # as they end: of each command first who works, then its guard
    if done.returncode != 0 or len(counts) != 2 * len(commands) + 1:
        sys.exit(f"valgrind failed:\n{done.stderr[-2000:]}")
    return [int(count) for count in counts[: 2 * len(commands) : 2]]


if __name__ == "__main__":
    main()
