"""Rows as Parquet: the CSV comes back byte for byte, or the file is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.answers import answers_for
from gendercls.errors import GenderclsError, OutputError
from gendercls.parquet import check_installed, csv_of, write_parquet
from gendercls.preds import read_preds
from gendercls.rows import Columns, Row, encode

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

NUMBERS = st.integers(0, 1_000_000).map(lambda millionths: f"{millionths / 1e6:.6f}")
SIZES = st.integers(0, 100_000).map(str)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CLASSES = ("female", "male")


@st.composite
def csvs(draw: st.DrawFn) -> bytes:
    """A CSV of any rows that a run could write, and some that none would."""
    columns = Columns(answers_for(False, CLASSES), draw(st.booleans()), draw(st.booleans()))
    answers = st.tuples(st.sampled_from(CLASSES), NUMBERS, st.tuples(NUMBERS, NUMBERS))
    faces = st.one_of(st.just(()), st.just(("0",)), st.tuples(SIZES, SIZES, SIZES, SIZES, SIZES, NUMBERS))
    lines = [columns.header()]
    for _ in range(draw(st.integers(0, 4))):
        label, confidence, probabilities = draw(st.one_of(answers, st.just(("", "", ()))))
        truth, correct = draw(st.sampled_from([("", ""), ("female", "1"), ("=male", "0")]))
        lines.append(
            columns.fields(Row(draw(WORDS), label, confidence, probabilities, truth, correct, draw(WORDS), draw(faces)))
        )
    return b"".join(map(encode, lines))


def packed(content: bytes) -> bytes:
    """A CSV as Parquet."""
    target = io.BytesIO()
    write_parquet(io.BytesIO(content), target, "o.csv")
    return target.getvalue()


def unpacked(content: bytes) -> bytes:
    """Parquet as a CSV."""
    return b"".join(csv_of(io.BytesIO(content), "o.parquet"))


@settings(deadline=None)
@given(content=csvs())
def test_the_csv_comes_back_byte_for_byte(content: bytes) -> None:
    """'so that the CSV can be reproduced from it', and the same rows give the same file."""
    assert unpacked(packed(content)) == content
    assert packed(content) == packed(content)


HEADER = "path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,truth,correct,error\n"
CSV = (
    HEADER
    + "./=a.jpg,1,3,4,8,9,0.612345,female,0.900000,0.900000,0.100000,female,1,\n"
    + "b\\xff.jpg,,,,,,,,,,,,,'-- damaged\n"
).encode()


def test_columns_are_typed() -> None:
    """Numbers are numbers, none where the CSV's field is empty; words are the CSV's fields, defused as there."""
    table = parquet.read_table(io.BytesIO(packed(CSV)))
    kinds = {field.name: str(field.type) for field in table.schema}
    words, whole = dict.fromkeys(("path", "label", "truth", "error"), "string"), ("face", "x", "y", "w", "h", "correct")
    numbers = dict.fromkeys(("face_confidence", "confidence", "p_female", "p_male"), "double")
    assert kinds == words | numbers | dict.fromkeys(whole, "int32")
    first, second = table.to_pylist()
    assert first == dict(
        zip(
            HEADER.strip().split(","),
            ("./=a.jpg", 1, 3, 4, 8, 9, 0.612345, "female", 0.9, 0.9, 0.1, "female", 1, ""),
            strict=True,
        )
    )
    assert {name: value for name, value in second.items() if value is not None} == {
        "path": "b\\xff.jpg",
        "label": "",
        "truth": "",
        "error": "'-- damaged",
    }


def test_many_rows_are_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is written by itself, so that memory is bounded, and all come back in order."""
    monkeypatch.setattr("gendercls.parquet._ROWS", 3)
    rows = "".join(f"{n}.jpg,,,,,,,,,,,,,x\n" for n in range(10))
    content = (HEADER + rows).encode()
    assert parquet.ParquetFile(io.BytesIO(packed(content))).num_row_groups == 4
    assert unpacked(packed(content)) == content


def test_other_tables_are_refused() -> None:
    """A Parquet file of anybody's has no CSV that it stands for."""
    import pyarrow as pa

    target = io.BytesIO()
    parquet.write_table(pa.table({"cat": [1]}), target)
    with pytest.raises(OutputError) as caught:
        unpacked(target.getvalue())
    assert str(caught.value) == (
        "this is no Parquet file that gendercls classify wrote\n"
        "  where: o.parquet has cat\n"
        "  do:    give its preds.parquet as it was written"
    )


def test_a_changed_value_is_found() -> None:
    """Whoever writes the table anew, with what it said of itself, changes the rows it stands for."""
    source = io.BytesIO(packed(CSV))
    table, said = parquet.read_table(source), parquet.ParquetFile(source).metadata.metadata
    changed = table.set_column(8, "confidence", [[0.8, None]]).replace_schema_metadata(
        {b"gendercls": said[b"gendercls"]}
    )
    target = io.BytesIO()
    parquet.write_table(changed.replace_schema_metadata({"gendercls": said[b"gendercls"]}), target)
    with pytest.raises(OutputError, match="its rows are not those that were written"):
        unpacked(target.getvalue())


@settings(deadline=None)
@given(data=st.data())
def test_damage_is_refused(data: st.DataObject) -> None:
    """Wherever a byte is another, or the file ends: the rows are right, or there are none."""
    content = bytearray(packed(CSV))
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    try:
        assert unpacked(bytes(content)) == CSV
    except OutputError as error:
        assert "Parquet file" in error.what  # noqa: PT017 — most damage is refused, some changes nothing


def test_what_reads_the_csv_reads_parquet(tmp_path: Path) -> None:
    """The same rows and numbers, and the file's own hash."""
    content = CSV.replace(b"\\xff", b"")
    (tmp_path / "o.csv").write_bytes(content)
    (tmp_path / "o.parquet").write_bytes(packed(content))
    first, second = read_preds(tmp_path / "o.csv"), read_preds(tmp_path / "o.parquet")
    assert (second.rows, second.columns) == (first.rows, first.columns)
    assert second.sha256 != first.sha256


def test_without_its_library_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(GenderclsError) as caught:
        check_installed("o.parquet")
    assert str(caught.value) == (
        "Parquet needs a library that is not installed\n  where: o.parquet\n  do:    pip install 'gendercls[remote]'"
    )
