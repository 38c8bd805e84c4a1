"""The per-photo path stays cheap: instructions are counted, which are the same on a busy machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest

MOST = 535_000
"""474,500 were counted, most of them Pillow's; an eighth more is a change that someone should know of."""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_photo_costs_few_instructions_beside_the_network(
    run_benchmark: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Listing, reading, decoding 8×8 pixels, the row and the journal, with a model that costs nothing."""
    done = run_benchmark("instructions.py")
    assert done.returncode == 0, done.stderr
    assert 100_000 < json.loads(done.stdout)["instructions_per_photo"] < MOST
