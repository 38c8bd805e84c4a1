"""Records as text: what is read back is what was written."""

from __future__ import annotations

import csv
import io
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gendercls.records import to_line, without_nan


@given(st.lists(st.text(alphabet=st.sampled_from('a ,"\r\n=;é'), max_size=6), min_size=2, max_size=5))
def test_a_line_is_read_back(fields: list[str]) -> None:
    """Whatever the fields hold, a lone CR too, Python's own reader gives the same fields back, as one record."""
    assert list(csv.reader(io.StringIO(to_line(fields), newline=""), strict=True)) == [fields]


def test_a_share_of_nothing_is_null() -> None:
    """NaN becomes null at any depth, and nothing else changes, so that strict JSON takes it."""
    value = {"a": [1.5, math.nan, {"b": math.nan}], "c": "nan", "d": True}
    plain = without_nan(value)
    assert plain == {"a": [1.5, None, {"b": None}], "c": "nan", "d": True}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
