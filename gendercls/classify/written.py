"""A finished CSV and its record to be read again: on disk, in a store, or as the parts that a store keeps."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from gendercls.address import Address, is_url, part_of
from gendercls.classify.objects import Objects, check_store
from gendercls.classify.parts import read_parts
from gendercls.classify.runrecord import UNFINISHED
from gendercls.errors import OutputError
from gendercls.parquet import csv_of, is_parquet


def is_parts(place: Address) -> bool:
    """Whether it is a folder of parts in a store."""
    return isinstance(place, str) and place.endswith("/")


def read_record(place: Address) -> dict[str, Any]:
    """The record of a finished output.

    Raises:
        GenderclsError: the store cannot be reached.
        OutputError: there is no such output, it is not finished, or its record is missing or damaged.
    """
    if isinstance(place, Path) and part_of(place).exists():
        raise _unfinished(place)
    data = _record_bytes(place)
    try:
        record = json.loads(data or b"")
        if not isinstance(record, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError):
        raise OutputError(
            "the record of the run is missing or damaged",
            where=_record_of(place),
            do="give what classify wrote, with its .run.json beside it",
        ) from None
    if UNFINISHED in record:
        raise _unfinished(place)
    return record


def open_rows(place: Address) -> BinaryIO:
    """The CSV, from its beginning; what is not on disk, or is no CSV, as a copy without a name.

    Raises:
        GenderclsError: the store cannot be reached.
        OutputError: it is not there, or parts are not what their manifest says.
    """
    if isinstance(place, Path) and not is_parquet(place.name):
        return place.open("rb")
    rows = tempfile.TemporaryFile()  # noqa: SIM115 — the caller closes it
    if isinstance(place, Path):
        with place.open("rb") as packed:
            rows.writelines(csv_of(packed, str(place)))
    elif is_parts(place):
        rows.writelines(read_parts(place))
    else:
        Objects(lambda: None).fetch_rows(place, rows)
    rows.seek(0)
    return rows


def _record_of(place: Address) -> str:
    return f"{place}run.json" if is_parts(place) else f"{place}.run.json"


def _record_bytes(place: Address) -> bytes | None:
    if isinstance(place, str) and is_url(place):
        check_store(place)
        objects = Objects(lambda: None)
        if not is_parts(place) and objects.kind(place) is None:
            raise _absent(place)
        return objects.read(_record_of(place))
    if not Path(place).exists():
        raise _absent(place)
    try:
        return Path(_record_of(place)).read_bytes()
    except OSError:
        return None


def _absent(place: Address) -> OutputError:
    return OutputError("there is no such output", where=str(place), do="check the path")


def _unfinished(place: Address) -> OutputError:
    return OutputError("this run is not finished", where=str(place), do="repeat its classify command, which continues")
