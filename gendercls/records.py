"""CSV records as text, so quoted that any reader gives back what was written."""

from __future__ import annotations

from collections.abc import Sequence


def to_line(fields: Sequence[str]) -> str:
    """One CSV line. Quoted wherever a field holds ``,`` ``"`` CR or LF; Python's own csv leaves a lone CR bare."""
    return ",".join(map(_quoted, fields)) + "\n"


def _quoted(field: str) -> str:
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return '"' + field.replace('"', '""') + '"'
    return field
