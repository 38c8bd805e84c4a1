"""``gendercls sort``: photos into a folder for each class, as links or copies that can be taken back."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gendercls.errors import GenderclsError, InterruptedRunError, OutputError
from gendercls.labels.rules import NONE
from gendercls.preds import Predictions, place_of, read_preds, root_of
from gendercls.report.sorted_list import LIST, UNFINISHED, Kind, entry_for, is_made, read_list, write_list
from gendercls.rows import NO_FACE, NOT_A_PHOTO, UNCERTAIN, Row

SEVERAL, FAILED, WITHOUT_FACE = "several", "failed", "no-face"
Report = Callable[[int, int], None]
"""Told how many files were made, of how many."""


@dataclass(frozen=True, slots=True)
class SortOptions:
    """What the command line says. photos: None for where the run found them. kind: what is made of each."""

    preds: Path
    into: Path
    photos: Path | None = None
    kind: Kind = "link"


@dataclass(frozen=True, slots=True)
class Sorted:
    """What was made. folders: how many photos are in each. there: of these, how many were before.

    not_photos: files that were left out. missing: photos that are not where they were, and were left out too.
    """

    into: Path
    kind: Kind
    folders: dict[str, int]
    made: int
    there: int
    not_photos: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Something to be made. below: its path below the folder that all goes into; source: absolute."""

    below: bytes
    source: bytes


def sort(options: SortOptions, report: Report) -> Sorted:
    """Make a link to each photo, or a copy of it, below the folder of its class. Nothing is moved or replaced.

    Before the first is made all are in the list, and none of their names is taken by something else.

    Raises:
        GenderclsError: there is no such CSV, no folder of photos, or none of the photos is there.
        OutputError: the CSV is unfinished or damaged, a name is taken, or something cannot be made.
        InterruptedRunError: the person stopped it; the same command goes on.
    """
    preds = read_preds(options.preds)
    root = root_of(preds, options.photos)
    _check_names(preds)
    _check_apart(options.into, preds, root)
    wanted: dict[bytes, _Wanted] = {}
    not_photos, missing = 0, []
    for numbers in preds.photos:
        rows = preds.rows[numbers.start : numbers.stop]
        source = os.path.abspath(place_of(rows[0].path, root))
        if rows[0].error == NOT_A_PHOTO:
            not_photos += 1
        elif not os.path.isfile(source):
            missing.append(rows[0].path)
        else:
            for item in _wanted(rows, preds, source, root):
                _check_alone(item, wanted.setdefault(item.below, item))
    if not wanted:
        raise GenderclsError(
            "none of the photos is there",
            where=f"{missing[0]}, below {os.fsdecode(root or b'.')}" if missing else str(preds.path),
            do="name the folder that the photos are below: --photos DIR; what lies in archives or stores is not sorted",
        )
    left = [item for item in wanted.values() if not _is_there(item, options)]
    _make(options, left, report)
    return Sorted(
        into=options.into,
        kind=options.kind,
        folders=dict(Counter(os.fsdecode(below.partition(b"/")[0]) for below in wanted)),
        made=len(left),
        there=len(wanted) - len(left),
        not_photos=not_photos,
        missing=tuple(missing),
    )


# --- what goes where ---------------------------------------------------------------------------------------------


def _wanted(rows: Sequence[Row], preds: Predictions, source: bytes, root: bytes) -> Iterator[_Wanted]:
    """What is to be made of one photo: one thing, or one for each attribute of those that are independent."""
    above = os.path.join(os.path.abspath(root), b"") if root else os.path.join(os.getcwdb(), b"")
    parts = [part for part in source.removeprefix(above).split(b"/") if part]
    for folder in _folders(rows, preds):
        yield _Wanted(os.path.join(os.fsencode(folder), *parts), source)


def _folders(rows: Sequence[Row], preds: Predictions) -> list[str]:
    """Where a photo belongs; one with faces of several labels into none of theirs."""
    if any(row.has_failed for row in rows):
        return [FAILED]
    label, *others = {row.label for row in rows}
    if others:
        return [SEVERAL]
    if label in (UNCERTAIN, NO_FACE):
        return [UNCERTAIN if label == UNCERTAIN else WITHOUT_FACE]
    return [preds.answers.names[number] for number in preds.answers.classes_in(label)] or [NONE]


def _check_names(preds: Predictions) -> None:
    """Every class is a folder of its own, so its name has to be one."""
    for name in preds.answers.names:
        if "/" in name or name.startswith(".") or name in (SEVERAL, FAILED, WITHOUT_FACE, UNCERTAIN, LIST):
            raise GenderclsError(
                f"no folder can be made for the class {name!r}: its name is taken, hidden or a path",
                where=str(preds.path),
                do="sort these photos by hand; gendercls train takes other names of classes",
            )


def _check_apart(into: Path, preds: Predictions, root: bytes) -> None:
    """What is made must not lie among the photos, where the next run would classify it too."""
    inputs = preds.record.inputs if preds.record is not None else ()
    place = os.path.join(os.path.realpath(os.fsencode(into)), b"")
    for folder in [root] if root else map(os.fsencode, inputs):
        if os.path.isdir(folder) and place.startswith(os.path.join(os.path.realpath(folder), b"")):
            raise OutputError(
                "the folder lies among the photos, so that they would be classified twice",
                where=f"--into {into}",
                do="name one outside of them",
            )


def _check_alone(item: _Wanted, first: _Wanted) -> None:
    if item.source != first.source:
        raise OutputError(
            "two photos would get the same name",
            where=f"{os.fsdecode(first.source)} and {os.fsdecode(item.source)}",
            do="classify and sort them in two runs",
        )


# --- making ------------------------------------------------------------------------------------------------------


def _is_there(item: _Wanted, options: SortOptions) -> bool:
    """Whether it was made before. Raises OutputError where its name, or that of a folder above it, is taken."""
    into = os.fsencode(options.into)
    place = os.path.join(into, item.below)
    if is_made(place, item.source, options.kind):
        return True
    if os.path.lexists(place):
        raise _taken(place)
    above = os.path.dirname(item.below)
    while above:
        folder = os.path.join(into, above)
        if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
            raise _taken(folder)
        above = os.path.dirname(above)
    return False


def _taken(place: bytes) -> OutputError:
    return OutputError(
        "the name is taken by something else, and nothing is replaced",
        where=os.fsdecode(place),
        do="choose another --into, or take back what an earlier run made: gendercls sort --undo",
    )


def _make(options: SortOptions, left: Sequence[_Wanted], report: Report) -> None:
    """The list first, so that whatever is made can be taken back."""
    into, done = os.fsencode(options.into), 0
    place = into
    try:
        os.makedirs(into, exist_ok=True)
        known = {entry.made: entry for entry in read_list(options.into / LIST)}
        added = (entry_for(item.below, item.source, options.kind) for item in left)
        write_list(options.into / LIST, (known | {entry.made: entry for entry in added}).values())
        for item in left:
            place = os.path.join(into, item.below)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if options.kind == "link":
                os.symlink(item.source, place)
            else:
                _copy(item.source, place, os.path.join(into, os.fsencode(UNFINISHED)))
            done += 1
            report(done, len(left))
    except OSError as error:
        raise OutputError(
            f"it cannot be made: {error.strerror or error}",
            where=os.fsdecode(place),
            do="free some disk or make the folder writable, and repeat the command, which goes on",
        ) from None
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted after {done:,} of {len(left):,} files", where=str(options.into)
        ) from None


def _copy(source: bytes, place: bytes, unfinished: bytes) -> None:
    """A whole copy with its times, or none."""
    with suppress(FileNotFoundError):
        os.unlink(unfinished)
    try:
        shutil.copy2(source, unfinished)
        if os.path.lexists(place):
            raise FileExistsError(17, "meanwhile its name was taken")
        os.rename(unfinished, place)
    finally:
        with suppress(OSError):
            os.unlink(unfinished)
