"""Photos in Parquet files, as data sets of photos are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gendercls.errors import GenderclsError, PhotoError
from gendercls.sources import Listing, Photo

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def content(photo: Photo) -> bytes | str:
    """A photo's bytes, or why there are none."""
    try:
        return photo.read()
    except PhotoError as error:
        return error.what


def table(path: Path, **columns: Any) -> Path:
    """A Parquet file of these columns, several rows in a group."""
    parquet.write_table(pa.table(columns), path, row_group_size=50)
    return path


def test_structures_with_paths_as_hugging_face_stores_them(tmp_path: Path) -> None:
    images = [{"bytes": b"photo %d" % number, "path": f"{number}.jpg"} for number in range(130)]
    path = table(tmp_path / "t.parquet", label=list(range(130)), image=images)
    found = {photo.key: content(photo) for photo in Listing([str(path)])}
    assert found == {f"{path}!/{number}/{number}.jpg": b"photo %d" % number for number in range(130)}
    assert list(found)[:2] == [f"{path}!/0/0.jpg", f"{path}!/1/1.jpg"]


def test_plain_bytes_and_rows_without_any(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", name=["a", "b"], photo=[b"one", None])
    found = [(photo.key, content(photo)) for photo in Listing([str(path)])]
    assert found == [(f"{path}!/0", b"one"), (f"{path}!/1", "the table holds no bytes for it")]


def test_a_table_without_photos_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", name=["a"], number=[1])
    with pytest.raises(GenderclsError, match="no column of photos") as caught:
        list(Listing([str(path)]))
    assert "name, number" in caught.value.where


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.99])
def test_a_broken_table_is_a_row(tmp_path: Path, keep: float) -> None:
    whole = table(tmp_path / "t.parquet", photo=[bytes([number]) * 1000 for number in range(120)]).read_bytes()
    path = tmp_path / "cut.parquet"
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    *_, last = Listing([str(path)])
    assert last.key == str(path)
    assert str(content(last)).startswith("damaged table, what follows could not be read: ")
