"""Kill `gendercls classify` with SIGKILL at random moments and continue it: python benchmarks/kills.py PHOTOS

The bytes must be those of a run that nobody disturbed. Exits with 1 when they are not.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--kills", type=int, default=10, help="how often to kill (default 10)")
    parser.add_argument("--limit", type=int, default=400, help="photos to classify (default 400)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args()
    moments = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as scratch:
        reference, killed = Path(scratch) / "reference.csv", Path(scratch) / "killed.csv"
        began = time.monotonic()
        subprocess.run(command(options, reference), check=True)
        usual = time.monotonic() - began
        kept = []
        for _ in range(options.kills):
            kill_once(command(options, killed), moments.uniform(0.1, 0.9) * usual)
            kept.append(rows_in(killed.with_name(killed.name + ".part")))
            if killed.exists():  # it was done before its moment came: again from the start
                killed.unlink()
        subprocess.run(command(options, killed), check=True)
        same = reference.read_bytes() == killed.read_bytes()
    print(f"killed {options.kills} times in runs of about {usual:.1f} s; rows kept each time: {kept}")
    print("bytes equal" if same else "BYTES DIFFER")
    sys.exit(not same)


def command(options: argparse.Namespace, out: Path) -> list[str]:
    words = ["classify", str(options.photos), "--out", str(out), "--limit", str(options.limit), "--quiet"]
    return [sys.executable, "-m", "gendercls", *words]


def kill_once(words: list[str], after: float) -> None:
    process = subprocess.Popen(words)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rows_in(part: Path) -> int:
    return max(0, part.read_bytes().count(b"\n") - 1) if part.exists() else 0


if __name__ == "__main__":
    main()
