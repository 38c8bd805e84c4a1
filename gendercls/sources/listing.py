"""What the arguments of a command name, as one stream of photos in a stable order, never held in memory as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path

from gendercls.address import is_url
from gendercls.errors import GenderclsError, UsageError
from gendercls.sources.bucket import RemoteFolder
from gendercls.sources.folder import Folder
from gendercls.sources.lists import STANDARD_INPUT, PathList
from gendercls.sources.photo import One, Photo, PhotoFile, Source, readable_name
from gendercls.sources.store import File, LocalFile, RemoteFile, RemotePhoto, opened, patiently

CHUNK = 1024
"""Photos that one machine of several takes at a time."""

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST_EXPANDED = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_WILD = re.compile(r"[*?\[]")


class Listing:
    """The photos in folders, files, lists and archives, in the order of the arguments.

    Within a folder and a zip they come in the order of their raw path's bytes, within lists, tars and tables in their
    own. Hidden files and folders are left out, links to files followed, links to folders not. Archives are opened where
    they are named, not where they lie in a folder. ``{000..015}`` and ``{a,b}`` stand for several arguments, and so
    does a ``*`` in the address of a store.

    Args:
        arguments: one or more folders, files, ``@`` lists, or addresses, as typed.
        leave_out: this run's own files, which may lie among the photos and need not exist.

    Raises:
        GenderclsError: an argument does not exist, or its store cannot be reached.
        UsageError: two arguments overlap.
    """

    def __init__(self, arguments: Sequence[str], leave_out: Iterable[Path | str] = ()) -> None:
        names = [name for argument in arguments for name in _expanded(argument)]
        is_only = len(names) == 1 and names[0] == arguments[0]
        left_out = tuple(leave_out)
        self.sources: tuple[Source, ...] = tuple(_source(name, left_out, is_only=is_only) for name in names)
        _refuse_overlap(names)

    def __iter__(self) -> Iterator[Photo]:
        for source in self.sources:
            yield from source.photos()

    @property
    def is_passing(self) -> bool:
        """Whether to count the photos would cost as much as reading them."""
        return any(source.is_passing for source in self.sources)

    def chunks(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Photo]]:
        """The photos of the wanted chunks, each with its chunk's number, counted from 0.

        A chunk is `CHUNK` photos in a row. A source whose photos only pass by is a chunk by itself, however many photos
        it has, so that whoever does not want it need not read it; the one before it is cut short.
        """
        number = count = 0
        for source in self.sources:
            if source.is_passing:
                number, count = number + (count > 0), 0
                if wanted(number):
                    yield from ((number, photo) for photo in source.photos())
                number += 1
                continue
            for photo in source.photos():
                if wanted(number):
                    yield number, photo
                number, count = (number + 1, 0) if count + 1 == CHUNK else (number, count + 1)


def _expanded(argument: str) -> Iterator[str]:
    """The arguments that one stands for: itself, where there is such a file or nothing to expand in it."""
    if argument.startswith("@") or (not is_url(argument) and os.path.lexists(os.fsencode(argument))):
        yield argument
        return
    for name in _braces_expanded(argument):
        if is_url(name) and _WILD.search(name):
            yield from _matching(name)
        else:
            yield name


def _braces_expanded(argument: str) -> Iterator[str]:
    """``{000..015}``, with its zeros, and ``{a,b}``, each combination in order; other braces stand for themselves."""
    fixed, choices, end = [""], list[list[str]](), 0
    for found in _BRACES.finditer(argument):
        if options := _options(found[1], argument):
            fixed[-1] += argument[end : found.start()]
            fixed.append("")
            choices.append(options)
            end = found.end()
    fixed[-1] += argument[end:]
    for count, chosen in enumerate(product(*choices)):
        if count == _MOST_EXPANDED:
            raise _too_many(argument)
        yield fixed[0] + "".join(option + text for option, text in zip(chosen, fixed[1:], strict=True))


def _options(braced: str, argument: str) -> list[str]:
    if found := _RANGE.fullmatch(braced):
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= _MOST_EXPANDED:
            raise _too_many(argument)
        numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        return [str(number).zfill(len(found[1])) for number in numbers]
    return braced.split(",") if "," in braced else []


def _too_many(argument: str) -> UsageError:
    return UsageError(f"this names more than {_MOST_EXPANDED:,} files", where=argument, do="name fewer")


def _matching(pattern: str) -> list[str]:
    """The addresses in a store that a pattern matches, sorted by their bytes."""
    system, path = opened(pattern)
    scheme = pattern.partition("://")[0]
    try:
        found = patiently(lambda: system.glob(path))
    except OSError as error:
        raise _not_reached(pattern, error) from None
    if not found:
        raise GenderclsError("nothing there has such a name", where=pattern, do="check the pattern")
    return sorted((f"{scheme}://{name}" for name in found), key=lambda url: url.encode("utf-8", "surrogateescape"))


def _source(name: str, left_out: tuple[Path | str, ...], *, is_only: bool) -> Source:
    if name.startswith("@"):
        source = PathList(name)
        next(source.photos(), None)  # so that one that cannot be read is told at once
        return source
    if is_url(name):
        return _remote_source(name, left_out, is_only=is_only)
    place = os.fsencode(name)
    if not os.path.exists(place):
        raise GenderclsError("no such file or folder", where=name, do="check the path")
    if os.path.isdir(place):
        own = tuple(_real_place(path) for path in left_out if isinstance(path, Path))
        return Folder(place, b"" if is_only else place.rstrip(b"/") + b"/", own)
    key = readable_name(place)
    return _archive(LocalFile(key, place)) or One(PhotoFile(key, place))


def _remote_source(url: str, left_out: tuple[Path | str, ...], *, is_only: bool) -> Source:
    if source := _archive(RemoteFile(url)):
        return source
    system, path = opened(url)
    try:
        info = patiently(lambda: system.info(path))
    except FileNotFoundError:
        raise GenderclsError("no such file or folder", where=url, do="check the address") from None
    except OSError as error:
        raise _not_reached(url, error) from None
    if info["type"] == "directory":
        own = tuple(address for address in left_out if isinstance(address, str))
        return RemoteFolder(url, "" if is_only else url.rstrip("/") + "/", own)
    return One(RemotePhoto(url, url, info["size"]))


def _not_reached(url: str, error: OSError) -> GenderclsError:
    return GenderclsError(
        f"the store does not answer as it should: {error}",
        where=url,
        do="check the address, the network, and the credentials that the store's own tools use",
    )


def _archive(file: File) -> Source | None:
    """What opens a file of that name; None where it is no archive."""
    name = file.name.lower()
    if name.endswith(_ARCHIVES):
        from gendercls.sources.archives import TarArchive, ZipArchive

        return ZipArchive(file) if name.endswith(".zip") else TarArchive(file)
    if name.endswith(".parquet"):
        from gendercls.sources.tables import Table

        return Table(file)
    return None


def _real_place(path: Path) -> bytes:
    return os.path.join(os.path.realpath(os.fsencode(path.parent)), os.fsencode(path.name))


def _refuse_overlap(names: Sequence[str]) -> None:
    # By their parts, so that what lies below a folder comes right after it.
    places = sorted((_parts(name), name) for name in names)
    for (first, typed_first), (second, typed_second) in pairwise(places):
        if second[: len(first)] == first:
            raise UsageError(
                "two of the arguments overlap, so photos would be counted twice",
                where=f"{typed_first} and {typed_second}",
                do="name each folder once",
            )


def _parts(name: str) -> tuple[str, ...]:
    if is_url(name):
        return tuple(part for part in name.split("/") if part)
    if name == STANDARD_INPUT:
        return (name,)
    path = Path(os.path.realpath(name.removeprefix("@")))
    return ("@", *path.parts) if name.startswith("@") else path.parts
