"""How many instructions a photo costs beside decoding and network: python benchmarks/instructions.py

Callgrind counts those of a whole `gendercls classify` of some photos and of many, tiny ones and with a model that costs
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from null_model import null_model
from PIL import Image

SIDE = 8  # pixels
FEW, MANY = 64, 320
COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "null.onnx"
        model.write_bytes(null_model(SIDE))
        with ThreadPoolExecutor(2) as pool:  # counts do not depend on what else runs
            few, many = pool.map(lambda count: instructions(Path(scratch), model, count), (FEW, MANY))
    print(json.dumps({"instructions_per_photo": (many - few) // (MANY - FEW), "instructions_to_start": few}))


def instructions(scratch: Path, model: Path, count: int) -> int:
    """Of one process that classifies that many photos, in one thread so that the order of things is the same."""
    photos = scratch / f"{count}"
    photos.mkdir()
    for number in range(count):
        Image.new("RGB", (SIDE, SIDE), (number % 256, 0, 0)).save(photos / f"{number:03}.bmp")
    words = ["classify", str(photos), "--out", str(scratch / f"{count}.csv"), "--model", str(model), "--jobs", "1"]
    counter = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*counter, sys.executable, "-m", "gendercls", *words, "--device", "cpu", "--quiet"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = COLLECTED.search(done.stderr)
    if done.returncode != 0 or found is None:
        sys.exit(f"valgrind failed:\n{done.stderr[-2000:]}")
    return int(found[1])


if __name__ == "__main__":
    main()
