"""An output in a store: rows become objects that never change, and the result gets its name by one request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gendercls.classify.objects import Objects, check_store
from gendercls.classify.parts import MANIFEST, Manifest, Part, number_of, part_name, parts_of, split
from gendercls.classify.runrecord import UNFINISHED, record_bytes
from gendercls.classify.storage import another_run
from gendercls.errors import DamagedRowError, GenderclsError, OutputError
from gendercls.parquet import check_installed, is_parquet, write_parquet

_PART_BYTES = 8_000_000
_PART_SECONDS = 30.0
"""Rows of so long may be lost when the process is killed, and are done again."""


@dataclass
class _Sent:
    """What a store has of an unfinished run.

    run: the name that chance gave it. size, digest: of the bytes of the CSV that are in parts; where there is none, the
    size of the header alone. at: when that was.
    """

    run: str
    parts: list[Part] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    at: float = field(default_factory=time.monotonic)


class Store:
    """``preds.csv.parts/``, ``preds.csv.run.json`` and in the end ``preds.csv``; or a folder whose parts stay.

    While a run goes on, its record and each of its parts have a name that chance gave the run: parts of two runs are
    never mixed, and of two processes that continue one run the second finds its next part there.

    Args:
        out: an address; where it ends in ``/`` the parts stay, and a manifest in it is the result.
        tick: called each second while the store takes long.
    """

    may_tear = False

    def __init__(self, out: str, tick: Callable[[], object]) -> None:
        self.out = out
        self._parts_stay = out.endswith("/")
        self.part = out if self._parts_stay else out + ".parts/"
        self.record = out + "run.json" if self._parts_stay else out + ".run.json"
        self._result = out + MANIFEST if self._parts_stay else out
        self._objects = Objects(tick)
        self._file: BinaryIO | None = None
        self._sent, self._may_send = _Sent(""), False
        # By chance, so that two processes that continue one run soon want different parts of one name.
        self._most = _PART_BYTES * random.uniform(0.75, 1.0)  # noqa: S311

    def files(self) -> Iterator[str]:
        return iter((self.out,) if self._parts_stay else (self.out, self.record, self.part))

    def check_place(self) -> None:
        check_store(self.out)
        if is_parquet(self.out):
            check_installed(self.out)
        root, _, name = self.out.partition("://")[2].partition("/")
        if not name:
            problem, do = "the output has no name", f"name a file, as in --out {self.out.rstrip('/')}/preds.csv"
        elif root and self._objects.kind(self.out[: self.out.index("://") + 3] + root) is None:
            problem, do = "there is no such bucket", "make it, or choose another --out"
        elif not self._parts_stay and self._objects.kind(self.out) == "directory":
            problem, do = "the output is a folder", f"name a file in it, or for parts that stay --out {self.out}/"
        else:
            return
        raise OutputError(problem, where=self.out, do=do)

    def settle(self) -> None:
        if self.is_finished and self._has_result_object():
            self._remove_left_over()

    def has_result(self) -> bool:
        # One that an unfinished run put there itself is no other result.
        unfinished = self._unfinished()
        return self._has_result_object() and (unfinished is None or bool(unfinished.get("replaces")))

    def is_begun(self) -> bool:
        return not self.is_finished

    @property
    def is_finished(self) -> bool:
        record = self._read_json()
        # Rows of which nobody knows the run are some that were begun.
        return not parts_of(self._objects.names(self.part)) if record is None else UNFINISHED not in record

    @property
    def written(self) -> str:
        return self.out if self.is_finished else self.part

    def read_record(self) -> bytes:
        data = self._objects.read(self.record)
        if data is None:
            raise FileNotFoundError(self.record)
        return data

    def open(self, *, anew: bool) -> BinaryIO:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 — close() does
        self._sent, self._may_send = _Sent(secrets.token_hex(4)), True
        if not anew:  # else the new record, by its one request, makes parts of another run nobody's
            self._fetch_parts()
        return self._file

    def begin_record(self, content: dict[str, Any]) -> None:
        content = {**content, UNFINISHED: {"parts": self._sent.run, "replaces": self._has_result_object()}}
        data = record_bytes(content)
        if self._objects.kind(self.record) is not None:
            self._objects.put(self.record, data)
        elif not self._objects.create(self.record, data):
            raise another_run(self.out)

    def write(self, data: bytes) -> None:
        file = self._opened
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            self._may_send = False
            raise OutputError(
                f"rows cannot be kept until they are sent: {error.strerror}",
                where=tempfile.gettempdir(),
                do="free some disk there, or name another folder in TMPDIR, and repeat the command: it continues",
            ) from None
        end = file.tell()
        if self._sent.size == 0:  # the header, which each part has
            self._sent.size = end
        elif end - self._sent.size >= self._most or time.monotonic() - self._sent.at >= _PART_SECONDS:
            self._send()

    def finish(self, content: dict[str, Any]) -> None:
        if self._opened.tell() > self._sent.size or not self._sent.parts:
            self._send()
        self._check_held()
        self._publish()
        self._objects.put(self.record, record_bytes(content))
        self._may_send = False
        with contextlib.suppress(GenderclsError):  # the result is whole; the next command tries again
            self._remove_left_over()

    def open_written(self) -> BinaryIO:
        if self._parts_stay or not self.is_finished:
            problem = "parts that stay are not retried" if self.is_finished else "the run is not finished"
            do = "merge them into one file" if self.is_finished else "repeat the command without --retry-failed first"
            raise OutputError(problem, where=self.out, do=do)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 — close() does
        self._objects.fetch_rows(self.out, self._file)
        return self._file

    @contextlib.contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        with tempfile.TemporaryFile() as rows:
            yield rows
            self._upload(rows)

    def close(self) -> None:
        """Send what has not been, of an unfinished run that is stopped."""
        if self._file is None:
            return
        try:
            if self._may_send and 0 < self._sent.size < self._file.tell():
                self._send()
        finally:
            self._file.close()
            self._file = None

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("open() comes first")
        return self._file

    def _read_json(self) -> dict[str, Any] | None:
        """The record; None where there is none, or nobody can read it."""
        try:
            content = json.loads(self._objects.read(self.record) or b"")
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def _unfinished(self) -> dict[str, Any] | None:
        """What the record says of a run that goes on; None without one."""
        unfinished = (self._read_json() or {}).get(UNFINISHED)
        return unfinished if isinstance(unfinished, dict) else None

    def _has_result_object(self) -> bool:
        return self._objects.kind(self._result) is not None

    def _check_held(self) -> None:
        """Raises OutputError where another run has begun since, or has finished this one."""
        if (self._unfinished() or {}).get("parts") != self._sent.run:
            self._may_send = False
            raise another_run(self.out)

    def _send(self) -> None:
        """Make a part of the rows that are in none."""
        file, self._may_send = self._opened, False
        file.seek(0)
        header = file.readline()
        file.seek(self._sent.size)
        body = file.read()
        name = part_name(len(self._sent.parts), self._sent.run, stays=self._parts_stay)
        self._check_held()
        if not self._objects.create(self.part + name, header + body):
            raise another_run(self.out)
        self._add_part(name, header, body)
        self._may_send = True

    def _add_part(self, name: str, header: bytes, body: bytes) -> None:
        self._sent.digest.update(body if self._sent.parts else header + body)
        self._sent.parts.append(Part.of(name, header + body, self.part + name))
        self._sent.size, self._sent.at = self._opened.tell(), time.monotonic()

    def _fetch_parts(self) -> None:
        """Write the rows of the run's parts to the opened file."""
        file, run = self._opened, str((self._unfinished() or {}).get("parts"))
        self._sent = _Sent(run)
        for number, name in enumerate(parts_of(self._objects.names(self.part), run)):
            data = self._objects.read(self.part + name)
            if data is None or number_of(name) != number:
                missing = part_name(number, run, stays=self._parts_stay)
                raise _damaged_part(self.part + missing, "is missing")
            header, body = split(data)
            if number == 0:
                first = header
                file.write(header)
            elif header != first:
                raise _damaged_part(self.part + name, "has another header")
            file.write(body)
            self._add_part(name, header, body)
        file.flush()

    def _publish(self) -> None:
        if self._parts_stay:
            rows = sum(part.rows for part in self._sent.parts)
            manifest = Manifest(rows, self._sent.size, self._sent.digest.hexdigest(), tuple(self._sent.parts))
            self._objects.put(self._result, manifest.to_json().encode())
        else:
            self._upload(self._opened)

    def _upload(self, rows: BinaryIO) -> None:
        """Make a CSV on disk the result."""
        if not is_parquet(self.out):
            self._objects.upload(self.out, rows)
            return
        with tempfile.TemporaryFile() as packed:
            write_parquet(rows, packed, self.part)
            self._objects.upload(self.out, packed)

    def _remove_left_over(self) -> None:
        """Remove all parts but those of the result."""
        kept: set[str] = set()
        if self._parts_stay and (text := self._objects.read(self._result)) is not None:
            kept = {part.name for part in Manifest.from_json(text.decode("utf-8", "replace"), self._result).parts}
        for name in parts_of(self._objects.names(self.part)):
            if name not in kept:
                self._objects.remove(self.part + name)


def _damaged_part(where: str, what: str) -> DamagedRowError:
    return DamagedRowError(f"a part of the rows {what}", where=where, do="repeat with --restart to begin anew")
