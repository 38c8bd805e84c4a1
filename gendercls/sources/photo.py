"""A photo before it is read, wherever it lies, and what gives photos."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gendercls.errors import NotAPhotoError, PhotoError
from gendercls.images import promises_photo

MAX_BYTES = 512 * 1024 * 1024
"""A larger file is not read: no photo format in use needs it, and a folder may hold films."""


class Photo(Protocol):
    """What the pipeline needs of a photo, wherever it lies.

    key: the name in the CSV, unique in the listing. path: as long a path as is known, for matching labels. held: bytes
    of it that lie in memory until it is read, 0 of most.
    """

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def held(self) -> int: ...

    def read(self) -> bytes:
        """The whole file, once. Raises PhotoError, whose first line says why not."""
        ...


class Source(Protocol):
    """What one argument names. It can be sent to another process.

    is_passing: whether photos' bytes pass by as they are listed, so that a look at what there is costs as much as
    reading all of it.
    """

    @property
    def is_passing(self) -> bool: ...

    def photos(self) -> Iterator[Photo]:
        """Its photos in their order, anew with each call."""
        ...


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A file on disk. place: its path as the system knows it, which need not be UTF-8."""

    key: str
    place: bytes

    @property
    def path(self) -> str:
        return readable_name(os.path.abspath(self.place))

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        try:
            # Non-blocking, so that a FIFO that nobody feeds cannot hold the run.
            descriptor = os.open(self.place, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise NotAPhotoError()
                if status.st_size > MAX_BYTES:
                    raise too_large(self.key)
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

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        raise PhotoError(self.reason)


class Held:
    """A photo whose bytes came with its listing. It gives them away once, so that they go when they have been used."""

    def __init__(self, key: str, path: str, data: bytes) -> None:
        self.key = key
        self.path = path
        self._data = data

    @property
    def held(self) -> int:
        return len(self._data)

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


@dataclass(frozen=True, slots=True)
class One:
    """A source of one photo."""

    photo: Photo

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        yield self.photo


def readable_name(name: bytes) -> str:
    r"""A path as text: UTF-8, and bytes that are not written as ``\xNN``."""
    return name.decode("utf-8", "backslashreplace")


def too_large(key: str) -> PhotoError:
    """Of a file larger than `MAX_BYTES`, which is a failure only where its name promises a photo."""
    size = f"larger than {MAX_BYTES // 1024 // 1024} MB"
    return PhotoError(size) if promises_photo(key) else NotAPhotoError()
