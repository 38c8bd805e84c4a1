"""A listing taken apart for many machines: photos one by one, and each source whose photos pass by as a whole."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

from gendercls.errors import OutputError
from gendercls.rows import path_field
from gendercls.sources import Photo, Source, Unreadable

if TYPE_CHECKING:
    from gendercls.sources.archives import TarArchive
    from gendercls.sources.tables import Table


@dataclass(slots=True)
class Whole:
    """A source whose photos pass by, for the machine that is to read it. In a stream it stands for those photos.

    kept: how many of them have rows. digest: of the paths in those rows. is_over: whether rows of a later source
    follow, so that it must hold no more photos than those.
    """

    source: TarArchive | Table
    kept: int = 0
    digest: bytes = b""
    is_over: bool = False

    @property
    def key(self) -> str:
        return self.source.file.name

    @property
    def path(self) -> str:
        return self.key

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        raise TypeError("it is many photos")

    def holds(self, path: str) -> bool:
        """Whether a row with that path is of one of its photos."""
        own = path_field(self.key)
        return path == own or path.startswith(own + "!/")

    def keep(self, path: str) -> None:
        """The next of its photos has the row with that path."""
        self.kept += 1
        self.digest = _linked(self.digest, path)

    def photos(self) -> Iterator[Photo]:
        """Those without rows. Raises OutputError where the others are not the photos that the rows are of."""
        photos, digest = self.source.photos(), b""
        for photo in islice(photos, self.kept):
            digest = _linked(digest, path_field(photo.key))
        if digest != self.digest:
            raise self._other()
        for photo in photos:
            if self.is_over:
                raise self._other()
            yield photo

    def _other(self) -> OutputError:
        return OutputError(
            "the photos are not those the run was begun with",
            where=f"{self.key}, of which {self.kept:,} photos have rows",
            do="put it back as it was, or repeat with --restart to begin anew",
        )


def _linked(digest: bytes, path: str) -> bytes:
    return hashlib.sha256(digest + path.encode("utf-8", "surrogateescape")).digest()


class Spread:
    """The photos of some sources in their order, with a `Whole` in the place of those that pass by.

    The rows of an unfinished run are told to it by `beside`, before anything is taken from it.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = iter(sources)
        self._photos: Iterator[Photo] = iter(())
        self._wholes: deque[Whole] = deque()

    def __iter__(self) -> Iterator[Photo]:
        return self

    def __next__(self) -> Photo:
        while not self._wholes:
            for photo in self._photos:
                return photo
            self._open_next()
        return self._wholes.popleft()

    def beside(self, path: str) -> Photo | None:
        """The next photo, given the path of the next row, which is to be its own; None at the end."""
        while not (self._wholes and self._wholes[-1].holds(path)):
            for photo in self._photos:
                return photo
            if self._wholes:
                self._wholes[-1].is_over = True
            try:
                self._open_next()
            except StopIteration:
                return None
        self._wholes[-1].keep(path)
        return Unreadable(path, path, "it has its row")

    def _open_next(self) -> None:
        """Go on to the next source. Raises StopIteration where there is none."""
        source = next(self._sources)
        if source.is_passing:
            self._wholes.append(Whole(cast("TarArchive | Table", source)))  # no others do
        else:
            self._photos = source.photos()
