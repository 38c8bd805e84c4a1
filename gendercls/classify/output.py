"""A run's output and its journal: append, recover, finish, on disk or in a store.

While a run goes on its rows are a CSV, in order, and a record beside them says what run it is. The result gets its name
in one step, when every row is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gendercls.address import Address
from gendercls.classify.consistency import contradictions
from gendercls.classify.disk import Disk
from gendercls.classify.runrecord import OUTCOME, Begun, begun_of, check_same_run
from gendercls.classify.storage import Storage
from gendercls.classify.store import Store
from gendercls.errors import DamagedRowError, OutputError
from gendercls.rows import Columns, Row, encode, read_records

FORMAT = (1, 3)

PhotoRows = list[Row]
"""All rows of one photo: one, or with faces one for each."""


class Journal:
    """A run's output: begun or found, appended to, finished.

    Args:
        out: the result's final path or address; one in a store that ends in ``/`` is a folder of parts.
        columns: its columns.
        identity: what the run is, plain JSON values; a run that goes on must have the same.
        threshold: the confidence below which its rows are uncertain.
        tick: called each second while a store has to be waited for.

    Only one process at a time can write it.
    """

    def __init__(
        self,
        out: Address,
        columns: Columns,
        identity: dict[str, Any],
        threshold: float,
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        self._storage = storage_of(out, tick)
        self.out, self.part, self.record = out, self._storage.part, self._storage.record
        self.columns = columns
        self.identity = {"format": list(FORMAT), **identity}
        self.threshold = threshold
        self._file: BinaryIO | None = None
        self.damage = ""

    @property
    def is_finished(self) -> bool:
        """Whether rows that are there are all there should be."""
        return self._storage.is_finished

    @property
    def anew(self) -> str:
        """The option that does everything again."""
        return "--force instead of --retry-failed" if self.is_finished else "--restart"

    def begin(self, *, restart: bool, force: bool) -> None:
        """Take hold of the output, new or as it was left.

        Raises:
            OutputError: the place is missing or not writable, the result exists, another process writes it, or what
                was begun is another run.
        """
        _check_free(self._storage, force=force)
        found = self._storage.is_begun() and not restart
        if found:
            self._check_same_run()
        self._file = self._storage.open(anew=not found)
        if not found:
            self._write_record()
        if self._file.seek(0, os.SEEK_END) == 0:  # in a store, rows and their header come some time after the record
            self.append_fields([self.columns.header()])

    def kept(self) -> Iterator[PhotoRows]:
        """The rows that are there, photo by photo; what comes after them is dropped.

        On disk the last photo's may be there in part, so they are dropped and will be redone, and so is all from the
        first damaged row on, as a machine that loses power may leave some: `damage` then says what was wrong.

        Raises:
            OutputError: there are other columns; in a store, where nothing tears by itself, also damaged rows.
        """
        file, end = self._opened(), len(encode(self.columns.header()))
        before: PhotoRows | None = None
        try:
            for rows, _, begin in self._by_photo():
                if before is not None:
                    yield before
                before, end = rows, begin
            if before is not None and not self._storage.may_tear:
                yield before
                end = os.fstat(file.fileno()).st_size
        except DamagedRowError as error:
            if not self._storage.may_tear:
                raise
            self.damage = f"{error.what} ({error.where})"
        file.truncate(end)
        file.seek(end)

    def append(self, rows: Iterable[Row]) -> None:
        """Write whole rows of whole photos at once. Raises OutputError when there is no room; what was there stays."""
        self.append_fields(self.columns.fields(row) for row in rows)

    def append_fields(self, records: Iterable[Sequence[str]]) -> None:
        """As `append`, for lines as they are."""
        self._opened()
        self._storage.write(b"".join(map(encode, records)))

    def finish(self, outcome: dict[str, Any]) -> None:
        """Give the result its final name, once all of it is there. outcome: for its record."""
        self._opened()
        self._storage.finish({**self.identity, OUTCOME: outcome})
        self.close()

    def close(self) -> None:
        """Let go of the output; what was appended stays."""
        self._file = None
        self._storage.close()

    def begin_retry(self) -> None:
        """Take hold of the output of this very run, finished or not. Raises OutputError when there is none to take."""
        self._storage.check_place()
        self._storage.settle()
        if self.is_finished and not self._storage.has_result():
            raise OutputError(
                "there is no output to retry", where=str(self.out), do="run the command without --retry-failed first"
            )
        self._check_same_run()
        self._file = self._storage.open_written()

    def photos(self) -> Iterator[PhotoRows]:
        """All rows that are there, photo by photo. Raises OutputError when they are damaged or have other columns."""
        try:
            for rows, _, _ in self._by_photo():
                yield rows
        except DamagedRowError as error:
            error.do = f"repeat with {self.anew} to begin anew"
            raise

    def rewrite(self, redo: Callable[[PhotoRows], PhotoRows | None]) -> None:
        """Replace the output in one step: each photo's rows by what ``redo`` gives, or as they are for None."""
        with self._storage.replacing() as new:
            new.write(encode(self.columns.header()))
            for rows, written, _ in self._by_photo():
                answer = redo(rows)
                fields = written if answer is None else map(self.columns.fields, answer)
                new.write(b"".join(map(encode, fields)))

    def _by_photo(self) -> Iterator[tuple[PhotoRows, list[list[str]], int]]:
        """Each photo's rows from the top: what they say, their fields as written, and the offset where they begin."""
        rows: PhotoRows = []
        written: list[list[str]] = []
        begin = end = len(encode(self.columns.header()))
        for fields, after in self._records():
            row = self._row(fields, after - end)
            if not row.is_first and (not rows or row.path != rows[0].path):
                raise self._damaged(fields, f"face {row.face[0]} does not follow on another of its photo")
            if row.is_first and rows:
                self._check(rows, written)
                yield rows, written, begin
                rows, written, begin = [], [], end
            end = after
            rows.append(row)
            written.append(fields)
        if rows:
            self._check(rows, written, may_be_torn=not self.is_finished)
            yield rows, written, begin

    def _records(self) -> Iterator[tuple[list[str], int]]:
        """The rows' fields from the top, each with the offset at which it ends."""
        file = self._opened()
        file.seek(0)
        records = read_records(file, str(self._storage.written))
        try:
            header, end = next(records, ([], 0))
        except DamagedRowError:
            header, end = ["no CSV"], 0
        if header != self.columns.header() or end != len(encode(header)):
            raise OutputError(
                "the rows have other columns than this run's",
                where=f"{self._storage.written} begins with {','.join(header)[:200]}",
                do=f"choose another --out, or repeat with {self.anew} to begin anew",
            )
        for fields, end in records:
            yield fields, end
        if (self.is_finished or not self._storage.may_tear) and end != os.fstat(file.fileno()).st_size:
            raise DamagedRowError(
                "the CSV is cut off within its last row",
                where=str(self._storage.written),
                do="repeat with --restart to begin anew",
            )

    def _row(self, fields: Sequence[str], size: int) -> Row:
        """The row of a line of that many bytes, which has to be as `append` writes it, since it may stay."""
        try:
            row = self.columns.row(fields)
            if self.columns.fields(row) != list(fields) or len(encode(fields)) != size:
                raise ValueError("no run writes it so")
        except ValueError as error:
            raise self._damaged(fields, str(error)) from None
        return row

    def _check(self, rows: PhotoRows, written: list[list[str]], *, may_be_torn: bool = False) -> None:
        for fault in contradictions(rows, self.columns, self.threshold, may_be_torn=may_be_torn):
            raise self._damaged(written[0], f"it {fault}")

    def _damaged(self, fields: Sequence[str], why: str) -> DamagedRowError:
        return DamagedRowError(
            f"a row is damaged: {why[:200]}",
            where=f"{self._storage.written}, at {fields[0][:200] if fields else 'an empty line'}",
            do="repeat with --restart to begin anew",
        )

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("begin() comes first")
        return self._file

    def _write_record(self) -> None:
        self._storage.begin_record(self.identity)

    def _check_same_run(self) -> None:
        storage = self._storage
        check_same_run(storage.read_record, self.identity, storage.out, storage.record, self.anew)


def begun_with(out: Address, *, also_finished: bool) -> Begun:
    """What the run which left that output unfinished was begun with; the batch size only where bits depend on it."""
    storage = storage_of(out)
    if not storage.is_begun() and not (also_finished and storage.has_result()):
        return Begun()
    return begun_of(storage.read_record)


def files_of(out: Address) -> Iterator[Address]:
    """The output and everything that a run keeps beside it."""
    return storage_of(out).files()


def check_folder(out: Address) -> None:
    """Raises OutputError unless an output can be made at that path."""
    storage_of(out).check_place()


def check_free(out: Address, *, force: bool) -> None:
    """Raises OutputError unless an output can be made at that path without replacing one, or may replace it."""
    _check_free(storage_of(out), force=force)


def _check_free(storage: Storage, *, force: bool) -> None:
    storage.check_place()
    if force:
        return
    storage.settle()
    if storage.has_result():
        raise OutputError(
            "the output already exists",
            where=str(storage.out),
            do="choose another --out, or repeat with --force to replace it",
        )


def storage_of(out: Address, tick: Callable[[], object] = lambda: None) -> Storage:
    """What keeps the output of that name."""
    return Disk(out) if isinstance(out, Path) else Store(out, tick)
