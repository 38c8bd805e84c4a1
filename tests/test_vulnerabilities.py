"""The check for known vulnerabilities: one fails it, a network that is not there does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
# In place of pip-audit: what is said of the release that has vulnerabilities, and of all that is asked about.
PIP_AUDIT = """
import pathlib, sys
asked = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).read_text()
print({control!r} if asked == "pillow==9.0.0\\n" else {answers!r})
print("gone", file=sys.stderr)
"""
KNOWN = {"name": "pillow", "version": "9.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.1", "10.0"]}]}
SOUND = {"name": "numpy", "version": "2.4", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "not found"}
REAL = json.dumps({"dependencies": [KNOWN]})
NOT_LOOKED_UP = "vulnerabilities were not looked up: "


@pytest.mark.parametrize(
    ("control", "answers", "status", "said"),
    [
        (REAL, json.dumps({"dependencies": [SOUND, KNOWN]}), 1, "pillow 9.0 has PYSEC-1, mended in 9.1, 10.0\n1 known"),
        (REAL, json.dumps({"dependencies": [SOUND, SKIPPED]}), 0, "0 known"),
        (REAL, "", 0, f"{NOT_LOOKED_UP}pip-audit: gone"),
        (json.dumps({"dependencies": [SKIPPED]}), REAL, 0, f"{NOT_LOOKED_UP}who was asked knows none"),
        ("", REAL, 0, f"{NOT_LOOKED_UP}pip-audit: gone"),
    ],
    ids=["known", "none", "breaks off", "a mirror", "no network"],
)
def test_a_known_vulnerability_fails_the_check(
    tmp_path: Path, control: str, answers: str, status: int, said: str
) -> None:
    """One that is reported ends it with 1 and is named; what cannot be looked up is said, and ends it with 0."""
    (tmp_path / "pip_audit.py").write_text(PIP_AUDIT.format(control=control, answers=answers))
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, SCRIPT], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith(said)
