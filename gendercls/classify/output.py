"""The CSV and its journal: append, recover, finish.

While a run goes on: ``preds.csv.part``, rows in order, and ``preds.csv.run.json``, which says what run it is. The
final name appears only by a rename, when every row is there.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gendercls.errors import OutputError

FORMAT = (1, 0)
NOT_A_PHOTO = "not a photo"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the CSV, as text. truth and correct are empty without labels or without a label."""

    path: str
    label: str
    confidence: str
    probabilities: tuple[str, ...]
    truth: str = ""
    correct: str = ""
    error: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether a photo could not be read; a file that is no photo has not failed."""
        return bool(self.error) and self.error != NOT_A_PHOTO


@dataclass(frozen=True, slots=True)
class Columns:
    """The CSV's columns: fixed by the model's classes and by whether there are labels."""

    classes: tuple[str, ...]
    has_truth: bool

    def header(self) -> list[str]:
        truth = ["truth", "correct"] if self.has_truth else []
        return ["path", "label", "confidence", *(f"p_{name}" for name in self.classes), *truth, "error"]

    def fields(self, row: Row) -> list[str]:
        """The row's fields, defused for spreadsheets."""
        probabilities = row.probabilities or ("",) * len(self.classes)
        truth = [defused(row.truth), row.correct] if self.has_truth else []
        return [path_field(row.path), defused(row.label), row.confidence, *probabilities, *truth, defused(row.error)]

    def row(self, fields: Sequence[str]) -> Row:
        """The row behind a line's fields, as `fields` wrote it. Raises ValueError for another number of fields."""
        if len(fields) != len(self.header()):
            raise ValueError(f"{len(fields)} fields instead of {len(self.header())}")
        last = 3 + len(self.classes)
        probabilities = tuple(fields[3:last]) if fields[2] else ()
        truth, correct = fields[last : last + 2] if self.has_truth else ("", "")
        return Row(fields[0], _plain(fields[1]), fields[2], probabilities, _plain(truth), correct, _plain(fields[-1]))


def path_field(path: str) -> str:
    """A path as the CSV has it: one that a spreadsheet would take for a formula gets ``./`` before it."""
    return "./" + path if path.startswith(("=", "+", "-", "@")) else path


def defused(word: str) -> str:
    """A word that a spreadsheet would take for a formula gets a leading ``'``."""
    return "'" + word if word.startswith(("=", "+", "-", "@")) else word


def _plain(word: str) -> str:
    return word[1:] if word.startswith(("'=", "'+", "'-", "'@")) else word


def encode(fields: Sequence[str]) -> bytes:
    """One CSV line. Quoted wherever a field holds ``,`` ``"`` CR or LF; Python's own csv leaves a lone CR bare."""
    return (",".join(map(_quoted, fields)) + "\n").encode("utf-8", "backslashreplace")


def _quoted(field: str) -> str:
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return '"' + field.replace('"', '""') + '"'
    return field


def read_records(file: BinaryIO, name: str) -> Iterator[tuple[list[str], int]]:
    """Whole CSV records of a file and the offset at which each ends; a torn last one is left out.

    Raises:
        OutputError: a line in the middle is no CSV or not UTF-8.
    """
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8")

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            if "unexpected end of data" in str(error):
                return  # torn within quotes
            raise OutputError(
                f"a row is damaged: {error}",
                where=f"{name}:{reader.line_num + 1}",
                do="repeat with --restart to begin anew",
            ) from None
        yield fields, end


class Journal:
    """A run's output on disk: begun or found, appended to, finished.

    Args:
        out: the CSV's final path.
        columns: its columns.
        identity: what the run is, plain JSON values; a run that goes on must have the same.

    Only one process at a time can hold it; the lock dies with the process.
    """

    def __init__(self, out: Path, columns: Columns, identity: dict[str, Any]) -> None:
        self.out = out
        self.part = out.with_name(out.name + ".part")
        self.record = out.with_name(out.name + ".run.json")
        self.columns = columns
        self.identity = {"format": list(FORMAT), **identity}
        self._file: BinaryIO | None = None

    def begin(self, *, restart: bool, force: bool) -> None:
        """Open the part file, new or as it was left.

        Raises:
            OutputError: the folder is missing or not writable, the result exists, another process writes it, or
                what was begun is another run.
        """
        check_folder(self.out)
        if self.out.exists() and not force:
            raise OutputError(
                "the output already exists",
                where=str(self.out),
                do="choose another --out, or repeat with --force to replace it",
            )
        found = self.part.exists() and not restart
        if found:
            self._check_same_run()
        self._file = _open_locked(self.part)
        if not found:
            self._write_record()
            self._file.truncate(0)
            self.append_fields([self.columns.header()])

    def kept_rows(self) -> Iterator[Row]:
        """The rows that are there, but for the last photo's, which is dropped and will be redone.

        Once exhausted, the file ends after the last row given.

        Raises:
            OutputError: the part file is damaged or has other columns.
        """
        file = self._opened()
        file.seek(0)
        records = read_records(file, str(self.part))
        header, end = next(records, ([], 0))
        if header != self.columns.header():
            if header or self.part.stat().st_size > len(encode(self.columns.header())):
                raise OutputError(
                    "the rows begun have other columns",
                    where=f"{self.part} begins with {','.join(header)[:200]}",
                    do="repeat with --restart to begin anew",
                )
            file.truncate(0)
            file.seek(0)
            self.append_fields([self.columns.header()])
            return
        previous: Row | None = None
        previous_end = end
        for fields, after in records:
            if previous is not None:
                yield previous
                end = previous_end
            previous, previous_end = self._row(fields), after
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
        except OSError as error:
            raise _cannot_write(self.part, error) from None

    def finish(self) -> None:
        """Give the file its final name, once all of it is on the disk."""
        file = self._opened()
        try:
            os.fsync(file.fileno())
            os.replace(self.part, self.out)
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

    def check_retry(self) -> None:
        """Raises OutputError unless there is a CSV, finished or not, of this very run."""
        check_folder(self.out)
        if not self._written().exists():
            raise OutputError(
                "there is no output to retry", where=str(self.out), do="run the command without --retry-failed first"
            )
        self._check_same_run()

    def rewrite(self, redo: Callable[[Row], Row | None]) -> None:
        """Replace the CSV (finished or not) in one step: each row by what ``redo`` gives, or as it is for None.

        Raises:
            OutputError: there is no CSV, or it is damaged or another run's.
        """
        self.check_retry()
        source = self._written()
        fresh = self.out.with_name(self.out.name + ".retry")
        with source.open("rb") as old, _open_locked(fresh) as new:
            new.truncate(0)
            records = read_records(old, str(source))
            header, _ = next(records, ([], 0))
            if header != self.columns.header():
                raise OutputError("the rows have other columns", where=str(source), do="name the command's own output")
            new.write(encode(header))
            for fields, _ in records:
                answer = redo(self._row(fields))
                new.write(encode(fields if answer is None else self.columns.fields(answer)))
            new.flush()
            os.fsync(new.fileno())
            os.replace(fresh, source)
        _sync_folder(self.out.parent)

    def rows(self) -> Iterator[Row]:
        """The finished CSV's rows, or the part's. Raises OutputError when damaged."""
        source = self._written()
        with source.open("rb") as file:
            records = read_records(file, str(source))
            next(records, None)
            for fields, _ in records:
                yield self._row(fields)

    def _written(self) -> Path:
        """Where the rows are: the part file while a run is unfinished."""
        return self.part if self.part.exists() else self.out

    def _row(self, fields: Sequence[str]) -> Row:
        try:
            return self.columns.row(fields)
        except ValueError as error:
            raise OutputError(
                f"a row is damaged: {error}",
                where=f"{self._written()}, at {fields[0] if fields else 'an empty line'}",
                do="repeat with --restart to begin anew",
            ) from None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("begin() comes first")
        return self._file

    def _write_record(self) -> None:
        text = json.dumps(self.identity, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
        temporary = self.record.with_name(self.record.name + ".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.record)
        except OSError as error:
            raise _cannot_write(self.record, error) from None

    def _check_same_run(self) -> None:
        try:
            begun = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise OutputError(
                "rows were begun, but the record of their run is missing or damaged",
                where=str(self.record),
                do="repeat with --restart to begin anew",
            ) from None
        now = json.loads(json.dumps(self.identity))
        if begun == now:
            return
        key, was, is_now = _first_difference(begun, now)
        raise OutputError(
            f"{self.out.name} was begun with another {key}; going on would mix the answers of two",
            where=f"{self.record.name} has {was}, this run has {is_now}",
            do="repeat the command as it was to continue, or with --restart to begin anew",
        )


def check_folder(out: Path) -> None:
    """Raises OutputError unless a file can be made at that path."""
    folder = out.parent
    problem = ""
    if not folder.is_dir():
        problem = "the output's folder does not exist"
    elif out.is_dir():
        problem = "the output is a folder"
    elif not os.access(folder, os.W_OK):
        problem = "the output's folder is not writable"
    if problem:
        raise OutputError(problem, where=str(out), do="make the folder, or choose another --out")


def _first_difference(begun: Any, now: Any, key: str = "") -> tuple[str, str, str]:
    """Where two records of a run first differ: the key in words, and both values."""
    if isinstance(begun, dict) and isinstance(now, dict):
        for name in [*now, *(set(begun) - set(now))]:
            if begun.get(name) != now.get(name):
                words = name.replace("_", " ")
                inner = words if not key or key in ("options", "versions") else f"{key} {words}"
                return _first_difference(begun.get(name), now.get(name), inner)
    return key or "record", json.dumps(begun, ensure_ascii=False), json.dumps(now, ensure_ascii=False)


def _open_locked(path: Path) -> BinaryIO:
    try:
        file = open(path, "r+b" if path.exists() else "x+b")  # noqa: SIM115 - held for the whole run
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise OutputError(
            "another run is writing this output", where=str(path), do="wait for it, or choose another --out"
        ) from None
    return file


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
