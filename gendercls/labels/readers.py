"""One reader for each way in which labels come. Errors name the file and the line."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.images import PHOTO_SUFFIXES
from gendercls.labels.celeba import read_celeba
from gendercls.labels.file import as_flags, csv_rows, listed, shown, unique
from gendercls.labels.table import CLASS_COLUMN, Labels
from gendercls.records import plain

FAIRFACE_LICENCE = "FairFace: CC BY 4.0 (Kärkkäinen & Joo 2021)"
UNKNOWN_LICENCE = "not stated; ask the owner of the photos"

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_id", "img", "photo")
_CLASS_COLUMNS = (CLASS_COLUMN, "label", "truth")
_OWN_COLUMNS = ("split", "identity", "weight", "stratum")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLITS |= {"testing": "test", "": ""}


def read_labels(path: Path) -> Labels:
    """Labels from a folder or a file, whichever of the known layouts it has.

    Raises:
        LabelError: nothing known is there, or a file is damaged; the error names the file and the line.
    """
    try:
        return _read(path)
    except OSError as error:  # of a folder; a file's reader says more
        raise LabelError(f"the labels cannot be read: {error.strerror}", where=str(path), do="check the path") from None


def _read(path: Path) -> Labels:
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise LabelError("no such label file or folder", where=str(path), do="check the path")
    name = path.name.removesuffix(".gz")
    if name.startswith("list_attr_celeba"):
        return read_celeba(path)
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
            return read_celeba(folder / name)
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


def _read_fairface(paths: Sequence[Path]) -> Labels:
    """FairFace has no test part: the first half of its val rows validates here, and the second half tests."""
    keys: list[str] = []
    split: list[str] = []
    rows: list[list[str]] = []
    header: list[str] = []
    notes = []
    for path in paths:
        names, part, _ = csv_rows(path)
        for column in ("file", "age", "gender", "race"):
            _need_column(path, names, column)
        header = header or names
        if names != header:
            raise LabelError(
                f"the columns differ from those of {paths[0]}",
                where=f"{path}:1 has: {listed(names)}",
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
    unique(paths[0], keys)
    flags, columns = _typed_columns(header, rows, {"file"})
    root = paths[0].parent
    return Labels("FairFace", FAIRFACE_LICENCE, root, keys, flags, columns, np.array(split), None, tuple(notes))


def _read_csv(path: Path) -> Labels:
    header, rows, lines = csv_rows(path)
    lower = [name.lower() for name in header]
    place = next((lower.index(name) for name in _PATH_COLUMNS if name in lower), None)
    if place is None:
        raise LabelError(
            "the CSV has no column for the photo's path",
            where=f"{path}:1 has: {listed(header)}",
            do=f"name one column {_PATH_COLUMNS[0]!r} (or {', '.join(_PATH_COLUMNS[1:])})",
        )
    names = [row[place].removeprefix("./") for row in rows]
    of_faces = {"face", "weight", "stratum"} <= set(lower)  # a sheet of faces; elsewhere a face may be anything
    if of_faces:
        names = [f"{name}/{row[lower.index('face')]}" for name, row in zip(names, rows, strict=True)]
    keys = unique(path, names)
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
    found = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if leading_back := next((child for child in found if folder.resolve().is_relative_to(child.resolve())), None):
        raise LabelError(
            "a class's folder is a link back to the folder that it is in", where=str(leading_back), do="remove the link"
        )
    return found


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


def _typed_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], skip: set[str]
) -> tuple[dict[str, NDArray[np.int8]], dict[str, NDArray[np.str_]]]:
    flags: dict[str, NDArray[np.int8]] = {}
    columns: dict[str, NDArray[np.str_]] = {}
    for number, name in enumerate(header):
        if name in skip:
            continue
        words = [row[number] for row in rows]
        values = as_flags(words)
        if values is not None:
            flags[name] = values
        else:
            columns[name] = np.array(words)
    return flags, columns


def _split_word(path: Path, line: int, word: str) -> str:
    try:
        return _SPLITS[word.lower()]
    except KeyError:
        raise LabelError(
            f"the split {shown(word)} is unknown",
            where=f"{path}:{line}",
            do="use train, val or test, or leave it empty",
        ) from None


def _need_column(path: Path, header: Sequence[str], column: str) -> None:
    if column not in header:
        raise LabelError(
            f"the column {column!r} is missing",
            where=f"{path}:1 has: {listed(header)}",
            do="take the file as it is published",
        )
