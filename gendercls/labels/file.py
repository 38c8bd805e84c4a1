"""A label file on disk: its text, its rows, and what is said of it that is wrong. However large or odd it is.

A file of labels may come from a stranger, as photos do: it must not take more memory than a large one has to.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import stat
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels.table import UNDETERMINED

_YES = frozenset({"1", "true", "yes", "t", "y"})
_NO = frozenset({"0", "-1", "false", "no", "f", "n"})
MEANING = dict.fromkeys(_YES, 1) | dict.fromkeys(_NO, 0) | {"": -1, UNDETERMINED: -1}

_MOST_BYTES = 2**28  # CelebA's attributes are a tenth of that
_MOST_LINES = 2**24
_LONGEST_LINE = 2**24
_MOST_FIELDS = 2**25  # each of which takes 60 bytes and more
_MOST_COLUMNS = 10_000
_MOST_CHARACTERS = 2**29  # of all columns as arrays, which take 2 GiB
_MOST_DIGITS = 18  # of a count or an identity: no more than fit 64 bits
_PACKED = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED |= {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}


def text_of(path: Path) -> str:
    """The text of a file, which may be gzipped. Raises LabelError, naming the line of what is no text."""
    data = _bytes_of(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabelError("the label file is not UTF-8", where=f"{path}:{line}", do="save it as UTF-8") from None
    if "\0" in text:  # as UTF-16 has many, and blocks that a file system never wrote are nothing else
        line = text[: text.index("\0")].count("\n") + 1
        raise LabelError("the label file has a NUL in it", where=f"{path}:{line}", do="save it as UTF-8")
    return text


def _bytes_of(path: Path) -> bytes:
    """What the file holds, or what was packed into it. Raises LabelError where that is too much, or no file at all."""
    try:
        # Non-blocking, so that a FIFO that nobody feeds cannot hold the command.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LabelError("the labels are no file, nor a folder", where=str(path), do="name a file")
            if status.st_size > _MOST_BYTES:
                raise _too_large(path, f"it has {status.st_size:,} bytes")
            packed = path.suffix == ".gz"
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                data = content.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LabelError(f"the label file cannot be read: {error}", where=str(path), do="check the file") from None
    if len(data) > _MOST_BYTES:
        raise _too_large(path, f"it has more than {_MOST_BYTES:,} bytes" + " when unpacked" * packed)
    if data.count(b"\n") > _MOST_LINES:
        raise _too_large(path, f"it has more than {_MOST_LINES:,} lines")
    if max(map(len, io.BytesIO(data)), default=0) > _LONGEST_LINE:
        raise _too_large(path, f"a line of it has more than {_LONGEST_LINE:,} bytes")
    if kind := next((name for magic, name in _PACKED.items() if data.startswith(magic)), ""):
        raise LabelError(f"the label file is packed ({kind})", where=str(path), do="unpack it, or save it as a CSV")
    return data


def _too_large(path: Path, why: str) -> LabelError:
    return LabelError(
        "the label file is too large to be read", where=f"{path}: {why}", do="split it, or leave out rows"
    )


def csv_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows that are not blank, and the line on which each of them ends."""
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows: list[list[str]] = []
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise LabelError(
                    f"the header has {len(header)} columns, this row {len(row)}",
                    where=f"{path}:{reader.line_num}",
                    do="mend the row, or quote the field that holds a comma",
                )
            if len(rows) * len(header) >= _MOST_FIELDS:
                raise _too_large(path, f"it has more than {_MOST_FIELDS:,} fields")
            rows.append([value.strip() for value in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise LabelError(
            f"the CSV does not parse: {error}", where=f"{path}:{reader.line_num}", do="mend the row"
        ) from None
    if not rows:
        raise LabelError("the label file has no rows", where=str(path), do="check the file")
    check_columns(f"{path}:1", header)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) * len(rows) > _MOST_CHARACTERS:
        column = widths.index(max(widths))
        longest = next(line for line, row in zip(lines, rows, strict=True) if len(row[column]) == widths[column])
        raise LabelError(
            f"one of the {len(rows):,} rows has a field of {max(widths):,} characters, too long for a column of words",
            where=f"{path}:{longest}",
            do="leave that column out",
        )
    return header, rows, lines


def check_columns(where: str, names: Sequence[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        what = f"the label file has {len(names):,} columns; at most {_MOST_COLUMNS:,} are read"
        raise LabelError(what, where=where, do="leave out those that nobody needs")
    doubled = next((name for name, times in Counter(names).items() if times > 1), None)
    if doubled is not None:
        raise LabelError(f"the column {shown(doubled)} is there twice", where=where, do="rename one of them")


def as_flags(words: Sequence[str]) -> NDArray[np.int8] | None:
    """1, 0 and -1 (unknown) where every word says yes or no; else None."""
    distinct, inverse = np.unique([word.lower() for word in words], return_inverse=True)
    if not set(distinct) <= MEANING.keys() or not set(distinct) & (_YES | _NO):
        return None
    return np.array([MEANING[word] for word in distinct], np.int8)[inverse]


def unique(path: Path, keys: list[str]) -> list[str]:
    if not all(keys):
        where = f"{path}, row {keys.index('') + 1:,} of its {len(keys):,}"
        raise LabelError("a row does not say of which photo it is", where=where, do="give the path, or remove the row")
    if len(set(keys)) != len(keys):
        seen: set[str] = set()
        raise two_rows(path, next(key for key in keys if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return keys


def two_rows(path: Path, key: str) -> LabelError:
    return LabelError(f"the photo {shown(key)} has two rows", where=str(path), do="keep one of them")


def is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= _MOST_DIGITS


def shown(word: str) -> str:
    """The word in quotes, and no more of it than a message has room for."""
    return repr(word if len(word) <= 200 else word[:200] + "…")


def listed(names: Sequence[str]) -> str:
    """The columns of a file that has others than it should."""
    return ", ".join(shown(name)[1:-1] for name in names[:20]) + (", …" if len(names) > 20 else "")
