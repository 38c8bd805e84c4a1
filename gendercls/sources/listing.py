"""What the arguments of a command name, as one stream of photos in a stable order, never held in memory as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from gendercls.errors import GenderclsError, UsageError
from gendercls.sources.bucket import RemoteFolder
from gendercls.sources.folder import Folder
from gendercls.sources.lists import STANDARD_INPUT, PathList
from gendercls.sources.photo import One, Photo, PhotoFile, Source, readable_name
from gendercls.sources.reach import AT_FIRST, READERS, asked, is_url, names_version, patiently, scheme_of, unreachable
from gendercls.sources.readers import Readers
from gendercls.sources.shard import WHOLE, Shard, Walk
from gendercls.sources.store import File, LocalFile, RemoteFile, RemotePhoto

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST_EXPANDED = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_WILD = re.compile(r"[*?\[]")
_WEB = ("http", "https")
_MATCHING = 300.0
"""Seconds to find what a pattern matches."""


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
        self.sources = _sources(names, left_out, is_only=is_only)
        _refuse_overlap(names)

    def __iter__(self) -> Iterator[Photo]:
        for source in self.sources:
            yield from source.photos()

    @property
    def is_passing(self) -> bool:
        """Whether to count the photos would cost as much as reading them."""
        return any(source.is_passing for source in self.sources)

    def walk(self, shard: Shard = WHOLE, is_wanted: Callable[[Photo], bool] = lambda _: True) -> Walk:
        """The wanted photos of a shard."""
        return Walk(self.sources, shard, is_wanted)


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
    """The addresses in a store that a pattern matches, sorted by their bytes; itself, where there is such a file."""
    if scheme_of(pattern) in _WEB or _info(pattern) is not None:
        return [pattern]
    try:
        found = patiently(pattern, lambda: asked(pattern, "glob", seconds=_MATCHING))
    except OSError as error:
        raise unreachable(pattern, error) from None
    if not found:
        raise GenderclsError("nothing there has such a name", where=pattern, do="check the pattern")
    urls = (f"{scheme_of(pattern)}://{name}" for name in found)
    return sorted(urls, key=lambda url: url.encode("utf-8", "surrogateescape"))


def _sources(names: Sequence[str], left_out: tuple[Path | str, ...], *, is_only: bool) -> tuple[Source, ...]:
    """What each name stands for; stores are asked about many at a time."""
    readers = Readers(READERS)
    try:
        begun = {
            name: readers.begin(partial(_remote_source, name, left_out, is_only=is_only))
            for name in names
            if is_url(name)
        }
        return tuple(
            begun[name].result() if name in begun else _local_source(name, left_out, is_only=is_only) for name in names
        )
    finally:
        readers.close()


def _local_source(name: str, left_out: tuple[Path | str, ...], *, is_only: bool) -> Source:
    if name.startswith("@"):
        source = PathList(name)
        next(source.photos(), None)  # so that one that cannot be read is told at once
        return source
    place = os.fsencode(name)
    if not os.path.exists(place):
        raise GenderclsError("no such file or folder", where=name, do="check the path")
    if os.path.isdir(place):
        own = tuple(_real_place(path) for path in left_out if isinstance(path, Path))
        return Folder(place, b"" if is_only else place.rstrip(b"/") + b"/", own)
    key = readable_name(place)
    return _archive(LocalFile(key, place)) or One(PhotoFile(key, place))


def _remote_source(url: str, left_out: tuple[Path | str, ...], *, is_only: bool) -> Source:
    info = _info(url)
    if info is None:
        raise GenderclsError("no such file or folder", where=url, do="check the address")
    if scheme_of(url) in _WEB and (url.endswith("/") or info.get("mimetype") == "text/html"):
        raise GenderclsError(
            "this is a web page, and what it leads to is no list of photos",
            where=url,
            do="name photos or archives themselves, or an @ list of them",
        )
    # A store may have an object of a folder's name; a slash says which is meant.
    if info["type"] == "directory" or url.endswith("/"):
        own = tuple(address for address in left_out if isinstance(address, str))
        return RemoteFolder(url, "" if is_only else url.rstrip("/") + "/", own)
    size = info["size"]
    return _archive(RemoteFile(url)) or One(RemotePhoto(url, url, -1 if size is None else size))


def _info(url: str) -> dict[str, Any] | None:
    """What fsspec knows of an address; None where nothing is there. Raises GenderclsError."""
    if names_version(url):
        raise GenderclsError(
            "versions of an object are not read", where=url, do="leave out ?versionId=, which gives the newest"
        )
    try:
        info: dict[str, Any] = patiently(url, lambda: asked(url, "info"), AT_FIRST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreachable(url, error) from None
    return info


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
