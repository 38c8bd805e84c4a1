"""``gendercls merge``: the CSVs of all shards → the one that a single machine would have written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from gendercls.answers import answers_for
from gendercls.classify.output import Journal, check_free
from gendercls.errors import DamagedRowError, OutputError, UsageError
from gendercls.preds import part_of
from gendercls.rows import Columns, Row, read_records
from gendercls.sources.shard import Shard, read_shard


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge gave: how many shards, files, and photos that failed."""

    out: Path
    shards: int
    files: int
    failed: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The finished CSV of a shard, and its record.

    identity: what the run is, without its shard. sizes: how many photos of each chunk have rows, by its number.
    digest: of the listing. finished: what the record says of its end.
    """

    path: Path
    shard: Shard
    identity: dict[str, Any]
    sizes: dict[int, int]
    digest: str
    finished: dict[str, Any]


def merge(parts: Sequence[Path], out: Path, *, force: bool, command: str = "") -> Merged:
    """Put the rows of all shards in the order of the listing; the parts stay as they are.

    Args: command: the line as typed, for the record.

    Raises:
        UsageError: a shard is missing, or there twice.
        OutputError: a CSV is unfinished, damaged, or of another run or other photos than the first.
    """
    check_free(out, force=force)
    read = sorted((_read_part(path) for path in parts), key=lambda part: part.shard.number)
    _check_complete(read)
    _check_same(read)
    with ExitStack() as stack:
        files = [stack.enter_context(part.path.open("rb")) for part in read]
        header = _header(read[0].path)
        columns = _columns(header, read[0])
        rows = [_by_photo(file, columns, part) for file, part in zip(files, read, strict=True)]
        threshold = float(read[0].identity["options"]["confidence_threshold"])
        journal = Journal(out, columns, read[0].identity, threshold)
        stack.callback(journal.close)
        journal.begin(restart=True, force=force)
        done = failed = 0
        for number in range(1 + max((max(part.sizes, default=-1) for part in read), default=-1)):
            part = read[number % len(read)]
            size = part.sizes.get(number, 0)
            photos = list(islice(rows[number % len(read)], size))
            if len(photos) < size:
                raise _not_whole(part, "fewer photos")
            journal.append_fields(fields for photo in photos for fields, _ in photo)
            done += len(photos)
            failed += sum(any(row.has_failed for _, row in photo) for photo in photos)
        for part, left in zip(read, rows, strict=True):
            if next(left, None) is not None:
                raise _not_whole(part, "more photos")
        journal.finish(_outcome(read, command))
    return Merged(out, len(read), done, failed)


def _read_part(path: Path) -> _Part:
    if part_of(path).exists():
        raise OutputError(
            "this shard is not finished", where=str(path), do="repeat its classify command, which continues"
        )
    if not path.exists():
        raise OutputError("there is no such CSV", where=str(path), do="check the path")
    place = path.with_name(path.name + ".run.json")
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        finished, shard = record.pop("finished"), record["options"]["shard"]
        record["options"]["shard"] = None  # as of the one machine
        sizes = {int(number): int(size) for number, size in finished.pop("chunks")}
        return _Part(path, read_shard(shard), record, sizes, str(finished.pop("listing")), finished)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, UsageError):
        raise OutputError(
            "this is no CSV of a shard, or the record of its run is missing or damaged",
            where=str(place),
            do="give the CSVs that classify --shard wrote, with their .run.json beside them",
        ) from None


def _check_complete(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts:
        if part.shard.of != first.shard.of:
            raise UsageError(
                "these are shards of different divisions",
                where=f"{first.path} is {first.shard}, {part.path} is {part.shard}",
                do=f"give all shards of one run: 1/{first.shard.of} to {first.shard.of}/{first.shard.of}",
            )
    for before, part in pairwise(parts):
        if before.shard == part.shard:
            raise UsageError(
                f"shard {part.shard} is there twice", where=f"{before.path} and {part.path}", do="give each shard once"
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
                where=f"{first.path} and {part.path}",
                do="classify the shards again, over the same photos",
            )
        keys = sorted(set(part.identity) | set(first.identity))
        differing = [key for key in keys if part.identity.get(key) != first.identity.get(key)]
        if differing:
            raise OutputError(
                f"these shards are of different runs: they differ in {', '.join(differing)}",
                where=f"{first.path} and {part.path}",
                do="classify the shards with the same command, model and versions",
            )


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        fields, _ = next(read_records(file, str(path)), ([], 0))
        return fields


def _columns(header: list[str], part: _Part) -> Columns:
    names = [name.removeprefix("p_") for name in header if name.startswith("p_")]
    answers = answers_for(bool(part.identity.get("independent")), names) if names else None
    columns = Columns(answers, "truth" in header, "face" in header) if answers else None
    if columns is None or columns.header() != header:
        raise OutputError("this is no CSV that gendercls classify wrote", where=str(part.path), do="check the path")
    return columns


def _by_photo(file: Any, columns: Columns, part: _Part) -> Iterator[list[tuple[list[str], Row]]]:
    """Each photo's rows: their fields as written, and what they say."""
    photo: list[tuple[list[str], Row]] = []
    records = read_records(file, str(part.path))
    if next(records, ([], 0))[0] != columns.header():
        raise _not_whole(part, "other columns")
    for fields, _ in records:
        try:
            row = columns.row(fields)
        except ValueError as error:
            raise DamagedRowError(
                f"a row is damaged: {error}", where=f"{part.path}, at {fields[0][:200]}", do=_AGAIN
            ) from None
        if row.is_first and photo:
            yield photo
            photo = []
        photo.append((fields, row))
    if photo:
        yield photo


_AGAIN = "restore the file from a copy, or classify its shard again with --force"


def _not_whole(part: _Part, what: str) -> OutputError:
    return OutputError(f"the CSV has {what} than its record says", where=str(part.path), do=_AGAIN)


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
