"""Photos in a column of a Parquet file, as data sets of photos are stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gendercls.errors import GenderclsError, one_line
from gendercls.sources.photo import MAX_BYTES, Held, Photo, Unreadable, too_large
from gendercls.sources.store import File

_ROWS = 64
"""That are unpacked at a time."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Parquet file, in the order of its rows.

    Its photos are the first column of bytes, or of structures with a field ``bytes`` and perhaps a ``path``. A photo's
    key has its row's number, counted from 0, and its path where it has one.
    """

    file: File

    @property
    def is_passing(self) -> bool:
        return True

    def photos(self) -> Iterator[Photo]:
        parquet, failures = _parquet(self.file.name)
        try:
            with closing(self.file.open()) as file, parquet.ParquetFile(file) as table:
                column = _photo_column(table.schema_arrow, self.file.name)
                number = 0
                for batch in table.iter_batches(_ROWS, columns=[column], use_threads=False):
                    for value in batch.column(0):
                        yield self._photo(number, value)
                        number += 1
        except failures as error:
            why = one_line(error, 200)
            yield Unreadable(self.file.name, self.file.name, f"damaged table, what follows could not be read: {why}")

    def _photo(self, number: int, value: Any) -> Photo:
        content, path = value.as_py(), ""
        if isinstance(content, dict):
            content, path = content["bytes"], str(content.get("path") or "").lstrip("/")
        key = f"{self.file.name}!/{number}" + (f"/{path}" if path else "")
        if content is None:
            return Unreadable(key, key, "the table holds no bytes for it")
        if len(content) > MAX_BYTES:
            return Unreadable(key, key, too_large(key).what)
        return Held(key, key, content)


def _parquet(name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise GenderclsError(
            "Parquet needs a library that is not installed", where=name, do="pip install 'gendercls[remote]'"
        ) from None
    return parquet, (pa.ArrowException, OSError, ValueError)


def _photo_column(schema: Any, name: str) -> str:
    from pyarrow import types

    for field in schema:
        kind = field.type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return str(field.name)
    raise GenderclsError(
        "the table has no column of photos",
        where=f"{name} has {', '.join(schema.names)[:300]}",
        do="give one with a column of bytes, or of structures with a field 'bytes'",
    )
