"""The CSV on disk and its journal: append, recover, finish.

While a run goes on: ``preds.csv.part``, rows in order, and ``preds.csv.run.json``, which says what run it is. The
final name appears only by a rename, when every row is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

from gendercls.classify.consistency import contradictions
from gendercls.errors import DamagedRowError, OutputError
from gendercls.modelfile import Precision
from gendercls.rows import Columns, Row, encode, read_records
from gendercls.wholefile import is_no_file, mode_of_next, open_private, publish, whole_file

FORMAT = (1, 3)

_OUTCOME = "finished"
"""The record's key for what is known only in the end, and no part of what the run is."""

_DYING_SECONDS = 2.0
"""How long a process that was killed may still hold its lock."""

_SYNC_SECONDS = 10.0
"""Rows of so long may be lost when the machine loses power; when only the process ends, none are."""

PhotoRows = list[Row]
"""All rows of one photo: one, or with faces one for each."""

_COMPANIONS = (".part", ".run.json", ".run.json.tmp", ".tmp", ".part.tmp")
_LONGEST_NAME = 255 - max(map(len, _COMPANIONS))  # bytes, on all file systems in common use


class Journal:
    """A run's output on disk: begun or found, appended to, finished.

    Args:
        out: the CSV's final path.
        columns: its columns.
        identity: what the run is, plain JSON values; a run that goes on must have the same.
        threshold: the confidence below which its rows are uncertain.

    Only one process at a time can hold it; the lock dies with the process.
    """

    def __init__(self, out: Path, columns: Columns, identity: dict[str, Any], threshold: float) -> None:
        self.out = out
        self.part = out.with_name(out.name + ".part")
        self.record = out.with_name(out.name + ".run.json")
        self.columns = columns
        self.identity = {"format": list(FORMAT), **identity}
        self.threshold = threshold
        self._file: BinaryIO | None = None
        self._synced = time.monotonic()
        self.damage = ""

    @property
    def is_finished(self) -> bool:
        """Whether rows that are there are all there should be."""
        return not self.part.exists()

    @property
    def anew(self) -> str:
        """The option that does everything again."""
        return "--force instead of --retry-failed" if self.is_finished else "--restart"

    def begin(self, *, restart: bool, force: bool) -> None:
        """Open the part file, new or as it was left.

        Raises:
            OutputError: the folder is missing or not writable, the result exists, another process writes it, or
                what was begun is another run.
        """
        check_free(self.out, force=force)
        found = _is_begun(self.part) and not restart
        if found:
            self._check_same_run()
        self._file = _open_locked(self.part)
        if not found:
            self._file.truncate(0)  # first, so that no row ever lies beside another run's record
            self._write_record()
            self.append_fields([self.columns.header()])

    def kept(self) -> Iterator[PhotoRows]:
        """The rows that are there, photo by photo, but for the last photo's, which are dropped and will be redone.

        Once exhausted, the file ends after the last row given. So it does before the first row that is damaged, as a
        machine that loses power may leave some: `damage` then says what was wrong.

        Raises:
            OutputError: the part file has other columns.
        """
        file, end = self._opened(), len(encode(self.columns.header()))
        before: PhotoRows | None = None
        try:
            for rows, _, begin in self._by_photo():
                if before is not None:
                    yield before
                before, end = rows, begin
        except DamagedRowError as error:
            self.damage = f"{error.what} ({error.where})"
        file.truncate(end)
        file.seek(end)

    def append(self, rows: Iterable[Row]) -> None:
        """Write whole rows at once. Raises OutputError when the disk is full; what was there stays."""
        self.append_fields(self.columns.fields(row) for row in rows)

    def append_fields(self, records: Iterable[Sequence[str]]) -> None:
        """As `append`, for lines as they are."""
        file = self._opened()
        try:
            file.write(b"".join(map(encode, records)))
            file.flush()
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise _cannot_write(self.part, error) from None

    def finish(self, outcome: dict[str, Any]) -> None:
        """Give the file its final name, once all of it is on the disk. outcome: for its record."""
        file = self._opened()
        self._write_record(outcome)
        try:
            os.fsync(file.fileno())
            publish(self.part, self.out, mode_of_next(self.out))
            _sync_folder(self.out.parent)
        except OSError as error:
            raise _cannot_write(self.part, error) from None
        self.close()

    def close(self) -> None:
        """Let go of the file; what was appended stays."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def begin_retry(self) -> None:
        """Take hold of the CSV of this very run, finished or not. Raises OutputError when there is none to take."""
        check_folder(self.out)
        source = self._written()
        if not source.exists():
            raise OutputError(
                "there is no output to retry", where=str(self.out), do="run the command without --retry-failed first"
            )
        self._check_same_run()
        self._file = _open_locked(source)

    def photos(self) -> Iterator[PhotoRows]:
        """All rows that are there, photo by photo. Raises OutputError when they are damaged or have other columns."""
        try:
            for rows, _, _ in self._by_photo():
                yield rows
        except DamagedRowError as error:
            error.do = f"repeat with {self.anew} to begin anew"
            raise

    def rewrite(self, redo: Callable[[PhotoRows], PhotoRows | None]) -> None:
        """Replace the CSV in one step: each photo's rows by what ``redo`` gives, or as they are for None."""
        source = self._written()
        try:
            with whole_file(source) as new:
                new.write(encode(self.columns.header()))
                for rows, written, _ in self._by_photo():
                    answer = redo(rows)
                    fields = written if answer is None else map(self.columns.fields, answer)
                    new.write(b"".join(map(encode, fields)))
            _sync_folder(self.out.parent)
        except OSError as error:
            raise _cannot_write(source, error) from None

    def _written(self) -> Path:
        """Where the rows are: the part file while a run is unfinished."""
        return self.out if self.is_finished else self.part

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
        records = read_records(file, str(self._written()))
        try:
            header, end = next(records, ([], 0))
        except DamagedRowError:
            header, end = ["no CSV"], 0
        if header != self.columns.header() or end != len(encode(header)):
            raise OutputError(
                "the rows have other columns than this run's",
                where=f"{self._written()} begins with {','.join(header)[:200]}",
                do=f"choose another --out, or repeat with {self.anew} to begin anew",
            )
        for fields, end in records:
            yield fields, end
        if self.is_finished and end != os.fstat(file.fileno()).st_size:
            raise DamagedRowError("the CSV is cut off within its last row", where=str(self.out))

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
            where=f"{self._written()}, at {fields[0][:200] if fields else 'an empty line'}",
            do="repeat with --restart to begin anew",
        )

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("begin() comes first")
        return self._file

    def _write_record(self, outcome: dict[str, Any] | None = None) -> None:
        content = self.identity if outcome is None else {**self.identity, _OUTCOME: outcome}
        text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
        try:
            with whole_file(self.record) as file:
                file.write(text.encode("utf-8", "backslashreplace"))  # names that are not UTF-8 as JSON's own \\u
            _sync_folder(self.record.parent)  # no row may outlive it
        except OSError as error:
            raise _cannot_write(self.record, error) from None

    def _check_same_run(self) -> None:
        now = json.loads(json.dumps(self.identity))
        try:
            begun = json.loads(self.record.read_text(encoding="utf-8"))
            if isinstance(begun, dict):
                begun.pop(_OUTCOME, None)
            if begun == now:
                return
            key, was, is_now = _first_difference(begun, now)
        except (OSError, ValueError, RecursionError):  # the last where it is nested too deeply to be read or shown
            raise OutputError(
                "rows were begun, but the record of their run is missing or damaged",
                where=str(self.record),
                do=f"repeat with {self.anew} to begin anew",
            ) from None
        raise OutputError(
            f"{self.out.name} was begun with {key}; going on would mix the answers of two",
            where=f"{self.record.name} has {was}, this run has {is_now}",
            do=f"repeat the command as it was to continue, or with {self.anew} to begin anew",
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run chose by itself, which one that goes on has to keep; None where nothing is known of it."""

    precision: Precision | None = None
    batch_size: int | None = None


def begun_with(out: Path, *, also_finished: bool) -> Begun:
    """What the run which left that output unfinished was begun with; the batch size only where bits depend on it."""
    if not _is_begun(out.with_name(out.name + ".part")) and not (also_finished and out.exists()):
        return Begun()
    try:
        options = json.loads(out.with_name(out.name + ".run.json").read_text(encoding="utf-8"))["options"]
        precision, (batch_size, *_) = options["precision"], options["batch_shape"] or [None]
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ):  # the journal itself will say what is wrong with it
        return Begun()
    is_size = isinstance(batch_size, int) and batch_size >= 1
    return Begun(precision if precision in get_args(Precision) else None, batch_size if is_size else None)


def files_of(out: Path) -> Iterator[Path]:
    """The CSV and everything that a run keeps beside it."""
    return (out.with_name(out.name + suffix) for suffix in ("", *_COMPANIONS))


def check_folder(out: Path) -> None:
    """Raises OutputError unless a file can be made at that path."""
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
    elif odd := next((path for path in files_of(out) if path != out and (path.is_symlink() or is_no_file(path))), None):
        problem, do = f"{odd.name}, which belongs to the output, is no file", "take it away, or choose another --out"
    else:
        return
    raise OutputError(problem, where=str(out), do=do)


def check_free(out: Path, *, force: bool) -> None:
    """Raises OutputError unless a file can be made at that path without replacing one, or may replace it."""
    check_folder(out)
    if out.exists() and not force:
        raise OutputError(
            "the output already exists",
            where=str(out),
            do="choose another --out, or repeat with --force to replace it",
        )


def _first_difference(begun: Any, now: Any) -> tuple[str, str, str]:
    """Where two records of a run first differ: in words, and both values."""
    if not isinstance(begun, dict):
        begun = {}
    key = next(name for name in [*now, *begun] if name not in begun or name not in now or begun[name] != now[name])
    if key in ("options", "versions") and isinstance(begun.get(key), dict) and isinstance(now.get(key), dict):
        words, was, is_now = _first_difference(begun[key], now[key])
        return (words.replace("another", "another version of") if key == "versions" else words), was, is_now
    words = " ".join(key[:60].replace("_", " ").split())
    other = f"other {words}" if words.endswith("s") else f"another {words}"
    was, is_now = (_in_words(record[key])[:500] if key in record else "nothing" for record in (begun, now))
    return other, was, is_now


def _in_words(value: Any) -> str:
    match value:
        case {"sha256": str(digest), **name}:
            return f"{next(iter(name.values()), 'one without a name')} ({digest[:6]})"
        case None:
            return "none"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _is_begun(part: Path) -> bool:
    """Whether its header is there; without it there is no row to lose, and perhaps no record of the run either."""
    try:
        with part.open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return False


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
    raise OutputError("another run is writing this output", where=str(path), do="wait for it, or choose another --out")


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
        f"the output cannot be written: {error.strerror}",
        where=str(path),
        do="mend that (free some disk, or make the folder writable) and repeat the command: it continues",
    )
