"""Photos that a text names: a path a line, or each followed by a NUL; a file, or what is piped in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from gendercls.errors import GenderclsError
from gendercls.sources.photo import Photo, PhotoFile, readable_name
from gendercls.sources.reach import is_url
from gendercls.sources.store import RemotePhoto

STANDARD_INPUT = "@-"

_LONGEST = 65_536
"""Bytes of a path: more is no list of paths."""


@dataclass(frozen=True, slots=True)
class PathList:
    """A list of paths and addresses, in its own order. Each line is a photo's key; empty ones are none.

    argument: as typed, with the ``@``.
    """

    argument: str

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        """Raises GenderclsError where the list cannot be read."""
        for line in self._lines():
            name = readable_name(line)
            yield RemotePhoto(name, name) if is_url(name) else PhotoFile(name, line)

    def _lines(self) -> Iterator[bytes]:
        rest, separator = b"", b""
        for block in self._blocks():
            # A path has no NUL, so one tells what ends the paths; the first block holds at least one whole path.
            separator = separator or (b"\0" if b"\0" in block else b"\n")
            *lines, rest = (rest + block).split(separator)
            if max(map(len, lines), default=0) > _LONGEST or len(rest) > _LONGEST:
                raise GenderclsError(
                    f"this is no list of paths: a line has more than {_LONGEST:,} bytes",
                    where=self.argument,
                    do="give one path a line, or each followed by a NUL as find -print0 does",
                )
            yield from filter(None, map(_without_return if separator == b"\n" else bytes, lines))
        if rest := _without_return(rest):
            yield rest

    def _blocks(self) -> Iterator[bytes]:
        is_standard = self.argument == STANDARD_INPUT
        try:
            descriptor = os.dup(0) if is_standard else os.open(self.argument[1:], os.O_RDONLY | os.O_CLOEXEC)
            try:
                place = 0
                while block := os.pread(descriptor, 1 << 20, place):
                    place += len(block)
                    yield block
            finally:
                os.close(descriptor)
        except OSError as error:
            raise GenderclsError(
                f"the list cannot be read: {error.strerror}",
                where=self.argument,
                do="pipe it into the command" if is_standard else "check the path; @ before it means a list of paths",
            ) from None


def _without_return(line: bytes) -> bytes:
    return line.removesuffix(b"\r")
