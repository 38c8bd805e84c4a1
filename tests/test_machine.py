"""What of the machine this process may use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gendercls.machine import available_cores


def test_cores_are_those_of_the_affinity() -> None:
    """A process that may run on one core counts one, whatever the machine has."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); import gendercls.machine as m; print(m.available_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_container_quota_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup that grants one and a half cores of time is two threads' worth, never more than the affinity."""
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "150000 100000\n")
    assert available_cores() == min(2, len(os.sched_getaffinity(0)))
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "max 100000\n")
    assert available_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "20000 100000\n")
    assert available_cores() == 1
