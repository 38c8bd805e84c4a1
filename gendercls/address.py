"""What names a file: a path on disk, or an address in a store."""

from __future__ import annotations

import re
from pathlib import Path

Address = Path | str
"""A path on disk; as text, an address in a store, where two slashes in a row count."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(argument: str) -> bool:
    """Whether it is an address in a store, as in ``s3://bucket/photos``."""
    return _URL.match(argument) is not None


def part_of(out: Path) -> Path:
    """Where the rows of an output on disk are until its run is finished."""
    return out.with_name(out.name + ".part")
