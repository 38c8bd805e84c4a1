"""Where files lie: on disk, or in a store that fsspec reaches. Ranges of a file's bytes, and files that read ahead."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, Protocol, TypeVar

from gendercls.errors import GenderclsError, PhotoError
from gendercls.sources.photo import MAX_BYTES, too_large

T = TypeVar("T")

TRIES = 5
"""How often a request is made before it is given up."""

_FIRST_WAIT = 0.25
"""Seconds before the second try; twice as many before each further one."""

_BLOCK = 8 << 20
"""Bytes of one request while a file is read from its beginning to its end."""

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
"""What no second try mends."""


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
        try:
            return self._range(begin, end)
        except FileNotFoundError:
            raise PhotoError("cannot be read: No such file or directory") from None
        except OSError as error:
            raise PhotoError(f"cannot be read: {error}") from None

    def size(self) -> int:
        """In bytes. Raises OSError."""
        system, path = opened(self.url)
        return int(patiently(lambda: system.info(path)["size"]))

    def open(self) -> BinaryIO:
        return io.BufferedReader(_ReadingAhead(self.size(), self._range), 1 << 20)

    def _range(self, begin: int, end: int) -> bytes:
        system, path = opened(self.url)
        return patiently(lambda: bytes(system.cat_file(path, start=begin, end=end)))


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
        try:
            size = self.size if self.size >= 0 else RemoteFile(self.url).size()
        except FileNotFoundError:
            raise PhotoError("cannot be read: No such file or directory") from None
        except OSError as error:
            raise PhotoError(f"cannot be read: {error}") from None
        if size > MAX_BYTES:
            raise too_large(self.key)
        return RemoteFile(self.url).read(0, size) if size else b""  # a range of nothing is refused by stores


class _ReadingAhead(io.RawIOBase):
    """A remote file; while it is read in order, the next block is under way already."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._place = 0
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="ahead")
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
        kept = {n: self._blocks.get(n) or self._begin(n) for n in (number, number + 1) if n * _BLOCK < self._size}
        self._blocks = kept
        block = kept[number].result()
        if len(block) != min(_BLOCK, self._size - number * _BLOCK):
            raise OSError("the file ends earlier than its store says")
        part = block[skipped : skipped + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._blocks = {}
        super().close()

    def _begin(self, number: int) -> Future[bytes]:
        begin = number * _BLOCK
        return self._pool.submit(self._fetch, begin, min(begin + _BLOCK, self._size))


def opened(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it. Raises GenderclsError where it cannot be had."""
    scheme = url.partition("://")[0]
    system = _file_system(scheme)
    return system, str(system._strip_protocol(url))


def patiently(request: Callable[[], T]) -> T:
    """What a request to a store gives, made again where a failure may pass. Raises OSError when none went well."""
    for number in range(TRIES):
        try:
            return request()
        except _FINAL:
            raise
        except Exception as error:  # each store has its own kinds
            if number == TRIES - 1:
                raise OSError(_one_line(error)) from error
            # By chance, so that many readers which failed at once do not come back at once.
            time.sleep(_FIRST_WAIT * 2**number * random.uniform(0.5, 1.0))  # noqa: S311
    raise AssertionError


def children(url: str) -> Iterator[dict[str, Any]]:
    """What lies directly in a folder of a store: fsspec's ``name``, ``size`` and ``type``. Raises OSError."""
    system, path = opened(url)
    yield from patiently(lambda: system.ls(path, detail=True))


@lru_cache(maxsize=8)
def _file_system(scheme: str) -> Any:
    try:
        import fsspec

        # What is there is asked anew each time: a listing that is kept takes memory and grows old.
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        raise GenderclsError(
            f"{scheme}:// needs a library that is not installed: {_one_line(error)}",
            where=f"{scheme}://",
            do="pip install 'gendercls[remote]', or for other stores what fsspec names",
        ) from None
    except ValueError as error:
        raise GenderclsError(
            f"no store is reached by {scheme}://: {_one_line(error)}",
            where=f"{scheme}://",
            do="use one that fsspec knows, such as s3:// or gs://",
        ) from None


def _read_at(descriptor: int, begin: int, end: int) -> bytes:
    parts = []
    while begin < end and (part := os.pread(descriptor, end - begin, begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
