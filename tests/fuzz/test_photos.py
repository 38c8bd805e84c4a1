"""Damaged photos of every format: a row each, no crash, nothing that never ends. benchmarks/fuzz.py does many more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path


def test_every_damaged_photo_has_its_row(
    celeba: Path, run_benchmark: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Some keep an answer, most have a reason, and all formats are among them."""
    done = run_benchmark("fuzz.py", celeba / "img_align_celeba", "--files", 1500, "--seed", 11)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["files"], said["rows"], said["without_a_row"], said["crashed_or_never_ended"]) == (1500, 1500, 0, 0)
    assert min(said["reasons"]["an answer"], said["reasons"]["damaged photo"]) > 100
