"""How whole files are damaged, and how long is looked: `pytest tests/fuzz --hypothesis-profile=long` takes hours."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

DamagedText = Callable[[bytes], SearchStrategy[bytes]]
DamagedJson = Callable[[Any], SearchStrategy[bytes]]

settings.register_profile("long", max_examples=20_000, deadline=None)


@pytest.fixture(scope="session")
def damaged_text() -> DamagedText:
    """``damaged_text(whole)``: the lines of a file with bytes, fields or lines changed, or in another encoding."""
    return _damaged_text


@pytest.fixture(scope="session")
def damaged_json() -> DamagedJson:
    """``damaged_json(value)``: as JSON with keys gone, doubled or new, and with values of other kinds; or damaged."""
    return _damaged_json


# --- lines ------------------------------------------------------------------------------------------------------

_NUMBERS = ("1e309", "NaN", "inf", "-0", "-1", "0x1", "1_0", "1.0", "9" * 400, "9" * 5000, str(2**63), "²", "٣")
_MARKS = ("", "\0", "\ufeff", "\r", "\n", "\r\n", "\n\n", '"', '""', ",", ",,", " ", "\t", "\v", "\x1c", "\x85", "\xa0")
_WORDS = ("\u2028", "=", "'", "-", "./", "../", "/", "|", "&", "!", "(", "undetermined", "x" * 140_000, "\x1b[2J")
_PIECES = [word.encode() for word in (*_NUMBERS, *_MARKS, *_WORDS)] + [b"\xff", b"\xc3", b"\xed\xa0\x80"]
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")


def _flip(draw: DrawFn, content: bytes) -> bytes:
    at = draw(st.integers(0, len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]


def _insert(draw: DrawFn, content: bytes) -> bytes:
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.sampled_from(_PIECES)) + content[at:]


def _cut(draw: DrawFn, content: bytes) -> bytes:
    return content[: draw(st.integers(0, len(content)))]


def _zero(draw: DrawFn, content: bytes) -> bytes:
    """As blocks that were promised and not yet written when the power went."""
    begin, length = draw(st.integers(0, len(content))), draw(st.sampled_from((1, 16, 64)))
    return content[:begin] + bytes(len(content[begin : begin + length])) + content[begin + length :]


def _line(draw: DrawFn, content: bytes) -> bytes:
    """One line doubled, gone, joined with the next, or in the place of another."""
    lines = content.splitlines(keepends=True)
    at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    match draw(st.sampled_from(("double", "remove", "join", "exchange", "overwrite"))):
        case "double":
            lines.insert(other, lines[at])
        case "remove":
            del lines[at]
        case "join":
            lines[at] = lines[at].rstrip(b"\r\n")
        case "exchange":
            lines[at], lines[other] = lines[other], lines[at]
        case "overwrite":
            lines[at] = lines[other]
    return b"".join(lines)


def _field(draw: DrawFn, content: bytes) -> bytes:
    """One field doubled, gone, something else, or in the place of another in its line."""
    lines = content.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    fields = re.split(rb"([, \r\n]+)", lines[number])  # and what separates them
    places = range(0, len(fields), 2)
    at, other = draw(st.sampled_from(places)), draw(st.sampled_from(places))
    match draw(st.sampled_from(("double", "remove", "exchange", "overwrite"))):
        case "double":
            fields[at:at] = fields[at : at + 2]
        case "remove":
            del fields[at : at + 2]
        case "exchange":
            fields[at], fields[other] = fields[other], fields[at]
        case "overwrite":
            fields[at] = draw(st.sampled_from(_PIECES))
    lines[number] = b"".join(fields)
    return b"".join(lines)


def _recode(draw: DrawFn, content: bytes) -> bytes:
    return content.decode("utf-8", "replace").encode(draw(st.sampled_from(_ENCODINGS)), "replace")


def _end_lines(draw: DrawFn, content: bytes) -> bytes:
    return content.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b"\n\r"))))


_DAMAGES = (_flip, _insert, _insert, _cut, _zero, _line, _line, _field, _field, _recode, _end_lines)


@st.composite
def _damaged_text(draw: DrawFn, whole: bytes) -> bytes:
    content = whole
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        if content:
            content = draw(st.sampled_from(_DAMAGES))(draw, content)
    return content


# --- JSON -------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, -0.0, 0.5, 1e308, 2**31, 2**32, 2**63, 10**400, float("nan"), float("inf")),
    *("", "x", "a\nb", "\0", "\x1b[2J", "\ud800", "x" * 10_000, [], [[]], [None], {}, {"": ""}, {"sha256": "ab"}),
)
_AS_TEXT = {"@huge": "9" * 5000, "@infinite": "1e309", "@negative": "-1e309"}  # which json.dumps would not write


@st.composite
def _damaged_json(draw: DrawFn, value: Any) -> bytes:
    value = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        value = _change(draw, value)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from((None, 2))))
    for mark, other in _AS_TEXT.items():
        text = text.replace(f'"{mark}"', other)
    nest, depth = draw(st.sampled_from(("[]", "{}"))), draw(st.sampled_from((30, 100, 300, 700, 900, 950, 990, 10_000)))
    opening = nest[0] if nest == "[]" else '{"a":'
    text = text.replace('"@nest"', opening * depth + "1" + nest[1] * depth).replace("@again", "")
    content = text.encode("utf-8", "surrogatepass")
    return content if draw(st.integers(0, 9)) else draw(_damaged_text(content))


def _change(draw: DrawFn, value: Any) -> Any:
    """One place of the value changed; the value itself, where it is that."""
    places = list(_places(value))
    if not places:
        return draw(_new(value))
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(("remove", "put", "put", "put", "take", "double", "add"))):
        case "remove":
            del holder[key]
        case "put":
            holder[key] = draw(_new(holder[key]))
        case "take":
            other, other_key = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[other_key])
        case "double" if isinstance(holder, dict):
            holder[f"{key}@again"] = draw(_new(holder[key]))
        case "add" if isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "new", "x" * 1000, "a\nb", "\ud800")))] = draw(_new(None))
        case _:
            holder.insert(key, copy.deepcopy(holder[key]))
    return value


def _new(value: Any) -> SearchStrategy[Any]:
    """What may stand in a value's place: anything, or one of its own kind."""
    anything = st.sampled_from((*_VALUES, *_AS_TEXT, "@nest", "@nest")).map(copy.deepcopy)  # some will be changed too
    match value:
        case bool() | None:
            return anything
        case int():
            return anything | st.integers(-2, 2**33)
        case float():
            return anything | st.floats()
        case str():
            return anything | st.text(max_size=9)
        case _:
            return anything


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
