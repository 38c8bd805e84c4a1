"""``sorted.csv``: what ``gendercls sort`` made, and from what; and how exactly that is taken back."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendercls.errors import GenderclsError, OutputError
from gendercls.preds import place_of
from gendercls.rows import encode, path_field, read_records
from gendercls.sources import readable_name
from gendercls.wholefile import write_whole

LIST = "sorted.csv"
UNFINISHED = ".sorting.tmp"
"""Beside the list, a copy that is not whole yet; one that is there while nobody sorts was left by a killed process."""

_HEADER = ["made", "source", "how"]
_REMEDY = "restore the list from a copy, or take away by hand what was made"
Kind = Literal["link", "copy"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was made. made: below the list's folder; source: absolute; as rows of the CSV write paths."""

    made: str
    source: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back. kept: things that are no longer what was made; they stay, and so does a list of them."""

    removed: int
    gone: int
    kept: tuple[str, ...]


def entry_for(below: bytes, source: bytes, kind: Kind) -> Entry:
    """As the list has it; below: the list's folder."""
    return Entry(path_field(readable_name(below)), readable_name(source), kind)


def is_made(place: bytes, source: bytes, kind: Kind) -> bool:
    """Whether there is just such a link, or a copy whose content is still the source's."""
    if kind == "link":
        return os.path.islink(place) and readable_name(os.readlink(place)) == readable_name(source)
    if os.path.islink(place) or not (os.path.isfile(place) and os.path.isfile(source)):
        return False
    return not os.path.samefile(place, source) and filecmp.cmp(place, source, shallow=False)


def read_list(path: Path) -> list[Entry]:
    """What an earlier run made; nothing without a list. Raises OutputError where it is no such list."""
    try:
        with path.open("rb") as file:
            header, *lines = [fields for fields, _ in read_records(file, str(path))] or [[]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"the list cannot be read: {error.strerror}", where=str(path), do="check the path") from None
    except OutputError as error:
        error.do = _REMEDY
        raise
    if header != _HEADER:
        raise OutputError(
            "this is no list of what gendercls sort made",
            where=f"{path} begins with {','.join(header)[:200]}",
            do=f"give the {LIST} that it wrote",
        )
    return [_entry(path, fields) for fields in lines]


def _entry(path: Path, fields: Sequence[str]) -> Entry:
    match fields:
        case [made, source, ("link" | "copy") as kind] if not made.startswith("/") and ".." not in made.split("/"):
            return Entry(made, source, kind)
    raise OutputError("the list is damaged", where=f"{path}, at {','.join(fields)[:200]}", do=_REMEDY)


def write_list(path: Path, entries: Iterable[Entry]) -> None:
    """The whole list in one step. Raises OutputError."""
    write_whole(path, encode(_HEADER) + b"".join(encode([e.made, e.source, e.kind]) for e in entries), "--into")


def undo(path: Path) -> Undone:
    """Remove what the list says was made and is still so, the folders that are empty then, and the list.

    A copy whose source is gone, or differs, stays, as does a link that leads elsewhere.

    Raises:
        GenderclsError: there is no such list.
        OutputError: it is damaged, or something cannot be removed.
    """
    if not path.is_file():
        raise GenderclsError("there is no such list", where=str(path), do=f"give the {LIST} that gendercls sort wrote")
    entries, folder = read_list(path), os.fsencode(path.parent)
    kept, gone = [], 0
    folders: set[str] = set()
    for entry in entries:
        place = place_of(entry.made, folder)
        folders.update(_above(entry.made))
        if not os.path.lexists(place):
            gone += 1
        elif _is_below(os.path.dirname(place), folder) and is_made(place, place_of(entry.source, b""), entry.kind):
            _remove(place)
        else:
            kept.append(entry)
    (path.parent / UNFINISHED).unlink(missing_ok=True)
    for below in sorted(folders, key=lambda name: -name.count("/")):
        with suppress(OSError):  # what holds something else, or is gone
            os.rmdir(place_of(below, folder))
    if kept:
        write_list(path, kept)
    else:
        _remove(os.fsencode(path))
        with suppress(OSError):
            os.rmdir(folder)
    return Undone(len(entries) - gone - len(kept), gone, tuple(entry.made for entry in kept))


def _above(made: str) -> Iterable[str]:
    """The folders that it lies in, below the list's own."""
    parts = made.split("/")[:-1]
    return ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1) if parts[depth - 1] != ".")


def _is_below(place: bytes, folder: bytes) -> bool:
    """Whether a folder is really there, and not reached through a link."""
    return os.path.realpath(place).startswith(os.path.join(os.path.realpath(folder), b""))


def _remove(place: bytes) -> None:
    try:
        os.unlink(place)
    except OSError as error:
        raise OutputError(
            f"it cannot be removed: {error.strerror}",
            where=os.fsdecode(place),
            do="make its folder writable and repeat the command",
        ) from None
