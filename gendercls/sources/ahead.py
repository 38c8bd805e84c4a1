"""Reading begun before a photo's turn, so that no core waits for a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from gendercls.sources.photo import MAX_BYTES, Photo
from gendercls.sources.reach import READERS
from gendercls.sources.readers import Readers
from gendercls.sources.store import RemoteFile, RemotePhoto

_MOST_AHEAD = 4 * READERS
_MOST_BYTES = 256 << 20
_UNKNOWN = 1 << 20  # bytes that a photo of unknown size is counted as


class _Begun:
    """A photo whose bytes are on their way. It gives them away once, so that they go when they have been used."""

    def __init__(self, photo: Photo, data: Future[bytes]) -> None:
        self.key = photo.key
        self.path = photo.path
        self.held = _bytes_of(photo)
        self._data: Future[bytes] | None = data

    def read(self) -> bytes:
        data, self._data = self._data, None
        return data.result() if data is not None else b""


def read_ahead(photos: Iterable[Photo], readers: Readers) -> Iterator[Photo]:
    """The same photos in the same order; those in a store are being read by the time they are given."""
    stream, window, size = iter(photos), deque[Photo](), 0
    while True:
        while len(window) < _MOST_AHEAD and size < _MOST_BYTES and (photo := next(stream, None)) is not None:
            if _is_far(photo):
                photo = _Begun(photo, readers.begin(photo.read))
            elif not window:  # nothing before it has to be waited for
                yield photo
                continue
            window.append(photo)
            size += photo.held
        if not window:
            return
        size -= window[0].held
        yield window.popleft()


def _is_far(photo: Photo) -> bool:
    """Whether a store has to be asked for it: a photo there, or one in an archive there."""
    return isinstance(photo, RemotePhoto) or isinstance(getattr(photo, "file", None), RemoteFile)


def _bytes_of(photo: Photo) -> int:
    """That it will hold, as far as is known; a file that is too large is not read."""
    size = getattr(photo, "size", -1)
    return _UNKNOWN if size < 0 else size if size <= MAX_BYTES else 0
