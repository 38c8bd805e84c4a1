"""Damaged results: a preds.csv is read as it stands, or refused with its name; so is the record of its run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gendercls.errors import GenderclsError
from gendercls.preds import Predictions, read_preds

DamagedText = Callable[[bytes], SearchStrategy[bytes]]
DamagedJson = Callable[[Any], SearchStrategy[bytes]]

PLAIN = b"""path,label,confidence,p_female,p_male,truth,correct,error
./=a.jpg,female,0.900000,0.900000,0.100000,male,0,
"b,1.jpg",uncertain,0.500000,0.500000,0.500000,,,
"c""2
3.jpg",male,0.800000,0.200000,0.800000,male,1,
d.jpg,,,,,,,damaged photo: x
notes,,,,,,,not a photo
"""
FACES = b"""path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error
a.jpg,1,0,0,8,9,0.912345,male,0.800000,0.200000,0.800000,
a.jpg,2,20,0,8,9,0.700000,female,0.600000,0.600000,0.400000,
b.jpg,0,,,,,,no face,,,,
c.jpg,,,,,,,,,,,damaged photo: x
"""
RECORD = {
    "inputs": ["photos"],
    "model": {"file": "m.onnx", "sha256": "00"},
    "classes": {"female": "!Male", "male": "Male"},
    "independent": False,
    "counted": {"confusion": [[5, 1], [2, 4]], "on": "FairFace"},
    "face_model": {"file": "f.onnx", "sha256": "11"},
    "labels": {"source": "CelebA", "sha256": "22"},
    "options": {
        "device": "cpu",
        "precision": "fp32",
        "batch_shape": [8, 96, 96, 3],
        "confidence_threshold": 0.6,
        "split": None,
        "limit": None,
        "min_face": 10,
        "max_faces": None,
    },
    "versions": {"numpy": "2"},
    "finished": {"at": "2026-11-25T14:24:11+00:00", "command": "", "seconds": 0.5, "unfamiliar": [0, 0]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv") / "preds.csv"


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_result(place: Path, damaged_text: DamagedText, data: st.DataObject) -> None:
    """Every row and every field as Python's own reader has them, the numbers too."""
    content = data.draw(damaged_text(data.draw(st.sampled_from((PLAIN, FACES)))))
    place.write_bytes(content)
    try:
        preds = read_preds(place)
    except GenderclsError as error:
        assert_is_readable(error, place)
        return
    header, *lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="\n"))  # a byte mark is no letter
    assert preds.columns.header() == header
    assert [row.path for row in preds.rows] == [line[0] for line in lines]
    assert_is_sound(preds)


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_record_of_a_result(place: Path, damaged_json: DamagedJson, data: st.DataObject) -> None:
    """Read to values of their kinds, or refused with the name of the record."""
    record = place.with_name("preds.csv.run.json")
    place.write_bytes(PLAIN)
    record.write_bytes(data.draw(damaged_json(RECORD)))
    try:
        assert_is_sound(read_preds(place))
    except GenderclsError as error:
        assert_is_readable(error, record)
    finally:
        record.unlink()


def assert_is_readable(error: GenderclsError, file: Path) -> None:
    assert len(error.what.splitlines()) == 1
    assert str(file) in error.where
    assert error.do
    assert len(error.what.encode()) < 500


def assert_is_sound(preds: Predictions) -> None:
    """One meaning: an answer has all its numbers, and a photo's rows are its own."""
    known = preds.has_answer
    assert preds.probabilities.shape == (len(preds), 2)
    assert not np.isnan(preds.probabilities[known]).any()
    assert ((preds.confidence[known] >= 0) & (preds.confidence[known] <= 1)).all()
    assert [number for numbers in preds.photos for number in numbers] == list(range(len(preds)))
    for numbers in preds.photos:
        assert len({preds.rows[number].path for number in numbers}) == 1
    if preds.record is not None:
        assert all(isinstance(word, str) for word in preds.record.inputs)


def test_a_result_that_is_cut_off_is_refused(place: Path) -> None:
    """Within its last row; a run that is not finished has another name."""
    place.write_bytes(PLAIN[:-3])
    with pytest.raises(GenderclsError, match="the CSV is cut off within its last row"):
        read_preds(place)


@pytest.mark.parametrize(
    ("content", "old"),
    [
        pytest.param(PLAIN, b"0.100000", id="a number"),
        pytest.param(PLAIN, b"female,0.9", id="a label and its number"),
        pytest.param(FACES, b"20,0,8,9,0.7", id="a face"),
        pytest.param(FACES, b"no face", id="a label beside a long path"),
    ],
)
def test_what_is_said_of_a_damaged_row_stays_short(place: Path, content: bytes, old: bytes) -> None:
    """However long the word is that is wrong."""
    assert old in content
    place.write_bytes(content.replace(b"b.jpg", b"b" * 5000).replace(old, b"x" * 5000, 1))
    with pytest.raises(GenderclsError) as caught:
        read_preds(place)
    assert_is_readable(caught.value, place)
    assert len(caught.value.where) < len(str(place)) + 300
