"""A row as text: what is written is what any CSV reader reads."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gendercls.answers import answers_for
from gendercls.errors import OutputError
from gendercls.rows import Columns, Row, defused, encode, path_field, read_records

COLUMNS = Columns(answers_for(False, ("female", "male")), has_truth=True)
ATTRIBUTES = Columns(answers_for(True, ("Male", "Wavy_Hair", "-x")), has_truth=True)
TRICKY = st.text(st.sampled_from(list(",\"\r\n'=+-@ \\é☃\u2028\x00ab")), max_size=8)
RECORDS = st.lists(st.lists(TRICKY | st.text(max_size=8), min_size=2, max_size=4), min_size=1, max_size=4)
ROWS = st.builds(
    Row,
    path=TRICKY,
    label=st.sampled_from(["female", "male", "uncertain"]),
    confidence=st.just("0.750000"),
    probabilities=st.just(("0.750000", "0.250000")),
    truth=st.sampled_from(["female", "male", ""]),
    correct=st.sampled_from(["0", "1", ""]),
    error=TRICKY,
)


def written(records: list[list[str]]) -> bytes:
    """The records as the CSV has them."""
    return b"".join(map(encode, records))


@given(RECORDS)
@example([["a\rb", "c"], ["\r", "\n"]])
def test_what_is_written_is_read_back(records: list[list[str]]) -> None:
    """'Fields that hold , " CR or LF are quoted': any text comes back, and each record's end is its offset."""
    ends = [len(written(records[: n + 1])) for n in range(len(records))]
    assert list(read_records(io.BytesIO(written(records)), "o.csv")) == list(zip(records, ends, strict=True))


@given(RECORDS)
@example([["a\rb", "c"], ["\r", "\n"]])
def test_pythons_csv_reads_the_same(records: list[list[str]]) -> None:
    """'Python's own csv leaves a lone CR bare': ours does not, so that its reader agrees."""
    assert list(csv.reader(io.StringIO(written(records).decode(), newline=""), strict=True)) == records


@given(RECORDS)
def test_no_field_is_quoted_without_need(records: list[list[str]]) -> None:
    """Lines end with LF, and a field without the four characters stands as it is."""
    for record in records:
        line = encode([field for field in record if not set(field) & set(',"\r\n')])
        assert b'"' not in line
        assert line.endswith(b"\n")


@given(ROWS)
def test_a_row_comes_back_from_its_fields(row: Row) -> None:
    """Defusing is undone where it has to be; the path stays as the CSV has it."""
    again = COLUMNS.row(COLUMNS.fields(row))
    assert again.path == path_field(row.path)
    assert (again.label, again.truth, again.error) == (row.label, row.truth, row.error)
    assert COLUMNS.fields(again) == COLUMNS.fields(row)


@given(ROWS)
def test_no_field_is_a_formula(row: Row) -> None:
    """A spreadsheet takes none of a row's fields for a formula."""
    assert not [field for field in COLUMNS.fields(row) if field.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("sign", "=+-@")
def test_formulas_are_defused(sign: str) -> None:
    """A path gets ``./`` before it, which still names the file; a word gets a leading quote."""
    assert (path_field(f"{sign}1.jpg"), path_field(f"a{sign}.jpg")) == (f"./{sign}1.jpg", f"a{sign}.jpg")
    assert (defused(f"{sign}x"), defused(f"'{sign}x"), defused("'x")) == (f"'{sign}x", f"''{sign}x", "'x")


def test_columns_come_in_the_contracts_order() -> None:
    """``truth`` and ``correct`` are there with labels only."""
    assert encode(COLUMNS.header()) == b"path,label,confidence,p_female,p_male,truth,correct,error\n"
    assert encode(Columns(answers_for(False, ("a", "b")), False).header()) == b"path,label,confidence,p_a,p_b,error\n"


def test_a_failed_row_has_no_numbers() -> None:
    """A photo without an answer keeps its truth and says why."""
    row = Row("x,y.jpg", "", "", (), "male", "0", "empty file")
    assert encode(COLUMNS.fields(row)) == b'"x,y.jpg",,,,,male,0,empty file\n'
    assert COLUMNS.row(COLUMNS.fields(row)) == row


@pytest.mark.parametrize("label", ["Male", "Male Wavy_Hair", "Wavy_Hair -x", "-x", "none", "uncertain"])
def test_a_row_of_attributes_comes_back_from_its_fields(label: str) -> None:
    """The label is one field, the names in it separated by a space, and defused as a whole."""
    truth = "" if label == "uncertain" else label
    row = Row("a.jpg", label, "0.750000", ("0.500000",) * 3, truth, "1")
    assert ATTRIBUTES.row(ATTRIBUTES.fields(row)) == row
    assert ATTRIBUTES.fields(row)[1] == ("'-x" if label == "-x" else label)


@pytest.mark.parametrize(
    ("columns", "label", "message"),
    [
        (COLUMNS, "Male", "'Male' is none of the classes"),
        (COLUMNS, "none", "'none' is none of the classes"),
        (ATTRIBUTES, "Smiling", "'Smiling' is neither 'none' nor names of the attributes, in order"),
        (ATTRIBUTES, "Wavy_Hair Male", "'Wavy_Hair Male' is neither 'none' nor names of the attributes, in order"),
        (ATTRIBUTES, "Male Male", "'Male Male' is neither 'none' nor names of the attributes, in order"),
        (ATTRIBUTES, "Male  -x", "'Male  -x' is neither 'none' nor names of the attributes, in order"),
        (ATTRIBUTES, "none Male", "'none Male' is neither 'none' nor names of the attributes, in order"),
    ],
)
@pytest.mark.parametrize("column", ["label", "truth"])
def test_a_label_of_another_model_is_no_row(columns: Columns, label: str, message: str, column: str) -> None:
    """What this model could not have written is refused when rows are read back, in either column."""
    fields = dict(zip(columns.header(), columns.fields(Row("a.jpg", "", "", ())), strict=True)) | {column: label}
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        columns.row(list(fields.values()))


@pytest.mark.parametrize(
    ("tail", "kept"), [(b"c,d", 1), (b'"c\n', 1), (b'"c\nd', 1), (b"\xff", 1), (b"\0" * 99, 1), (b"c,d\n", 2)]
)
def test_a_torn_tail_is_left_out(tail: bytes, kept: int) -> None:
    """What a killed process left half written is no record, not even where its quotes hold a whole line."""
    assert len(list(read_records(io.BytesIO(b"a,b\n" + tail), "o.csv"))) == kept


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xffx,y\n", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b'"x"y,z\n', "',' expected after '\"'"),
    ],
)
def test_a_damaged_line_is_named(line: bytes, reason: str) -> None:
    """The file and the line, counted from 1 and with the lines within quotes."""
    records = read_records(io.BytesIO(b'a,b\n"c\nd",e\n' + line + b"f,g\n"), "o.csv.part")
    with pytest.raises(OutputError) as caught:
        list(records)
    assert str(caught.value) == (
        f"a row is damaged: {reason}\n  where: o.csv.part:4\n  do:    repeat with --restart to begin anew"
    )
