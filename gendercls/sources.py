"""Where photos come from: a stream of `Photo` in a stable order, never held in memory as a whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from gendercls.errors import GenderclsError, NotAPhotoError, PhotoError, UsageError
from gendercls.images import promises_photo

MAX_BYTES = 512 * 1024 * 1024
"""A larger file is not read: no photo format in use needs it, and a folder may hold films."""


class Photo(Protocol):
    """What the pipeline needs of a photo, wherever it lies.

    key: the name in the CSV, unique in the listing. path: as long a path as is known, for matching labels.
    """

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> str: ...

    def read(self) -> bytes:
        """The whole file. Raises PhotoError, whose first line says why not."""
        ...


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A file on disk. place: its path as the system knows it, which need not be UTF-8."""

    key: str
    place: bytes

    @property
    def path(self) -> str:
        return readable_name(os.path.abspath(self.place))

    def read(self) -> bytes:
        try:
            # Non-blocking, so that a FIFO that nobody feeds cannot hold the run.
            descriptor = os.open(self.place, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise NotAPhotoError()
                if status.st_size > MAX_BYTES:
                    raise _too_large(self.key)
                return file.readall()
        except OSError as error:
            raise PhotoError(f"cannot be read: {error.strerror}") from None
        except ValueError:  # only from Python: no system has such a name
            raise PhotoError("cannot be read: its path holds a NUL") from None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What has a row and is not read: a folder that cannot be listed, a photo that has ended a process. reason: why."""

    key: str
    path: str
    reason: str

    def read(self) -> bytes:
        raise PhotoError(self.reason)


class Listing:
    """The photos below folders and files, in the order of the arguments and, within each, of the raw path's bytes.

    Hidden files and folders are left out, links to files followed, links to folders not.

    Args:
        arguments: one or more folders or files, as typed.
        leave_out: this run's own files, which may lie among the photos and need not exist.

    Raises:
        GenderclsError: an argument does not exist.
        UsageError: two arguments overlap.
    """

    def __init__(self, arguments: Sequence[str], leave_out: Iterable[Path] = ()) -> None:
        self._roots = [os.fsencode(argument) for argument in arguments]
        self._left_out = [_real_place(path) for path in leave_out]
        for argument, root in zip(arguments, self._roots, strict=True):
            if not os.path.exists(root):
                raise GenderclsError("no such file or folder", where=argument, do="check the path")
        _refuse_overlap(arguments)

    def __iter__(self) -> Iterator[Photo]:
        for root in self._roots:
            if os.path.isdir(root):
                prefix = b"" if len(self._roots) == 1 else root.rstrip(b"/") + b"/"
                yield from self._walk(root, prefix)
            else:
                yield PhotoFile(readable_name(root), root)

    def _walk(self, root: bytes, prefix: bytes) -> Iterator[Photo]:
        """Depth first, with an explicit stack: a tree may be deeper than Python's recursion limit."""
        above = os.path.join(os.path.realpath(root), b"")  # no link to a folder is followed below it
        left_out = {prefix + place.removeprefix(above) for place in self._left_out if place.startswith(above)}
        stack = [_entries(root, prefix)]
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


def readable_name(name: bytes) -> str:
    r"""A path as text: UTF-8, and bytes that are not written as ``\xNN``."""
    return name.decode("utf-8", "backslashreplace")


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


def _real_place(path: Path) -> bytes:
    return os.path.join(os.path.realpath(os.fsencode(path.parent)), os.fsencode(path.name))


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name


def _refuse_overlap(arguments: Sequence[str]) -> None:
    # By their parts, so that what lies below a folder comes right after it.
    places = sorted((Path(os.path.realpath(argument)).parts, argument) for argument in arguments)
    for (first, typed_first), (second, typed_second) in pairwise(places):
        if second[: len(first)] == first:
            raise UsageError(
                "two of the arguments overlap, so photos would be counted twice",
                where=f"{typed_first} and {typed_second}",
                do="name each folder once",
            )


def _too_large(key: str) -> PhotoError:
    size = f"larger than {MAX_BYTES // 1024 // 1024} MB"
    return PhotoError(size) if promises_photo(key) else NotAPhotoError()
