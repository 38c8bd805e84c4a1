"""CelebA's label files, as they are published and as Kaggle has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels.file import (
    MEANING,
    as_flags,
    check_columns,
    csv_rows,
    is_number,
    shown,
    text_of,
    two_rows,
    unique,
)
from gendercls.labels.table import Labels

LICENCE = "CelebA: non-commercial research only (Liu et al. 2015)"

_VALUES = frozenset({"1", "-1", "0"})
_SPLITS = {"0": "train", "1": "val", "2": "test"}
_PHOTOS = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba", ".")


def read_celeba(attributes: Path) -> Labels:
    is_csv = attributes.name.removesuffix(".gz").endswith(".csv")
    keys, flags = _kaggle(attributes) if is_csv else _published(attributes)
    home = attributes.parent.parent if attributes.parent.name == "Anno" else attributes.parent
    root = next((home / place for place in _PHOTOS if (home / place).is_dir()), home)
    notes = [f"{len(flags)} attributes of {len(keys):,} photos from {attributes}"]
    split = identity = None
    if partition := _companion(home, "list_eval_partition"):
        words = _key_values(partition, keys, set(_SPLITS))
        split = np.array([_SPLITS.get(word, "") for word in words])
        notes.append(f"the official split from {partition}")
    if persons := _companion(home, "identity_CelebA"):
        identity = np.array([int(word or -1) for word in _key_values(persons, keys, None)], np.int64)
        notes.append(f"{len(np.unique(identity[identity >= 0])):,} identities from {persons}")
    return Labels("CelebA", LICENCE, root, keys, flags, {}, split, identity, tuple(notes))


def _published(path: Path) -> tuple[list[str], dict[str, NDArray[np.int8]]]:
    lines = text_of(path).splitlines()
    if len(lines) < 2 or not is_number(lines[0].strip()):
        raise LabelError(
            "CelebA's attribute file begins with the number of photos and a line of attribute names; this one does not",
            where=f"{path}:1",
            do="take list_attr_celeba.txt as it is published",
        )
    names, rows = lines[1].split(), [(n, line) for n, line in enumerate(lines[2:], start=3) if line.strip()]
    check_columns(f"{path}:2", names)
    if len(rows) != int(lines[0]):
        raise LabelError(
            f"the file promises {int(lines[0]):,} photos and has {len(rows):,} rows",
            where=str(path),
            do="the download may have been cut off; take it again",
        )
    keys, values = [], []
    for number, row in rows:
        key, *fields = row.split()
        if len(fields) != len(names) or not _VALUES.issuperset(fields):
            raise _bad_row(f"{path}:{number}", fields, len(names))
        keys.append(key)
        values.append(bytes(map("1".__eq__, fields)))
    table = np.frombuffer(b"".join(values), np.int8).reshape(len(keys), len(names))
    return unique(path, keys), {name: np.ascontiguousarray(table[:, column]) for column, name in enumerate(names)}


def _bad_row(where: str, fields: Sequence[str], expected: int) -> LabelError:
    what = f"a row should have {expected} values of 1 or -1 after the file's name; this one has {len(fields)}"
    if len(fields) == expected:
        what = f"the value {shown(min(set(fields) - _VALUES))} is neither 1 nor -1"
    return LabelError(what, where=where, do="take the file as it is published")


def _kaggle(path: Path) -> tuple[list[str], dict[str, NDArray[np.int8]]]:
    header, rows, lines = csv_rows(path)
    keys = unique(path, [row[0] for row in rows])
    flags = {}
    for column, name in enumerate(header[1:], start=1):
        values = as_flags([row[column] for row in rows])
        if values is None:
            bad = next((n for n, row in enumerate(rows) if row[column].lower() not in MEANING), None)
            what = f"the column {shown(name)} has no value at all"
            if bad is not None:
                what = f"the value {shown(rows[bad][column])} of {shown(name)[1:-1]} is neither 1 nor -1"
            where = f"{path}:{1 if bad is None else lines[bad]}"
            raise LabelError(what, where=where, do="take the file as it is published")
        flags[name] = values
    return keys, flags


def _companion(home: Path, stem: str) -> Path | None:
    for name in (f"{stem}.txt", f"Eval/{stem}.txt", f"Anno/{stem}.txt", f"{stem}.csv", f"{stem}.txt.gz"):
        if (home / name).is_file():
            return home / name
    return None


def _key_values(path: Path, keys: Sequence[str], allowed: set[str] | None) -> list[str]:
    """The second column of a two-column file, in the order of keys; empty where a key is not in it."""
    found: dict[str, str] = {}
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = line.replace(",", " ").split()
        is_pair = len(fields) == 2
        is_header = number == 1 and path.suffix == ".csv" and is_pair and not fields[1].isdecimal()
        if not fields or is_header:
            continue
        if not is_pair or not (fields[1] in allowed if allowed is not None else is_number(fields[1])):
            expected = "0, 1 or 2" if allowed is not None else "a number"
            raise LabelError(
                f"a row should be a file name and {expected}; this one is {shown(line.strip())}",
                where=f"{path}:{number}",
                do="take the file as it is published",
            )
        if fields[0] in found:
            raise two_rows(path, fields[0])
        found[fields[0]] = fields[1]
    return [found.get(key, "") for key in keys]
