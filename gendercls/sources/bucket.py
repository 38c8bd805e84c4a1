"""The photos below a folder of a store, in the order that the same folder has on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from gendercls.sources.photo import Photo, Unreadable
from gendercls.sources.reach import asked, called, opened, patiently, scheme_of, unreachable
from gendercls.sources.readers import Readers
from gendercls.sources.store import RemotePhoto

Object = tuple[str, int]
"""A path in a store, without its scheme, and a size in bytes; -1 where the store did not say."""

Page = tuple[list[Object], str]
"""Objects, and what the next page is asked for with; empty after the last one."""

_LISTING = 600.0
"""Seconds that a level of a folder may take, of which stores other than the ones below give all at once."""


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder of a store. Hidden files and folders are left out, and so are the empty objects that mark a folder.

    Where a store lists whole trees in the order of their paths' bytes, a page is held in memory at a time; elsewhere
    one level.

    url: its address. prefix: what the keys of its photos begin with. left_out: addresses of files that are none of its
    photos.
    """

    url: str
    prefix: str
    left_out: tuple[str, ...] = ()

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        """Raises GenderclsError where the store does not go on listing."""
        scheme = scheme_of(self.url)
        root = opened(self.url)[1].rstrip("/") + "/"
        left_out = {opened(url)[1] for url in self.left_out}
        for found in _in_pages(self.url, _PAGES[scheme]) if scheme in _PAGES else _by_levels(self.url):
            if isinstance(found, Unreadable):
                yield found
                continue
            path, size = found
            name = path.removeprefix(root)
            if path not in left_out and not any(part.startswith(".") for part in name.split("/")):
                yield RemotePhoto(self.prefix + name, f"{scheme}://{path}", size)


def _in_pages(url: str, ask: Callable[[str, str, str], Page]) -> Iterator[Object]:
    """All objects below a folder, by their paths' bytes; the next page is asked for while one is used."""
    bucket, _, folder = opened(url)[1].partition("/")
    folder = folder.rstrip("/") + "/" if folder else ""
    readers, last = Readers(1), b""

    def begin(token: str) -> Future[Page]:
        return readers.begin(lambda: patiently(url, lambda: ask(bucket, folder, token)))

    try:
        page = begin("")
        while True:
            try:
                objects, token = page.result()
            except OSError as error:
                raise unreachable(url, error) from error
            if token:
                page = begin(token)
            for path, size in objects:
                if path.encode("utf-8", "surrogateescape") <= last:
                    raise unreachable(url, OSError("it does not list in the order of its paths"))
                last = path.encode("utf-8", "surrogateescape")
                if not (path.endswith("/") and size == 0):
                    yield path, size
            if not token:
                return
    finally:
        readers.close()


def _s3_page(bucket: str, folder: str, token: str) -> Page:
    system = opened("s3://")[0]
    named: dict[str, Any] = {"ContinuationToken": token} if token else {}
    page = called(system, "call_s3", "list_objects_v2", Bucket=bucket, Prefix=folder, **named, **system.req_kw)
    objects = [(f"{bucket}/{found['Key']}", int(found["Size"])) for found in page.get("Contents", ())]
    return objects, page.get("NextContinuationToken", "") if page.get("IsTruncated") else ""


def _gs_page(bucket: str, folder: str, token: str) -> Page:
    system = opened("gs://")[0]
    named: dict[str, Any] = {"prefix": folder or None, "pageToken": token or None}
    wanted = "items(name,size),nextPageToken"
    page = called(system, "call", "GET", "b/{}/o", bucket, json_out=True, fields=wanted, **named)
    objects = [(f"{bucket}/{found['name']}", int(found["size"])) for found in page.get("items", ())]
    return objects, page.get("nextPageToken", "")


_PAGES = {"s3": _s3_page, "s3a": _s3_page, "gs": _gs_page, "gcs": _gs_page}


def _by_levels(url: str) -> Iterator[Object | Unreadable]:
    """The same of a store that lists a folder at a time; one that cannot be listed below it has a row, as on disk."""
    scheme = scheme_of(url)
    stack = [_level(url)]
    while stack:
        for found in stack[-1]:
            if isinstance(found, Unreadable):
                yield found
                continue
            path = found["name"].rstrip("/")
            if found["type"] == "directory":
                stack.append(_level(f"{scheme}://{path}"))
                break
            yield path, -1 if found["size"] is None else found["size"]
        else:
            stack.pop()


def _level(url: str) -> Iterator[dict[str, Any] | Unreadable]:
    """A folder's entries by name, folders compared as if they ended in ``/``: so the whole stream is sorted."""
    own = opened(url)[1].rstrip("/")
    try:
        entries = patiently(url, lambda: asked(url, "ls", detail=True, seconds=_LISTING))
    except (FileNotFoundError, PermissionError) as error:
        yield Unreadable(url, url, f"folder cannot be listed: {error}")
        return
    except OSError as error:
        raise unreachable(url, error) from error
    named = ((_sort_key(entry), entry) for entry in entries if entry["name"].rstrip("/") != own)
    for key, entry in sorted(named, key=lambda pair: pair[0]):
        if not key.startswith(b"."):  # no need to list what is hidden
            yield entry


def _sort_key(entry: dict[str, Any]) -> bytes:
    name = os.path.basename(entry["name"].rstrip("/"))
    key: str = name + "/" if entry["type"] == "directory" else name
    return key.encode("utf-8", "surrogateescape")
