"""The photos below a folder of a store, in the order that the same folder has on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gendercls.sources.photo import Photo, Unreadable
from gendercls.sources.store import RemotePhoto, children, opened

Entry = tuple[bytes, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder of a store, one level of which is held in memory at a time.

    url: its address. prefix: what the keys of its photos begin with. left_out: addresses of files and
    folders that are none of its photos.
    """

    url: str
    prefix: str
    left_out: tuple[str, ...] = ()

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        scheme = self.url.partition("://")[0]
        root = opened(self.url)[1].rstrip("/") + "/"
        left_out = {opened(url)[1] for url in self.left_out}
        stack = [self._entries(self.url)]
        while stack:
            for entry in stack[-1]:
                if isinstance(entry, Unreadable):
                    yield entry
                    continue
                path = entry["name"].rstrip("/")
                if path in left_out:
                    continue
                if entry["type"] == "directory":
                    stack.append(self._entries(f"{scheme}://{path}"))
                    break
                size = entry["size"]
                url = f"{scheme}://{path}"
                yield RemotePhoto(self.prefix + path.removeprefix(root), url, -1 if size is None else size)
            else:
                stack.pop()

    def _entries(self, url: str) -> Iterator[dict[str, Any] | Unreadable]:
        """A folder's entries by name, folders compared as if they ended in ``/``: so the whole stream is sorted."""
        try:
            found = sorted(filter(None, (_entry(url, child) for child in children(url))), key=lambda pair: pair[0])
        except OSError as error:
            yield Unreadable(url, url, f"folder cannot be listed: {error}")
            return
        for _, child in found:
            yield child


def _entry(url: str, child: dict[str, Any]) -> Entry | None:
    """A child with what it is sorted by; None of a hidden one, and of the empty object that marks a folder."""
    name = os.path.basename(child["name"].rstrip("/"))
    is_folder = child["type"] == "directory"
    if name.startswith(".") or not name or child["name"].rstrip("/") == opened(url)[1].rstrip("/"):
        return None
    return (name + "/" if is_folder else name).encode("utf-8", "surrogateescape"), child
