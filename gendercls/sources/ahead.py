"""Reading begun before a photo's turn, so that no core waits for a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from gendercls.sources.photo import Photo
from gendercls.sources.store import RemotePhoto

READERS = 32
"""Requests at a time: a store answers each after some 30 ms, so this gives some thousand photos a second."""

_MOST_AHEAD = 4 * READERS
_MOST_BYTES = 256 << 20
_UNKNOWN = 1 << 20  # bytes that a photo of unknown size is counted as


@dataclass(frozen=True, slots=True)
class _Begun:
    """A photo whose bytes are on their way."""

    photo: RemotePhoto
    data: Future[bytes]

    @property
    def key(self) -> str:
        return self.photo.key

    @property
    def path(self) -> str:
        return self.photo.path

    @property
    def held(self) -> int:
        return _size(self.photo)

    def read(self) -> bytes:
        return self.data.result()


def read_ahead(photos: Iterable[Photo]) -> Iterator[Photo]:
    """The same photos in the same order; those in a store are being read by the time they are given."""
    stream, window, size = iter(photos), deque[Photo](), 0
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as pool:
        try:
            while True:
                while len(window) < _MOST_AHEAD and size < _MOST_BYTES and (photo := next(stream, None)) is not None:
                    begun = _Begun(photo, pool.submit(photo.read)) if isinstance(photo, RemotePhoto) else photo
                    window.append(begun)
                    size += begun.held
                if not window:
                    return
                size -= window[0].held
                yield window.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _size(photo: RemotePhoto) -> int:
    return photo.size if photo.size >= 0 else _UNKNOWN
