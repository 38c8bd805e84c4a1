"""Damaged rows of an unfinished run: it ends with the rows of an undisturbed one, or refuses and says what helps."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from gendercls.answers import answers_for
from gendercls.classify.classifier import Classifier
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.output import Journal, begun_with
from gendercls.classify.run import classify
from gendercls.errors import OutputError
from gendercls.rows import Columns, Row, encode

DamagedText = Callable[[bytes], SearchStrategy[bytes]]
DamagedJson = Callable[[Any], SearchStrategy[bytes]]
NAMES = ("=a.png", "b,1.png", 'c"2.png', "d\n3.png", "é.png", "f.png", "g.png")


class Run:
    """A folder of photos, two of which have no answer, and what an undisturbed run makes of it."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.out = folder / "photos", folder / "o.csv"
        self.part, self.record = folder / "o.csv.part", folder / "o.csv.run.json"
        self.photos.mkdir()
        for number, name in enumerate(NAMES):
            Image.new("RGB", (8, 8), (40 * number, 100, 0)).save(self.photos / name)
        (self.photos / "e.png").write_bytes(b"")
        (self.photos / "notes").write_text("dear diary")
        labels = "".join(f'"{name.replace(chr(34), chr(34) * 2)}",{number % 2}\n' for number, name in enumerate(NAMES))
        (folder / "labels.csv").write_text(f"path,Male\n{labels}", encoding="utf-8")
        self.go_on()
        self.whole, self.said = self.out.read_bytes(), json.loads(self.record.read_bytes())
        self.out.unlink()

    def go_on(self, *, retry: bool = False) -> None:
        options = ClassifyOptions(
            (str(self.photos),), self.out, labels=self.out.with_name("labels.csv"), retry_failed=retry
        )
        classify(options, lambda progress: None)

    def taken(self) -> bytes:
        """The result, taken away."""
        content = self.out.read_bytes()
        self.out.unlink()
        return content


@pytest.fixture(scope="module")
def run(null_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One classifier for all runs, since opening a model takes longer than all else."""
    classifier = Classifier(null_model, device="cpu", jobs=1, batch_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gendercls.classify.run._open_classifier", lambda options, session: classifier)
        yield Run(tmp_path_factory.mktemp("journal"))


def table(content: bytes) -> list[list[str]]:
    """The rows below the header, of a file that is as a run writes it."""
    records = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    assert content == b"".join(map(encode, records))
    assert records[0] == ["path", "label", "confidence", "p_female", "p_male", "truth", "correct", "error"]
    return records[1:]


@settings(deadline=None)
@given(data=st.data())
def test_damaged_rows(run: Run, damaged_text: DamagedText, data: st.DataObject) -> None:
    """Every photo has its own row, and its answer is its own."""
    run.record.write_text(json.dumps(run.said))
    run.part.write_bytes(data.draw(damaged_text(run.whole)))
    try:
        run.go_on()
    except OutputError as error:
        assert_helps(error)
        return
    for fields, expected in zip(table(run.taken()), table(run.whole), strict=True):
        assert_is_the_same_photos(fields, expected)


def assert_is_the_same_photos(fields: list[str], expected: list[str]) -> None:
    """A photo's row, but for digits of what was less probable, and what stands where a reason stood."""
    path, label, confidence, *numbers, truth, correct, error = fields
    assert ([path, label, confidence], bool(error)) == (expected[:3], bool(expected[-1]))
    assert max(numbers) == confidence
    assert (truth, correct) in (("", ""), (expected[5], str(int(label == truth))))


def assert_helps(error: OutputError) -> None:
    assert "--restart" in error.do
    assert len(error.what.splitlines()) == 1
    assert len(error.what) < 500


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_record(run: Run, damaged_json: DamagedJson, data: st.DataObject) -> None:
    """It is the record of that run, and all rows are as they were; or it is not, and nothing is touched."""
    run.record.write_bytes(data.draw(damaged_json(run.said)))
    run.part.write_bytes(run.whole)
    begun = begun_with(run.out, also_finished=True)
    assert begun.precision in (None, "fp32", "fp16", "int8")
    assert begun.batch_size is None or begun.batch_size >= 1
    try:
        run.go_on()
    except OutputError as error:
        assert_helps(error)
        assert run.part.read_bytes() == run.whole
    else:
        assert run.taken() == run.whole


@settings(deadline=None)
@given(data=st.data())
def test_damaged_rows_are_retried(run: Run, damaged_text: DamagedText, data: st.DataObject) -> None:
    """Of what is there the failed rows alone are done again, or nothing is touched."""
    damaged = data.draw(damaged_text(run.whole))
    run.record.write_text(json.dumps(run.said))
    run.part.write_bytes(damaged)
    try:
        run.go_on(retry=True)
    except OutputError as error:
        assert_helps(error)
        assert run.part.read_bytes() == damaged
        return
    for fields, expected in zip(table(run.part.read_bytes()), table(run.whole), strict=False):
        assert_is_the_same_photos(fields, expected)


WITH_FACES = Columns(answers_for(False, ("female", "male")), has_truth=True, has_faces=True)
SURE = ("male", "0.800000", ("0.200000", "0.800000"))
UNSURE = ("0.550000", ("0.450000", "0.550000"))
ROWS_WITH_FACES = (
    Row("a,1.jpg", *SURE, "male", face=("1", "0", "0", "8", "9", "0.912345")),
    Row("a,1.jpg", *SURE, "male", face=("2", "20", "0", "8", "9", "0.700000")),
    Row("b.jpg", "no face", "", (), "female", face=("0",)),
    Row("c.jpg", *SURE, "male", "1", face=("1", "3", "4", "8", "9", "0.600001")),
    Row("d.jpg", *SURE, "female", face=("1", "0", "0", "8", "9", "0.912345")),
    Row("d.jpg", *SURE, "female", face=("2", "20", "0", "8", "9", "0.700000")),
    Row("d.jpg", "uncertain", *UNSURE, "female", face=("3", "20", "30", "8", "9", "0.700000")),
    Row("e.jpg", "", "", (), "male", error="damaged photo: cut off"),
    Row("f.jpg", *SURE, face=("1", "0", "0", "8", "9", "1.000000")),
)


@settings(deadline=None)
@given(data=st.data())
def test_damaged_rows_of_faces(
    tmp_path_factory: pytest.TempPathFactory, damaged_text: DamagedText, data: st.DataObject
) -> None:
    """No photo keeps a face of another, and what is kept is in the file as it was written."""
    folder = tmp_path_factory.getbasetemp() / "faces"
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "o.csv", WITH_FACES, {"inputs": ["photos"]}, 0.6)
    journal.begin(restart=True, force=False)
    journal.append(ROWS_WITH_FACES)
    journal.close()
    journal.part.write_bytes(data.draw(damaged_text(journal.part.read_bytes())))
    try:
        journal.begin(restart=False, force=False)
        kept = list(journal.kept())
    except OutputError as error:
        assert_helps(error)
    else:
        assert journal.part.read_bytes() == b"".join(
            map(encode, [WITH_FACES.header(), *(WITH_FACES.fields(row) for rows in kept for row in rows)])
        )
        for rows in kept:
            assert len({row.path for row in rows}) == 1
            assert [row.face[:1] for row in rows] in ([()], [("0",)], [(str(n + 1),) for n in range(len(rows))])
    finally:
        journal.close()


# --- found by looking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"labels": ...}, id="a key less whose value was none"),
        pytest.param({"model": {"sha256": "ab" * 32}}, id="a model without a name"),
        pytest.param({"options": "[" * 900 + "]" * 900}, id="nested too deeply"),
    ],
)
def test_a_record_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """In words, and not by a traceback."""
    journal = Journal(
        tmp_path / "o.csv", WITH_FACES, {"labels": None, "model": {"file": "m", "sha256": "0"}, "options": {}}, 0.6
    )
    journal.begin(restart=False, force=False)
    journal.close()
    record = json.loads(journal.record.read_text()) | change
    text = json.dumps({key: value for key, value in record.items() if value is not ...})
    journal.record.write_text(text.replace('"[', "[").replace(']"', "]"))
    with pytest.raises(OutputError) as caught:
        journal.begin(restart=False, force=False)
    assert_helps(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"\n", b"\r\n", id="ends of lines"),
        pytest.param(b"path,", b'"path",', id="quotes in the header"),
    ],
)
def test_a_header_that_was_written_anew_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Rows that follow it would begin in the middle of a line."""
    journal = Journal(tmp_path / "o.csv", WITH_FACES, {"inputs": ["photos"]}, 0.6)
    journal.begin(restart=False, force=False)
    journal.append(ROWS_WITH_FACES)
    journal.close()
    journal.part.write_bytes(journal.part.read_bytes().replace(old, new))
    journal.begin(restart=False, force=False)
    with pytest.raises(OutputError, match="the rows have other columns than this run's"):
        list(journal.kept())
    journal.close()


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        pytest.param(b"no face", b"male", 0, id="an answer without numbers"),
        pytest.param(b"d.jpg,3", b"c.jpg,3", 2, id="a face of another photo"),
        pytest.param(b"d.jpg,3", b"d.jpg,4", 2, id="a face that is missing"),
        pytest.param(b"9,1.000000,male,", b"9,1.000000,female,", 4, id="another answer"),
        pytest.param(b"9,1.000000,male,0.800000", b"9,1.000000,male,0.8", 4, id="a number written anew"),
        pytest.param(b"d.jpg,1,0,0,8,9,0.912345,male", b"d.jpg,1,0,0,8,9,0.912345,uncertain", 2, id="less sure of it"),
        pytest.param(b"d.jpg,1,0,0,8,9", b"d.jpg,1,30,0,8,9", 2, id="a box at another place"),
        pytest.param(b"d.jpg,1,0,0,8,9", b"d.jpg,1," + b"9" * 5000 + b",0,8,9", 1, id="a place beyond any photo"),
        pytest.param(b"male,1,", b"male,,", 1, id="a score that is missing"),
    ],
)
def test_rows_that_no_run_writes_are_done_again(tmp_path: Path, old: bytes, new: bytes, kept: int) -> None:
    """With all that comes after them, and the photo before or two."""
    journal = Journal(tmp_path / "o.csv", WITH_FACES, {"inputs": ["photos"]}, 0.6)
    journal.begin(restart=False, force=False)
    journal.append(ROWS_WITH_FACES)
    journal.close()
    assert old in journal.part.read_bytes()
    journal.part.write_bytes(journal.part.read_bytes().replace(old, new))
    journal.begin(restart=False, force=False)
    assert len(list(journal.kept())) == kept
    assert "a row is damaged: " in journal.damage
    journal.close()
