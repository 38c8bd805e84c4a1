"""A preds.csv as others read it: its rows by column, and where the photos of its rows lie."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendercls.errors import GenderclsError, OutputError
from gendercls.preds import place_of, read_preds, root_of
from gendercls.rows import encode, path_field
from gendercls.sources import readable_name

HEADER = "path,label,confidence,p_female,p_male,error\n"
ROWS = """a.jpg,female,0.900000,0.900000,0.100000,
b.jpg,uncertain,0.500000,0.500000,0.500000,
c.jpg,,,,,damaged photo: x
"""
RECORD = {
    "inputs": ["photos"],
    "model": {"file": "m.onnx", "sha256": "00"},
    "options": {"device": "cpu", "precision": "fp32", "confidence_threshold": 0.6},
    "versions": {"numpy": "2"},
}
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"/\0") and name.strip(b"."))


def written(folder: Path, text: str = HEADER + ROWS, record: object = None) -> Path:
    path = folder / "preds.csv"
    path.write_text(text, encoding="utf-8")
    if record is not None:
        path.with_name("preds.csv.run.json").write_text(json.dumps(record), encoding="utf-8")
    return path


def test_rows_by_column(tmp_path: Path) -> None:
    """Answers, those of too little confidence, and failures are told apart."""
    found = read_preds(written(tmp_path))
    assert [row.path for row in found.rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert found.has_answer.tolist() == [True, True, False]
    assert found.has_label.tolist() == [True, False, False]
    assert found.has_failed.tolist() == [False, False, True]
    assert np.isnan(found.probabilities[2]).all()
    assert found.record is None
    assert [rule.rule for rule in found.classes] == ["!Male", "Male"]
    assert not found.independent


def test_what_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    """With the mark that it puts first, and its line ends."""
    path = written(tmp_path, (HEADER + ROWS).replace("\n", "\r\n"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = read_preds(path)
    assert [row.label for row in found.rows] == ["female", "uncertain", ""]
    assert found.probabilities[0].tolist() == [0.9, 0.1]


def test_attributes_are_known_by_their_sums(tmp_path: Path) -> None:
    """A file without a record: probabilities that do not sum to 1 are those of attributes."""
    rows = "a.jpg,Old Smiling,0.720000,0.900000,0.800000,\nb.jpg,none,0.540000,0.100000,0.400000,\n"
    text = f"path,label,confidence,p_Old,p_Smiling,error\n{rows}"
    found = read_preds(written(tmp_path, text))
    assert found.independent
    with pytest.raises(GenderclsError, match="what these classes mean in labels is not known"):
        _ = found.classes


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ([], "the record of the run is damaged"),
        ({**RECORD, "model": "m"}, "the record of the run is damaged"),
        ({**RECORD, "counted": {"confusion": "x"}}, "the record of the run is damaged"),
        ({**RECORD, "classes": ["a"]}, "the record of the run is damaged"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, record: object, what: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(OutputError, match=what):
        read_preds(written(tmp_path, record=record))


def test_a_record_of_an_earlier_format_is_read(tmp_path: Path) -> None:
    """It does not say what the classes mean, nor how often the model errs."""
    record = read_preds(written(tmp_path, record=RECORD)).record
    assert record is not None
    assert (record.threshold, record.classes, record.counted, record.finished) == (0.6, (), None, {})


@given(NAMES)
def test_a_photo_is_found_by_its_row(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    """Whatever its name: bytes that are not UTF-8, signs of a formula, quotes, line ends, a backslash."""
    folder = os.fsencode(tmp_path_factory.mktemp("any"))
    place = os.path.join(folder, name)
    os.close(os.open(place, os.O_CREAT))
    field = encode([path_field(readable_name(name))]).decode()
    as_read = field[1:-2].replace('""', '"') if field.startswith('"') else field[:-1]
    assert os.path.samefile(place_of(as_read, folder), place)


def test_where_photos_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the folder that is named, else below the one that the run was given; else nobody knows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "other").mkdir()
    assert root_of(read_preds(written(tmp_path, record=RECORD)), None) == b"photos"
    assert root_of(read_preds(written(tmp_path, record=RECORD | {"inputs": ["photos", "other"]})), None) == b""
    assert root_of(read_preds(written(tmp_path)), Path("other")) == b"other"
    with pytest.raises(GenderclsError, match="no such folder of photos"):
        root_of(read_preds(written(tmp_path)), Path("gone"))
    (tmp_path / "preds.csv.run.json").unlink()
    with pytest.raises(GenderclsError, match="where the photos lie is not known"):
        root_of(read_preds(written(tmp_path)), None)
