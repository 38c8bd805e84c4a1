"""Where files lie: on disk, or in a store that fsspec reaches. Ranges of a file's bytes, and files that read ahead."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, BinaryIO, Protocol, TypeVar

from gendercls.errors import PhotoError
from gendercls.sources.photo import MAX_BYTES, too_large
from gendercls.sources.reach import (
    READERS,
    GaveUpError,
    answers,
    asked,
    names_version,
    patiently,
    seconds_for,
    unreachable,
)
from gendercls.sources.readers import Readers
from gendercls.sources.s3 import read_range

T = TypeVar("T")

_BLOCK = 8 << 20
"""Bytes of one request while a file is read from its beginning to its end."""

_AT_A_TIME = 2
"""Blocks that are under way."""


class File(Protocol):
    """A file, on disk or remote, of which any range of bytes can be read. It can be sent to another process."""

    @property
    def name(self) -> str: ...

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from begin to before end, fewer where the file ends earlier. Raises PhotoError."""
        ...

    def open(self) -> BinaryIO:
        """The file from its beginning; it can seek. Raises OSError, also while it is read."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on disk. place: its path as the system knows it."""

    name: str
    place: bytes

    def read(self, begin: int, end: int) -> bytes:
        try:
            with open(self.place, "rb", buffering=0) as file:
                return _read_at(file.fileno(), begin, end)
        except OSError as error:
            raise PhotoError(f"cannot be read: {error.strerror}") from None

    def open(self) -> BinaryIO:
        return open(self.place, "rb", buffering=1 << 20)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a store. url: its address, with the store's scheme."""

    url: str

    @property
    def name(self) -> str:
        return self.url

    def read(self, begin: int, end: int) -> bytes:
        """Raises GenderclsError too, where the store does not answer any more: that is no photo's fault."""
        return _or_a_reason(self.url, lambda: self._range(begin, end, READERS))

    def size(self) -> int:
        """In bytes; one try."""
        size = asked(self.url, "info")["size"]
        if size is None:
            raise ValueError("its store does not tell how large it is")
        return int(size)

    def open(self) -> BinaryIO:
        """Raises GenderclsError too, as `read` does, also while it is read."""
        size = patiently(self.url, self.size)
        return io.BufferedReader(_ReadingAhead(self.url, size, self._block), 1 << 20)

    def _range(self, begin: int, end: int, at_a_time: int) -> bytes:
        """One try to read these bytes, fewer where the file ends earlier."""
        seconds = seconds_for(end - begin, at_a_time)
        data = read_range(self.url, begin, end, seconds)
        return bytes(asked(self.url, "cat_file", start=begin, end=end, seconds=seconds)) if data is None else data

    def _block(self, begin: int, end: int) -> bytes:
        block = self._range(begin, end, _AT_A_TIME)
        if len(block) != end - begin:
            raise OSError(f"{len(block):,} bytes came of {end - begin:,}")
        return block


@dataclass(frozen=True, slots=True)
class RemotePhoto:
    """A photo in a store. size: in bytes, -1 where the listing did not say."""

    key: str
    url: str
    size: int = -1

    @property
    def path(self) -> str:
        return self.url

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        """As `RemoteFile.read`."""
        if names_version(self.url):
            raise PhotoError("its name holds ?versionId=, and versions are not read")
        sizes = chain((self.size,), repeat(-1))  # by the second try the photo may be another
        return _or_a_reason(self.url, lambda: self._whole(next(sizes)))

    def _whole(self, size: int) -> bytes:
        """One try to read it."""
        file = RemoteFile(self.url)
        if size < 0:
            size = file.size()
        if size > MAX_BYTES:
            raise too_large(self.key)
        if size == 0:
            return b""  # a range of nothing is refused by stores
        data = file._range(0, size + 1, READERS)  # one byte more tells a photo that has grown
        if len(data) != size:
            raise OSError(f"{len(data):,} bytes came of {size:,}")
        return data


class _ReadingAhead(io.RawIOBase):
    """A remote file; while it is read in order, the next block is under way already."""

    def __init__(self, url: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._url = url
        self._size = size
        self._fetch = fetch
        self._place = 0
        self._readers = Readers(_AT_A_TIME)
        self._blocks: dict[int, Future[bytes]] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0
        number, skipped = divmod(self._place, _BLOCK)
        ahead = (n for n in range(number, number + _AT_A_TIME) if n * _BLOCK < self._size)
        self._blocks = {n: self._blocks.get(n) or self._begin(n) for n in ahead}
        try:
            block = self._blocks[number].result()
        except OSError as error:
            # Where the rest of a file cannot be had, no row could stand for the photos that are missing.
            raise unreachable(self._url, error) from error
        part = block[skipped : skipped + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        self._readers.close()
        self._blocks = {}
        super().close()

    def _begin(self, number: int) -> Future[bytes]:
        begin = number * _BLOCK
        end = min(begin + _BLOCK, self._size)
        return self._readers.begin(lambda: patiently(self._url, lambda: self._fetch(begin, end)))


def _or_a_reason(url: str, request: Callable[[], T]) -> T:
    """What a request gives. Raises PhotoError where only this address fails, GenderclsError where the store does."""
    try:
        return patiently(url, request)
    except FileNotFoundError:
        raise PhotoError("cannot be read: No such file or directory") from None
    except GaveUpError as error:
        if not answers(url):
            raise unreachable(url, error) from error
        raise PhotoError(f"cannot be read: {error}") from None
    except OSError as error:
        raise PhotoError(f"cannot be read: {error}") from None


def _read_at(descriptor: int, begin: int, end: int) -> bytes:
    parts = []
    while begin < end and (part := os.pread(descriptor, end - begin, begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)
