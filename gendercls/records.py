"""Records as text that any reader gives back as they were written: CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of one."""


def defused(word: str) -> str:
    """A word that a spreadsheet would take for a formula gets a leading ``'``."""
    # A word that has such quotes already gets one more, so that taking one away always gives the word back.
    return "'" + word if word.lstrip("'").startswith(FORMULA) else word


def plain(word: str) -> str:
    """The word that was defused."""
    return word[1:] if word.startswith("'") and word.lstrip("'").startswith(FORMULA) else word


def to_line(fields: Sequence[str]) -> str:
    """One CSV line. Quoted wherever a field holds ``,`` ``"`` CR or LF; Python's own csv leaves a lone CR bare."""
    return ",".join(map(_quoted, fields)) + "\n"


def _quoted(field: str) -> str:
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return '"' + field.replace('"', '""') + '"'
    return field


def without_nan(value: Any) -> Any:
    """The same plain value for JSON, which has no NaN: a share of nothing is null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
