"""``gendercls merge``: the CSVs of all shards → the one that a single machine would have written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

from gendercls.address import Address
from gendercls.classify.output import Journal, check_free
from gendercls.classify.written import is_parts, open_rows, read_record
from gendercls.errors import DamagedRowError, OutputError, UsageError
from gendercls.rows import Columns, Row, read_records
from gendercls.sources.shard import CHUNK, WHOLE, Shard, read_shard


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge gave: how many shards, files, and photos that failed."""

    out: Address
    shards: int
    files: int
    failed: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The finished CSV of a shard, and its record.

    identity: what the run is, without its shard. sizes: how many photos of each chunk have rows, by its number; None
    where it is all of a run. digest: of the listing. finished: what the record says of its end.
    """

    place: Address
    shard: Shard
    identity: dict[str, Any]
    sizes: dict[int, int] | None
    digest: str
    finished: dict[str, Any]


_Photo = list[tuple[list[str], Row]]
"""A photo's rows: their fields as written, and what they say."""


def merge(parts: Sequence[Address], out: Address, *, force: bool, command: str = "") -> Merged:
    """Put the rows of all shards in the order of the listing; the parts stay as they are.

    Args:
        parts: what classify wrote with --shard, or one folder of parts in a store.
        command: the line as typed, for the record.

    Raises:
        UsageError: a shard is missing, or there twice.
        OutputError: a CSV is unfinished, damaged, or of another run or other photos than the first.
    """
    check_free(out, force=force)
    read = [_read_part(place, is_only=len(parts) == 1) for place in parts]
    read.sort(key=lambda part: part.shard.number)
    _check_complete(read)
    _check_same(read)
    with ExitStack() as stack:
        files = [stack.enter_context(open_rows(part.place)) for part in read]
        records = [read_records(file, str(part.place)) for file, part in zip(files, read, strict=True)]
        headers = [next(lines, ([], 0))[0] for lines in records]
        columns = _columns(headers[0], read[0])
        for part, header in zip(read, headers, strict=True):
            if header != headers[0]:
                raise _not_whole(part, "other columns")
        rows = [_by_photo(lines, columns, part) for lines, part in zip(records, read, strict=True)]
        threshold = float(read[0].identity["options"]["confidence_threshold"])
        journal = Journal(out, columns, read[0].identity, threshold)
        stack.callback(journal.close)
        journal.begin(restart=True, force=force)
        done = failed = 0
        for photos in _chunks(read, rows):
            journal.append_fields(fields for photo in photos for fields, _ in photo)
            done += len(photos)
            failed += sum(any(row.has_failed for _, row in photo) for photo in photos)
        journal.finish(_outcome(read, command))
    return Merged(out, len(read), done, failed)


def _chunks(parts: Sequence[_Part], rows: Sequence[Iterator[_Photo]]) -> Iterator[list[_Photo]]:
    """The chunks in the order of the listing. Raises OutputError where a shard has more photos, or fewer."""
    for number in range(1 + max((max(part.sizes or (), default=-1) for part in parts), default=-1)):
        part = parts[number % len(parts)]
        size = (part.sizes or {}).get(number, 0)
        chunk = list(islice(rows[number % len(parts)], size))
        if len(chunk) < size:
            raise _not_whole(part, "fewer photos")
        yield chunk
    for part, left in zip(parts, rows, strict=True):
        while part.sizes is None and (chunk := list(islice(left, CHUNK))):
            yield chunk
        if next(left, None) is not None:
            raise _not_whole(part, "more photos")


def _read_part(place: Address, *, is_only: bool) -> _Part:
    record = read_record(place)
    try:
        finished, shard = record.pop("finished"), record["options"]["shard"]
        if is_only and shard is None and is_parts(place):  # of a run on one machine
            return _Part(place, WHOLE, record, None, "", finished)
        record["options"]["shard"] = None  # as of the one machine
        sizes = {int(number): int(size) for number, size in finished.pop("chunks")}
        return _Part(place, read_shard(shard), record, sizes, str(finished.pop("listing")), finished)
    except (ValueError, LookupError, TypeError, AttributeError, UsageError):
        raise OutputError(
            "this is no output of a shard",
            where=str(place),
            do="give what classify --shard wrote, or the one folder of parts that classify wrote into a store",
        ) from None


def _check_complete(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts:
        if part.shard.of != first.shard.of:
            raise UsageError(
                "these are shards of different divisions",
                where=f"{first.place} is {first.shard}, {part.place} is {part.shard}",
                do=f"give all shards of one run: 1/{first.shard.of} to {first.shard.of}/{first.shard.of}",
            )
    for before, part in pairwise(parts):
        if before.shard == part.shard:
            raise UsageError(
                f"shard {part.shard} is there twice",
                where=f"{before.place} and {part.place}",
                do="give each shard once",
            )
    missing = sorted(set(range(1, first.shard.of + 1)) - {part.shard.number for part in parts})
    if missing:
        some = ", ".join(f"{number}/{first.shard.of}" for number in missing[:10])
        raise UsageError(
            f"{len(missing):,} of {first.shard.of:,} shards {'is' if len(missing) == 1 else 'are'} missing",
            where=some + (", …" if len(missing) > 10 else ""),
            do="classify with --shard what is missing, and give all of them",
        )


def _check_same(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.digest != first.digest:
            raise OutputError(
                "the photos changed between these shards, so some may be there twice or not at all",
                where=f"{first.place} and {part.place}",
                do="classify the shards again, over the same photos",
            )
        keys = sorted(set(part.identity) | set(first.identity))
        differing = [key for key in keys if part.identity.get(key) != first.identity.get(key)]
        if differing:
            raise OutputError(
                f"these shards are of different runs: they differ in {', '.join(differing)}",
                where=f"{first.place} and {part.place}",
                do="classify the shards with the same command, model and versions",
            )


def _columns(header: list[str], part: _Part) -> Columns:
    columns = Columns.of_header(header, independent=bool(part.identity.get("independent")))
    if columns is None:
        raise OutputError("this is no CSV that gendercls classify wrote", where=str(part.place), do="check the path")
    return columns


def _by_photo(records: Iterator[tuple[list[str], int]], columns: Columns, part: _Part) -> Iterator[_Photo]:
    photo: _Photo = []
    for fields, _ in records:
        try:
            row = columns.row(fields)
        except ValueError as error:
            place = fields[0][:200] if fields else "an empty line"
            raise DamagedRowError(f"a row is damaged: {error}", where=f"{part.place}, at {place}", do=_AGAIN) from None
        if row.is_first and photo:
            yield photo
            photo = []
        photo.append((fields, row))
    if photo:
        yield photo


_AGAIN = "restore the file from a copy, or classify its shard again with --force"


def _not_whole(part: _Part, what: str) -> OutputError:
    return OutputError(f"the CSV has {what} than its record says", where=str(part.place), do=_AGAIN)


def _outcome(parts: Sequence[_Part], command: str) -> dict[str, Any]:
    """What the record says of the end, of all shards together; seconds are added up."""
    unfamiliar = [part.finished.get("unfamiliar", [0, 0]) for part in parts]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(float(part.finished.get("seconds", 0)) for part in parts), 3),
        "command": command,
        "unfamiliar": [sum(int(pair[n]) for pair in unfamiliar) for n in (0, 1)],
        "shards": len(parts),
    }
