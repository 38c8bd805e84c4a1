"""Objects in a store, by their addresses: written whole or not at all, and asked for again where that may help."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import BinaryIO, TypeVar

from gendercls.errors import GenderclsError
from gendercls.parquet import csv_of, is_parquet
from gendercls.sources.reach import asked, called, opened, patiently, scheme_of, seconds_for, unreachable

T = TypeVar("T")

_TICK_SECONDS = 1.0
_BLOCK = 8 << 20


class Objects:
    """Requests to a store. tick: called each second while one takes long.

    All raise GenderclsError where the store does not do what it is asked.
    """

    def __init__(self, tick: Callable[[], object]) -> None:
        self._tick = tick
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store")

    def kind(self, url: str) -> str | None:
        """``file``, ``directory``, or None where nothing has that address."""
        return self._ask(url, lambda: str(asked(url, "info")["type"]), None)

    def names(self, url: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing where there is none."""
        none: list[str] = []
        found = self._ask(url, lambda: list(map(str, asked(url, "ls", detail=False))), none)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, url: str) -> bytes | None:
        """All of an object of a few megabytes, None where there is none."""
        return self._ask(url, lambda: bytes(asked(url, "cat_file", seconds=seconds_for(_BLOCK, 1))), None)

    def create(self, url: str, data: bytes) -> bool:
        """Write an object that is not there yet; False where another one is, if the store can tell."""

        def request() -> bool:
            system, path = opened(url)
            seconds = seconds_for(len(data), 1)
            try:
                called(system, "pipe_file", path, data, mode="create", seconds=seconds)
            except FileExistsError:  # perhaps by the try before, whose answer was lost
                return bytes(called(system, "cat_file", path, seconds=seconds)) == data
            return True

        return self._ask(url, request)

    def put(self, url: str, data: bytes) -> None:
        """Write an object, or replace it."""
        system, path = opened(url)
        self._ask(url, lambda: called(system, "pipe_file", path, data, seconds=seconds_for(len(data), 1)))

    def fetch_rows(self, url: str, rows: BinaryIO) -> None:
        """Write the CSV that a file is, or as Parquet stands for, to an empty file on disk."""
        if is_parquet(url):
            with tempfile.TemporaryFile() as packed:
                self.download(url, packed)
                rows.writelines(csv_of(packed, url))
        else:
            self.download(url, rows)
        rows.flush()

    def upload(self, url: str, file: BinaryIO) -> None:
        """Write an object, or replace it, by all of a file on disk."""
        file.flush()
        system, path = opened(url)
        seconds = seconds_for(os.fstat(file.fileno()).st_size, 1)
        # Stores send large files in pieces and name them in the end, which their writable files do after an error too.
        self._ask(url, lambda: called(system, "put_file", f"/dev/fd/{file.fileno()}", path, seconds=seconds))

    def download(self, url: str, file: BinaryIO) -> None:
        """Read an object into a file on disk, whatever it held."""
        system, path = opened(url)

        def request() -> None:
            file.seek(0)
            file.truncate()
            with system.open(path, "rb") as source:
                shutil.copyfileobj(source, file, _BLOCK)
            file.flush()

        self._ask(url, request)

    def remove(self, url: str) -> None:
        """Remove an object, if there is one."""
        self._ask(url, lambda: asked(url, "rm_file"), None)

    def _ask(self, url: str, request: Callable[[], T], *if_missing: T) -> T:
        """What the request gives; the second, where one is given, if there is nothing of that address."""
        call = self._pool.submit(patiently, url, request)
        try:
            while not wait([call], _TICK_SECONDS).done:
                self._tick()
            return call.result()
        except FileNotFoundError as error:
            if if_missing:
                return if_missing[0]
            raise unreachable(url, error) from None
        except OSError as error:
            raise unreachable(url, error) from None


def check_store(url: str) -> None:
    """Raises GenderclsError unless a store is named, and its library is there."""
    scheme = scheme_of(url)
    if scheme in ("file", "local"):
        raise GenderclsError("a file on disk is named by its path", where=url, do=f"leave out {scheme}://")
    opened(url)
