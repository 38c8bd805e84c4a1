"""The per-photo path stays cheap: instructions are counted, which are the same on a busy machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 535_000
"""465,000 were counted, most of them Pillow's; 15 % more is a change that someone should know of."""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_photo_costs_few_instructions_beside_the_network() -> None:
    """Listing, reading, decoding 8×8 pixels, the row and the journal, with a model that costs nothing."""
    command = [sys.executable, Path(__file__).parents[1] / "benchmarks" / "instructions.py"]
    counted = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 100_000 < counted["instructions_per_photo"] < MOST
