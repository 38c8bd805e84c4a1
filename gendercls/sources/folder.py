"""The photos below a folder, in the order of their raw paths, without ever holding them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from gendercls.sources.photo import Photo, PhotoFile, Unreadable, readable_name


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on disk.

    Hidden files and folders are left out, links to files followed, links to folders not.

    root: its path. prefix: what the keys of its photos begin with. left_out: real paths of files that are none of its
    photos.
    """

    root: bytes
    prefix: bytes
    left_out: tuple[bytes, ...] = ()

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        """Depth first, with an explicit stack: a tree may be deeper than Python's recursion limit."""
        above = os.path.join(os.path.realpath(self.root), b"")  # no link to a folder is followed below it
        left_out = {self.prefix + place.removeprefix(above) for place in self.left_out if place.startswith(above)}
        stack = [_entries(self.root, self.prefix)]
        while stack:
            for key, entry in stack[-1]:
                if isinstance(entry, Unreadable):
                    yield entry
                elif entry.is_dir(follow_symlinks=False):
                    stack.append(_entries(entry.path, key + b"/"))
                    break
                elif key not in left_out:
                    yield PhotoFile(readable_name(key), entry.path)
            else:
                stack.pop()


def _entries(folder: bytes, prefix: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes] | Unreadable]]:
    """A folder's entries by name, folders compared as if they ended in ``/``: so the whole stream is sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [(_sort_key(entry), entry) for entry in entries if not entry.name.startswith(b".")]
    except OSError as error:
        name = readable_name(prefix.rstrip(b"/") or folder)
        yield prefix, Unreadable(name, name, f"folder cannot be listed: {error.strerror or error}")
        return
    found.sort(key=lambda pair: pair[0])
    for _, entry in found:
        # os.path.isdir, since DirEntry.is_dir raises at a link that leads in a circle.
        if not (entry.is_symlink() and os.path.isdir(entry.path)):
            yield prefix + entry.name, entry


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name
