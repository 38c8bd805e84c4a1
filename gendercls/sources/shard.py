"""One machine's share of a listing: every N-th chunk of it, so that N machines need not know of each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gendercls.errors import UsageError
from gendercls.sources.photo import Photo, Source

CHUNK = 1024
"""Photos in a row that one machine takes."""

_MOST = 65_536
_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Shard:
    """A share: chunks ``number``, ``number + of``, … where both, and the chunks, are counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, chunk: int) -> bool:
        """Whether a chunk, counted from 0, is in it."""
        return chunk % self.of == self.number - 1


WHOLE = Shard(1, 1)


def read_shard(typed: str) -> Shard:
    """``3/16``, the third of sixteen. Raises UsageError.

    >>> read_shard("3/16")
    Shard(number=3, of=16)
    """
    found = _SHARD.fullmatch(typed)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
        raise UsageError(
            "this is no share of the work",
            where=f"--shard {typed}",
            do=f"give I/N with I from 1 to N, as in --shard 3/16; N is at most {_MOST:,}",
        )
    return Shard(int(found[1]), int(found[2]))


class Walk:
    """A walk through the photos of a shard; afterwards it tells what was seen.

    A chunk is `CHUNK` photos in a row. A source whose photos only pass by is a chunk by itself, however many photos it
    has, so that whoever does not take it need not read it; the chunk before it is cut short.

    sizes: how many wanted photos each chunk of the shard had that had any, by the chunk's number, counted from 0.
    """

    def __init__(self, sources: Sequence[Source], shard: Shard, is_wanted: Callable[[Photo], bool]) -> None:
        self._sources = sources
        self._shard = shard
        self._is_wanted = is_wanted
        self._seen = hashlib.blake2b(digest_size=16)
        self.sizes: dict[int, int] = {}

    @property
    def digest(self) -> str:
        """Of all that was listed, in its order, the other shards' photos too: the same for each shard."""
        return self._seen.hexdigest()

    def __iter__(self) -> Iterator[Photo]:
        number = count = 0
        for place, source in enumerate(self._sources):
            if source.is_passing:
                number, count = number + (count > 0), 0
                self._see(f"source {place}")
                if self._shard.has(number):
                    for photo in filter(self._is_wanted, source.photos()):
                        self._count(number)
                        yield photo
                number += 1
                continue
            for photo in source.photos():
                self._see(photo.key)
                if self._shard.has(number) and self._is_wanted(photo):
                    self._count(number)
                    yield photo
                number, count = (number + 1, 0) if count + 1 == CHUNK else (number, count + 1)

    def _see(self, key: str) -> None:
        self._seen.update(key.encode("utf-8", "surrogatepass") + b"\0")

    def _count(self, chunk: int) -> None:
        self.sizes[chunk] = self.sizes.get(chunk, 0) + 1
