"""The photos of rows, wherever a run found them: in folders, archives, tables and stores."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from gendercls.errors import GenderclsError, PhotoError
from gendercls.preds import place_of
from gendercls.rows import Row, path_field
from gendercls.sources import Listing, Photo, PhotoFile, Unreadable
from gendercls.sources.reach import is_url
from gendercls.sources.store import RemotePhoto

_WITHIN = re.compile(r"(.+?\.(?:zip|tar|tar\.gz|tgz|tar\.bz2|tbz2|tar\.xz|txz|parquet))!/", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A photo that passed by: several rows may want it."""

    key: str
    path: str
    data: bytes

    @property
    def held(self) -> int:
        return len(self.data)

    def read(self) -> bytes:
        return self.data


def photos_of(rows: Iterable[Row], root: bytes) -> dict[str, Photo]:
    """The photo of each row, by the row's path. Archives are gone through once each, whatever they hold.

    Args:
        rows: not too many: what passes by is kept.
        root: the folder or address that their paths are below, or empty.
    """
    photos: dict[str, Photo] = {}
    archived: defaultdict[str, set[str]] = defaultdict(set)
    for path in {row.path for row in rows}:
        within = _WITHIN.match(path)
        if within and not os.path.lexists(place_of(path, root)):
            archived[within[1]].add(path)
        elif is_url(path) or is_url(os.fsdecode(root)):
            photos[path] = RemotePhoto(path, path if is_url(path) else f"{os.fsdecode(root).rstrip('/')}/{path}")
        else:
            photos[path] = PhotoFile(path, place_of(path, root))
    for archive, wanted in archived.items():
        photos |= _archived(archive, wanted, root)
    return photos


def _archived(archive: str, wanted: set[str], root: bytes) -> dict[str, Photo]:
    place = archive if is_url(archive) else os.fsdecode(place_of(archive, root))
    found: dict[str, Photo] = {path: Unreadable(path, path, "is not in its archive any more") for path in wanted}
    left = set(wanted)
    try:
        for photo in Listing((place,)):
            path = path_field(archive + photo.key.removeprefix(place))
            if path in left:
                found[path] = _kept(photo)
                left.discard(path)
            if not left:
                break
    except GenderclsError as error:
        return {path: Unreadable(path, path, f"cannot be read: {error.what}") for path in wanted}
    return found


def _kept(photo: Photo) -> Photo:
    if not photo.held:
        return photo
    try:
        return _Kept(photo.key, photo.path, photo.read())
    except PhotoError as error:
        return Unreadable(photo.key, photo.path, error.what)
