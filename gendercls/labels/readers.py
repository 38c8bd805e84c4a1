"""One reader for each way in which labels come. Errors name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.images import PHOTO_SUFFIXES
from gendercls.labels.table import CLASS_COLUMN, UNDETERMINED, Labels
from gendercls.records import plain

CELEBA_LICENCE = "CelebA: non-commercial research only (Liu et al. 2015)"
FAIRFACE_LICENCE = "FairFace: CC BY 4.0 (Kärkkäinen & Joo 2021)"
UNKNOWN_LICENCE = "not stated; ask the owner of the photos"

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_id", "img", "photo")
_CLASS_COLUMNS = (CLASS_COLUMN, "label", "truth")
_OWN_COLUMNS = ("split", "identity", "weight", "stratum")
_YES = frozenset({"1", "true", "yes", "t", "y"})
_NO = frozenset({"0", "-1", "false", "no", "f", "n"})
_MEANING = dict.fromkeys(_YES, 1) | dict.fromkeys(_NO, 0) | {"": -1, UNDETERMINED: -1}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLITS |= {"testing": "test", "": ""}
_CELEBA_VALUES = frozenset({"1", "-1", "0"})
_CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}
_MOST_DIGITS = 18  # of a count or an identity: no more than fit 64 bits
_MOST_CHARACTERS = 2**28  # of a column as an array, which takes 1 GiB
_CELEBA_PHOTOS = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba", ".")


def read_labels(path: Path) -> Labels:
    """Labels from a folder or a file, whichever of the known layouts it has.

    Raises:
        LabelError: nothing known is there, or a file is damaged; the error names the file and the line.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise LabelError("no such label file or folder", where=str(path), do="check the path")
    name = path.name.removesuffix(".gz")
    if name.startswith("list_attr_celeba"):
        return _read_celeba(path)
    if name.startswith("fairface_label") and name.endswith(".csv"):
        return _read_fairface([path])
    if name.endswith(".txt"):
        raise LabelError(
            "a text file of labels that is not CelebA's",
            where=str(path),
            do="CelebA's is called list_attr_celeba.txt; give other labels as a CSV with a path column",
        )
    return _read_csv(path)


def _read_folder(folder: Path) -> Labels:
    for name in (
        "list_attr_celeba.txt",
        "Anno/list_attr_celeba.txt",
        "list_attr_celeba.csv",
        "list_attr_celeba.txt.gz",
    ):
        if (folder / name).is_file():
            return _read_celeba(folder / name)
    if fairface := sorted(folder.glob("fairface_label_*.csv")):
        return _read_fairface(fairface)
    tables = sorted(folder.glob("*.csv"))
    if len(tables) == 1:
        return _read_csv(tables[0])
    if classes := _class_folders(folder):
        return _read_class_folders(folder, classes)
    found = f"; it has {len(tables)} CSV files: name one of them" if tables else ""
    raise LabelError(
        f"no labels found in this folder{found}",
        where=str(folder),
        do="give CelebA's folder, FairFace's, a CSV with a path column, or one folder of photos per class",
    )


# --- CelebA -----------------------------------------------------------------------------------------------------


def _read_celeba(attributes: Path) -> Labels:
    is_csv = attributes.name.removesuffix(".gz").endswith(".csv")
    keys, flags = _celeba_csv(attributes) if is_csv else _celeba_txt(attributes)
    home = attributes.parent.parent if attributes.parent.name == "Anno" else attributes.parent
    root = next((home / place for place in _CELEBA_PHOTOS if (home / place).is_dir()), home)
    notes = [f"{len(flags)} attributes of {len(keys):,} photos from {attributes}"]
    split = identity = None
    if partition := _companion(home, "list_eval_partition"):
        words = _key_values(partition, keys, set(_CELEBA_SPLITS))
        split = np.array([_CELEBA_SPLITS.get(word, "") for word in words])
        notes.append(f"the official split from {partition}")
    if persons := _companion(home, "identity_CelebA"):
        identity = np.array([int(word or -1) for word in _key_values(persons, keys, None)], np.int64)
        notes.append(f"{len(np.unique(identity[identity >= 0])):,} identities from {persons}")
    return Labels("CelebA", CELEBA_LICENCE, root, keys, flags, {}, split, identity, tuple(notes))


def _celeba_txt(path: Path) -> tuple[list[str], dict[str, NDArray[np.int8]]]:
    lines = _text(path).splitlines()
    if len(lines) < 2 or not _is_number(lines[0].strip()):
        raise LabelError(
            "CelebA's attribute file begins with the number of photos and a line of attribute names; this one does not",
            where=f"{path}:1",
            do="take list_attr_celeba.txt as it is published",
        )
    names, rows = lines[1].split(), [(n, line) for n, line in enumerate(lines[2:], start=3) if line.strip()]
    _check_columns(f"{path}:2", names)
    if len(rows) != int(lines[0]):
        raise LabelError(
            f"the file promises {int(lines[0]):,} photos and has {len(rows):,} rows",
            where=str(path),
            do="the download may have been cut off; take it again",
        )
    keys, values = [], []
    for number, row in rows:
        key, *fields = row.split()
        if len(fields) != len(names) or not _CELEBA_VALUES.issuperset(fields):
            raise _bad_celeba_row(f"{path}:{number}", fields, len(names))
        keys.append(key)
        values.append(bytes(map("1".__eq__, fields)))
    table = np.frombuffer(b"".join(values), np.int8).reshape(len(keys), len(names))
    return _unique(path, keys), {name: np.ascontiguousarray(table[:, column]) for column, name in enumerate(names)}


def _bad_celeba_row(where: str, fields: Sequence[str], expected: int) -> LabelError:
    what = f"a row should have {expected} values of 1 or -1 after the file's name; this one has {len(fields)}"
    if len(fields) == expected:
        what = f"the value {_shown(min(set(fields) - _CELEBA_VALUES))} is neither 1 nor -1"
    return LabelError(what, where=where, do="take the file as it is published")


def _celeba_csv(path: Path) -> tuple[list[str], dict[str, NDArray[np.int8]]]:
    header, rows, lines = _csv_rows(path)
    keys = _unique(path, [row[0] for row in rows])
    flags = {}
    for column, name in enumerate(header[1:], start=1):
        values = _as_flags([row[column] for row in rows])
        if values is None:
            bad = next((n for n, row in enumerate(rows) if row[column].lower() not in _MEANING), None)
            what = f"the column {_shown(name)} has no value at all"
            if bad is not None:
                what = f"the value {_shown(rows[bad][column])} of {_shown(name)[1:-1]} is neither 1 nor -1"
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
    for number, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.replace(",", " ").split()
        is_pair = len(fields) == 2
        is_header = number == 1 and path.suffix == ".csv" and is_pair and not fields[1].isdecimal()
        if not fields or is_header:
            continue
        if not is_pair or not (fields[1] in allowed if allowed is not None else _is_number(fields[1])):
            expected = "0, 1 or 2" if allowed is not None else "a number"
            raise LabelError(
                f"a row should be a file name and {expected}; this one is {_shown(line.strip())}",
                where=f"{path}:{number}",
                do="take the file as it is published",
            )
        if fields[0] in found:
            raise _two_rows(path, fields[0])
        found[fields[0]] = fields[1]
    return [found.get(key, "") for key in keys]


# --- FairFace ---------------------------------------------------------------------------------------------------


def _read_fairface(paths: Sequence[Path]) -> Labels:
    """FairFace has no test part: the first half of its val rows validates here, and the second half tests."""
    keys: list[str] = []
    split: list[str] = []
    rows: list[list[str]] = []
    header: list[str] = []
    notes = []
    for path in paths:
        names, part, _ = _csv_rows(path)
        for column in ("file", "age", "gender", "race"):
            _need_column(path, names, column)
        header = header or names
        if names != header:
            raise LabelError(
                f"the columns differ from those of {paths[0]}",
                where=f"{path}:1 has: {_listed(names)}",
                do="take the file as it is published",
            )
        at = header.index("file")
        keys += [row[at] for row in part]
        rows += part
        half = (len(part) + 1) // 2
        validates = "val" in path.stem
        split += ["val"] * half + ["test"] * (len(part) - half) if validates else ["train"] * len(part)
        use = f": rows 1–{half:,} validate, the rest test" if validates else ": train"
        notes.append(f"{len(part):,} photos from {path}{use}")
    _unique(paths[0], keys)
    flags, columns = _typed_columns(header, rows, {"file"})
    root = paths[0].parent
    return Labels("FairFace", FAIRFACE_LICENCE, root, keys, flags, columns, np.array(split), None, tuple(notes))


# --- any CSV, and one folder per class --------------------------------------------------------------------------


def _read_csv(path: Path) -> Labels:
    header, rows, lines = _csv_rows(path)
    lower = [name.lower() for name in header]
    place = next((lower.index(name) for name in _PATH_COLUMNS if name in lower), None)
    if place is None:
        raise LabelError(
            "the CSV has no column for the photo's path",
            where=f"{path}:1 has: {_listed(header)}",
            do=f"name one column {_PATH_COLUMNS[0]!r} (or {', '.join(_PATH_COLUMNS[1:])})",
        )
    names = [row[place].removeprefix("./") for row in rows]
    of_faces = {"face", "weight", "stratum"} <= set(lower)  # a sheet of faces; elsewhere a face may be anything
    if of_faces:
        names = [f"{name}/{row[lower.index('face')]}" for name, row in zip(names, rows, strict=True)]
    keys = _unique(path, names)
    own = {name: lower.index(name) for name in _OWN_COLUMNS if name in lower}
    words = {name: [row[column] for row in rows] for name, column in own.items()}
    split = identity = weight = stratum = None
    if "split" in own:
        split = np.array([_split_word(path, *pair) for pair in zip(lines, words["split"], strict=True)])
    if "identity" in own:
        _, numbers = np.unique(words["identity"], return_inverse=True)
        identity = np.where(np.array(words["identity"]) != "", numbers, -1).astype(np.int64)
    if "weight" in own:
        weight = np.array([_weight(word) for word in words["weight"]])
    if "stratum" in own:
        stratum = np.array(words["stratum"])
    special = {header[place], *(header[column] for column in own.values())}
    special |= {header[lower.index("face")]} if of_faces else set()
    flags, columns = _typed_columns(header, rows, special)
    for name in _CLASS_COLUMNS[1:]:
        if name in columns and CLASS_COLUMN not in columns:
            columns[CLASS_COLUMN] = columns.pop(name)
    if CLASS_COLUMN in columns:
        columns[CLASS_COLUMN] = np.array([plain(word) for word in columns[CLASS_COLUMN].tolist()])
    notes = (f"{len(flags) + len(columns)} columns of {len(keys):,} photos from {path}",)
    return Labels(
        *(path.name, UNKNOWN_LICENCE, path.parent, keys, flags, columns, split, identity, notes),
        weight,
        stratum,
        of_faces,
    )


def _weight(text: str) -> float:
    """The number; NaN where it is none, which only matters to who asks for weights."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _class_folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_class_folders(folder: Path, classes: Sequence[Path]) -> Labels:
    keys: list[str] = []
    names: list[str] = []
    for child in classes:
        photos = sorted(
            Path(parent, name).relative_to(folder).as_posix()
            for parent, _, files in os.walk(child)
            for name in files
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and not _hidden(Path(parent, name).relative_to(folder))
        )
        keys += photos
        names += [child.name] * len(photos)
    if not keys:
        raise LabelError(
            "the folders hold no photos", where=str(folder), do="put each class's photos into a folder of its name"
        )
    notes = (f"{len(keys):,} photos in {len(classes)} class folders of {folder}",)
    source = folder.resolve().name
    columns = {CLASS_COLUMN: np.array(names)}
    return Labels(source, UNKNOWN_LICENCE, folder, keys, {}, columns, None, None, notes)


# --- shared pieces ----------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabelError("the label file is not UTF-8", where=f"{path}:{line}", do="save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise LabelError(f"the label file cannot be read: {error}", where=str(path), do="check the file") from None
    if "\0" in text:  # as UTF-16 has many, and blocks that a file system never wrote are nothing else
        line = text[: text.index("\0")].count("\n") + 1
        raise LabelError("the label file has a NUL in it", where=f"{path}:{line}", do="save it as UTF-8")
    return text


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows that are not blank, and the line on which each of them ends."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise LabelError(
                    f"the header has {len(header)} columns, this row {len(row)}",
                    where=f"{path}:{reader.line_num}",
                    do="mend the row, or quote the field that holds a comma",
                )
            rows.append([value.strip() for value in row])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise LabelError(
            f"the CSV does not parse: {error}", where=f"{path}:{reader.line_num}", do="mend the row"
        ) from None
    if not rows:
        raise LabelError("the label file has no rows", where=str(path), do="check the file")
    _check_columns(f"{path}:1", header)
    lengths = [max(map(len, row)) for row in rows]
    if max(lengths) * len(rows) > _MOST_CHARACTERS:
        raise LabelError(
            f"one of the {len(rows):,} rows has a field of {max(lengths):,} characters, too long for a column of words",
            where=f"{path}:{lines[lengths.index(max(lengths))]}",
            do="leave that column out",
        )
    return header, rows, lines


def _check_columns(where: str, names: Sequence[str]) -> None:
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise LabelError(f"the column {_shown(doubled)} is there twice", where=where, do="rename one of them")


def _typed_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], skip: set[str]
) -> tuple[dict[str, NDArray[np.int8]], dict[str, NDArray[np.str_]]]:
    flags: dict[str, NDArray[np.int8]] = {}
    columns: dict[str, NDArray[np.str_]] = {}
    for number, name in enumerate(header):
        if name in skip:
            continue
        words = [row[number] for row in rows]
        values = _as_flags(words)
        if values is not None:
            flags[name] = values
        else:
            columns[name] = np.array(words)
    return flags, columns


def _as_flags(words: Sequence[str]) -> NDArray[np.int8] | None:
    """1, 0 and -1 (unknown) where every word says yes or no; else None."""
    distinct, inverse = np.unique([word.lower() for word in words], return_inverse=True)
    if not set(distinct) <= _MEANING.keys() or not set(distinct) & (_YES | _NO):
        return None
    return np.array([_MEANING[word] for word in distinct], np.int8)[inverse]


def _split_word(path: Path, line: int, word: str) -> str:
    try:
        return _SPLITS[word.lower()]
    except KeyError:
        raise LabelError(
            f"the split {_shown(word)} is unknown",
            where=f"{path}:{line}",
            do="use train, val or test, or leave it empty",
        ) from None


def _need_column(path: Path, header: Sequence[str], column: str) -> None:
    if column not in header:
        raise LabelError(
            f"the column {column!r} is missing",
            where=f"{path}:1 has: {_listed(header)}",
            do="take the file as it is published",
        )


def _unique(path: Path, keys: list[str]) -> list[str]:
    if not all(keys):
        where = f"{path}, row {keys.index('') + 1:,} of its {len(keys):,}"
        raise LabelError("a row does not say of which photo it is", where=where, do="give the path, or remove the row")
    if len(set(keys)) != len(keys):
        seen: set[str] = set()
        raise _two_rows(path, next(key for key in keys if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return keys


def _two_rows(path: Path, key: str) -> LabelError:
    return LabelError(f"the photo {_shown(key)} has two rows", where=str(path), do="keep one of them")


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= _MOST_DIGITS


def _shown(word: str) -> str:
    """The word in quotes, and no more of it than a message has room for."""
    return repr(word if len(word) <= 200 else word[:200] + "…")


def _listed(names: Sequence[str]) -> str:
    """The columns of a file that has others than it should."""
    return ", ".join(_shown(name)[1:-1] for name in names[:20]) + (", …" if len(names) > 20 else "")
