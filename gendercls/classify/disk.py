"""An output on disk: the part file, its lock, and the name that it gets by a rename."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gendercls.address import part_of
from gendercls.classify.runrecord import record_bytes
from gendercls.classify.storage import another_run
from gendercls.errors import OutputError
from gendercls.parquet import check_installed, csv_of, is_left_over, is_parquet, write_parquet
from gendercls.wholefile import is_no_file, mode_of_next, open_private, publish, whole_file

_DYING_SECONDS = 2.0
"""How long a process that was killed may still hold its lock."""

_SYNC_SECONDS = 10.0
"""Rows of so long may be lost when the machine loses power; when only the process ends, none are."""

_COMPANIONS = (".part", ".run.json", ".run.json.tmp", ".tmp", ".part.tmp")
_LONGEST_NAME = 255 - max(map(len, _COMPANIONS))  # bytes, on all file systems in common use


class Disk:
    """``preds.csv.part``, rows in order, and ``preds.csv.run.json``. Only one process at a time can hold the part.

    The lock dies with the process. Also for ``preds.parquet`` the part is a CSV.
    """

    may_tear = True

    def __init__(self, out: Path) -> None:
        self.out = out
        self.part = part_of(out)
        self.record = out.with_name(out.name + ".run.json")
        self._is_parquet = is_parquet(out.name)
        self._held: list[BinaryIO] = []
        self._synced = time.monotonic()

    def files(self) -> Iterator[Path]:
        return (self.out.with_name(self.out.name + suffix) for suffix in ("", *_COMPANIONS))

    def check_place(self) -> None:
        out = self.out
        # os.path, since Path's own checks raise where a path is too long.
        if not os.path.isdir(out.parent):
            problem, do = "the output's folder does not exist", "make it, or choose another --out"
        elif os.path.isdir(out):
            problem, do = "the output is a folder", f"name a file in it, as in --out {out / 'preds.csv'}"
        elif is_no_file(out):
            problem, do = "the output is no file", "name one, as in --out preds.csv"
        elif not os.access(out.parent, os.W_OK):
            problem, do = "the output's folder is not writable", "make it writable, or choose another --out"
        elif len(os.fsencode(out.name)) > _LONGEST_NAME:
            problem, do = "the output's name is too long", f"choose one of at most {_LONGEST_NAME} bytes"
        elif odd := next(
            (path for path in self.files() if path != out and (path.is_symlink() or is_no_file(path))), None
        ):
            problem, do = (
                f"{odd.name}, which belongs to the output, is no file",
                "take it away, or choose another --out",
            )
        else:
            if self._is_parquet:
                check_installed(str(out))
            return
        raise OutputError(problem, where=str(out), do=do)

    def settle(self) -> None:
        if self._is_parquet and self.part.exists() and is_left_over(self.part, self.out):
            self.part.unlink(missing_ok=True)

    def has_result(self) -> bool:
        return self.out.exists()

    def is_begun(self) -> bool:
        """Whether its header is there; without it there is no row to lose, and perhaps no record of the run either."""
        try:
            with self.part.open("rb") as file:
                return file.readline().endswith(b"\n")
        except OSError:
            return False

    def read_record(self) -> bytes:
        return self.record.read_bytes()

    def open(self, *, anew: bool) -> BinaryIO:
        self._held = [_open_locked(self.part)]
        if anew:
            self._file.truncate(0)  # first, so that no row ever lies beside another run's record
        return self._file

    def begin_record(self, content: dict[str, Any]) -> None:
        try:
            with whole_file(self.record) as file:
                file.write(record_bytes(content))
            _sync_folder(self.record.parent)  # no row may outlive it
        except OSError as error:
            raise _cannot_write(self.record, error) from None

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise _cannot_write(self.part, error) from None

    def finish(self, content: dict[str, Any]) -> None:
        self.begin_record(content)
        try:
            os.fsync(self._file.fileno())
            if self._is_parquet:
                with whole_file(self.out) as target:
                    write_parquet(self._file, target, str(self.part))
                _sync_folder(self.out.parent)  # before the rows are gone of which it was made
                self.part.unlink(missing_ok=True)
            else:
                publish(self.part, self.out, mode_of_next(self.out))
            _sync_folder(self.out.parent)
        except OSError as error:
            raise _cannot_write(self.part, error) from None

    def open_written(self) -> BinaryIO:
        self._held = [_open_locked(self.written)]
        if self._written_is_parquet:
            packed, rows = self._file, self._temporary()
            self._held.append(rows)
            rows.writelines(csv_of(packed, str(self.out)))
            rows.flush()
        return self._file

    @contextlib.contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        source = self.written
        try:
            if self._written_is_parquet:
                with self._temporary() as rows:
                    yield rows
                    with whole_file(source) as new:
                        write_parquet(rows, new, str(source))
            else:
                with whole_file(source) as new:
                    yield new
            _sync_folder(self.out.parent)
        except OSError as error:
            raise _cannot_write(source, error) from None

    def close(self) -> None:
        for file in self._held:
            with contextlib.suppress(OSError):
                file.close()
        self._held = []

    @property
    def is_finished(self) -> bool:
        return not self.part.exists()

    @property
    def written(self) -> Path:
        return self.out if self.is_finished else self.part

    @property
    def _file(self) -> BinaryIO:
        """Where the rows are read and written: what was opened last."""
        return self._held[-1]

    @property
    def _written_is_parquet(self) -> bool:
        return self._is_parquet and self.is_finished

    def _temporary(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self.out.parent)


def _open_locked(path: Path) -> BinaryIO:
    try:
        file = path.open("r+b") if path.exists() else open_private(path, "x+b")
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        _lock(file)
        # The run before may have renamed the file between our opening and our lock.
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a file system without locks
        return file
    file.close()
    raise another_run(path)


def _lock(file: BinaryIO) -> None:
    """Raises BlockingIOError where another process keeps the lock; one that was just killed needs a moment to end."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        return
    end = time.monotonic() + _DYING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.05)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"the output cannot be written: {error.strerror or error}",
        where=str(path),
        do="mend that (free some disk, or make the folder writable) and repeat the command: it continues",
    )
