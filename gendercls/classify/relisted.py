"""The photos of a finished CSV, listed again: which rows they have, and what is gone, added or at another place."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gendercls.classify.output import files_of
from gendercls.classify.verdict import Faults
from gendercls.errors import GenderclsError
from gendercls.preds import Predictions, RunRecord, root_of
from gendercls.rows import Row, path_field
from gendercls.sources import Listing, Photo, PhotoFile, readable_name


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo as it is listed now, and its rows."""

    photo: Photo
    rows: tuple[Row, ...]

    @property
    def path(self) -> str:
        return self.rows[0].path


@dataclass(slots=True)
class Relisted:
    """A CSV's photos that are there still, in the order of its rows, and how it differs from the listing."""

    pairs: list[Pair] = field(default_factory=list)
    misplaced: Faults = field(default_factory=Faults)
    gone: Faults = field(default_factory=Faults)
    added: Faults = field(default_factory=Faults)


def list_again(preds: Predictions, record: RunRecord, photos: Path | None) -> Relisted:
    """List what the run listed. photos: the folder that its paths are below now; None for where it found them.

    Raises:
        GenderclsError: the folder, or a file that was named, is not there.
    """
    listed: defaultdict[str, deque[tuple[int, Photo]]] = defaultdict(deque)
    for place, (path, photo) in enumerate(_listing(preds, record, photos)):
        listed[path].append((place, photo))
    found, last = Relisted(), -1
    for numbers in preds.photos:
        rows = tuple(preds.rows[number] for number in numbers)
        path = rows[0].path
        if path not in listed:
            found.gone.add(path, "is not there any more")
        elif not listed[path]:
            found.misplaced.add(path, "has rows at two places")
        else:
            place, photo = listed[path].popleft()
            if place < last:
                found.misplaced.add(path, "comes earlier in the listing")
            last = max(last, place)
            found.pairs.append(Pair(photo, rows))
    # A run over a part of the labels, or over the first photos, left others out.
    if record.split is None:
        for path, left in listed.items():
            for place, photo in left:
                if record.limit is None or place < last:
                    found.added.add(path, "has no row" + if_newer(photo, record))
    return found


def if_newer(photo: Photo, record: RunRecord) -> str:
    """A hint, where a photo's file was changed after the run, so that its answer may be another; else empty."""
    try:
        ended = datetime.fromisoformat(record.finished["at"]).timestamp() + 1  # it has whole seconds
        is_newer = isinstance(photo, PhotoFile) and os.stat(photo.place).st_mtime > ended
    except (LookupError, TypeError, ValueError, OSError):  # neither the record of an older run nor a lost photo tells
        return ""
    return " (the file is newer than the run)" if is_newer else ""


def _listing(preds: Predictions, record: RunRecord, photos: Path | None) -> Iterator[tuple[str, Photo]]:
    """The photos that the run would find now, each with the path that its row would have."""
    try:
        if photos is None:
            yield from ((path_field(photo.key), photo) for photo in Listing(record.inputs, files_of(preds.path)))
            return
        root, typed = root_of(preds, photos), [os.fsencode(argument) for argument in record.inputs]
        is_one_folder = len(typed) == 1 and not os.path.isfile(os.path.join(root, typed[0]))
        places = [(b"", root)] if is_one_folder else [(argument, os.path.join(root, argument)) for argument in typed]
        for argument, place in places:
            prefix = argument.rstrip(b"/") + b"/" if argument else b""
            is_folder = os.path.isdir(place)
            for photo in Listing((os.fsdecode(place),), files_of(preds.path)):
                # Of what lies in an archive, the archive's own path is the argument.
                within = photo.key if is_folder else photo.key.removeprefix(readable_name(place))
                yield path_field(readable_name(prefix if is_folder else argument) + within), photo
    except GenderclsError as error:
        error.do = "name the folder that the photos are below: --photos DIR"
        raise
