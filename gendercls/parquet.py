"""``preds.parquet``: the rows of the CSV as typed columns, from which the CSV comes back byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from gendercls.errors import GenderclsError, OutputError, one_line
from gendercls.rows import encode, read_records

FORMAT = (1, 0)

_KEY = b"gendercls"
"""Of what the file says beside its columns: its format, and the SHA-256 of the CSV."""

_ROWS = 65_536
"""In a row group; so many are in memory at a time."""

_TEXTS = ("path", "label", "truth", "error")
_WHOLES = ("face", "x", "y", "w", "h", "correct")
_REMEDY = "restore the file from a copy, or classify the photos again"


def is_parquet(name: str) -> bool:
    """Whether a file of that name is to be one."""
    return name.lower().endswith(".parquet")


def check_installed(where: str) -> None:
    """Raises GenderclsError where the library that reads and writes Parquet is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise GenderclsError(
            "Parquet needs a library that is not installed", where=where, do="pip install 'gendercls[remote]'"
        ) from None


def write_parquet(rows: BinaryIO, target: BinaryIO, name: str) -> None:
    """Write a whole CSV, read from its beginning, as Parquet. name: the CSV's, for errors.

    The same rows give the same bytes with one version of pyarrow.

    Raises:
        DamagedRowError: a line is no CSV.
        OSError: as target's write does.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows.seek(0)
    records = (fields for fields, _ in read_records(rows, name))
    header = next(records)
    schema = pa.schema([(column, _kind(column)) for column in header])
    digest = hashlib.sha256(encode(header))
    with parquet.ParquetWriter(target, schema) as writer:
        while group := list(islice(records, _ROWS)):
            digest.update(b"".join(map(encode, group)))
            fields = zip(*group, strict=True)
            columns = [[_value(text, column) for text in texts] for column, texts in zip(header, fields, strict=True)]
            writer.write_table(pa.table(columns, schema))
        said = {"format": list(FORMAT), "csv_sha256": digest.hexdigest()}
        writer.add_key_value_metadata({_KEY: json.dumps(said)})


def csv_of(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of the CSV that a Parquet file stands for, some thousand rows at a time.

    Raises:
        GenderclsError: the library is missing.
        OutputError: it is damaged, which may be known only in the end, or no such file.
    """
    check_installed(name)
    import pyarrow as pa
    from pyarrow import parquet

    digest = hashlib.sha256()
    try:
        with parquet.ParquetFile(file) as table:
            wanted, header = _said_sha256(table, name), table.schema_arrow.names
            for lines in _lines(table, header):
                digest.update(lines)
                yield lines
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        why = one_line(error, 200)
        raise OutputError(f"the Parquet file is damaged: {why}", where=name, do=_REMEDY) from None
    if digest.hexdigest() != wanted:
        raise OutputError(
            "the Parquet file is damaged: its rows are not those that were written", where=name, do=_REMEDY
        )


def is_left_over(part: Path, out: Path) -> bool:
    """Whether a part holds just the rows that a Parquet file was made of, as it does until it is removed."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with out.open("rb") as file, parquet.ParquetFile(file) as table, part.open("rb") as rows:
            return hashlib.file_digest(rows, "sha256").hexdigest() == _said_sha256(table, str(out))
    except (pa.ArrowException, OSError, ValueError, OutputError):  # no such file, or none of ours
        return False


def _said_sha256(table: Any, name: str) -> str:
    """The SHA-256 of its CSV, as the file has it."""
    try:
        said = json.loads((table.metadata.metadata or {})[_KEY])
        (major, _), sha256 = said["format"], str(said["csv_sha256"])
    except (LookupError, TypeError, ValueError):
        raise OutputError(
            "this is no Parquet file that gendercls classify wrote",
            where=f"{name} has {', '.join(table.schema_arrow.names)[:200]}",
            do="give its preds.parquet as it was written",
        ) from None
    if major != FORMAT[0]:
        raise OutputError(
            "a newer gendercls wrote this Parquet file",
            where=f"{name} has the format {said['format']!r:.40}",
            do="install the newest gendercls",
        )
    return sha256


def _lines(table: Any, header: Sequence[str]) -> Iterator[bytes]:
    yield encode(header)
    writers = [_text_of(column) for column in header]
    for batch in table.iter_batches(_ROWS, use_threads=False):
        fields = [map(text, column.to_pylist()) for text, column in zip(writers, batch.columns, strict=True)]
        yield b"".join(map(encode, zip(*fields, strict=True)))


def _kind(column: str) -> Any:
    import pyarrow as pa

    return pa.string() if column in _TEXTS else pa.int32() if column in _WHOLES else pa.float64()


def _value(text: str, column: str) -> Any:
    """A field as its column has it: numbers are None where it is empty, words are as they are."""
    if column in _TEXTS:
        return text
    if text == "":
        return None
    return int(text) if column in _WHOLES else float(text)


def _text_of(column: str) -> Callable[[Any], str]:
    """What gives the field for a column's value."""
    if column in _TEXTS:
        return str
    if column in _WHOLES:
        return lambda value: "" if value is None else f"{value:d}"
    return lambda value: "" if value is None else f"{value:.6f}"
