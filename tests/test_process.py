"""How a guarded command ends: at once, with all that it wrote and its own status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLOSED = {"stdout": (">&-",), "stderr": ("2>&-",), "both": (">&-", "2>&-")}


@pytest.fixture
def words(null_model: Path, tmp_path: Path) -> list[str]:
    """A command on one file, which is no photo; it tells as JSON too."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no photo")
    words = ["classify", str(tmp_path / "photos"), "--out", str(tmp_path / "o.csv"), "--model", str(null_model)]
    return [sys.executable, "-m", "gendercls", *words, "--device", "cpu", "--json"]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_streams_are_no_fault(words: list[str], closed: str, tmp_path: Path) -> None:
    """As a daemon has them: the rows are there, and nothing is said where it can be."""
    shell = ["sh", "-c", f'exec "$@" {" ".join(CLOSED[closed])}', "sh", *words]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 2
    assert "Traceback" not in done.stdout + done.stderr


def test_all_that_was_written_comes(words: list[str]) -> None:
    """Through a pipe, which is written to in blocks; and its own status."""
    done = subprocess.run([*words, "--strict"], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["failed"] == 1
    assert "1 photo failed" in done.stderr
