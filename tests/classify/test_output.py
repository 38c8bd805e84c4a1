"""A run's output on disk: whatever stops it, no row is lost, doubled or mixed with another run's."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gendercls.answers import answers_for
from gendercls.classify.output import Journal
from gendercls.errors import DamagedRowError, OutputError
from gendercls.rows import Columns, Row

COLUMNS = Columns(answers_for(False, ("female", "male")), has_truth=True)
ROWS = [
    Row('a,"b"\n\r.jpg', "female", "0.750000", ("0.750000", "0.250000"), "female", "1"),
    Row("=é☃.jpg", "", "", (), "", "", "-- damaged, or so"),
    Row("c.jpg", "uncertain", "0.500000", ("0.500000", "0.500000"), "male", "0"),
]
IDENTITY = {
    "inputs": ["photos", "caf\udce9"],
    "model": {"file": "faces-1.onnx", "sha256": "3f9c0a" + "0" * 58},
    "labels": None,
    "options": {"device": "cpu", "confidence_threshold": 0.9},
    "versions": {"onnxruntime": "1.21"},
}


def journal(folder: Path, columns: Columns = COLUMNS, **changes: Any) -> Journal:
    """The journal of that folder's ``o.csv``."""
    return Journal(folder / "o.csv", columns, IDENTITY | changes, threshold=0.6)


def go_on(run: Journal, *, restart: bool = False, force: bool = False) -> int:
    """Write what is missing and finish; how many rows were kept."""
    run.begin(restart=restart, force=force)
    kept = [row for rows in run.kept() for row in rows]
    assert kept == [COLUMNS.row(COLUMNS.fields(row)) for row in ROWS[: len(kept)]]
    run.append(ROWS[len(kept) :])
    run.finish({})
    return len(kept)


def refusal(run: Journal) -> str:
    """Why it does not go on, its folder cut off."""
    with pytest.raises(OutputError) as caught:
        go_on(run)
    run.close()
    return str(caught.value).replace(f"{run.out.parent}/", "")


@pytest.mark.parametrize(("seconds", "times"), [(0.0, 4), (3600.0, 1)])
def test_rows_reach_the_disk_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    """Every so many seconds, and all of them before the file gets its name."""
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "o.csv.part"):
            synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr("gendercls.classify.output._SYNC_SECONDS", seconds)
    run = journal(tmp_path)
    run.begin(restart=False, force=False)
    monkeypatch.setattr(os, "fsync", sync)
    for row in ROWS:
        run.append([row])
    run.finish({})
    assert synced[-1] == (tmp_path / "o.csv").stat().st_size
    assert len(synced) == times


def stop(*_: object) -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of an undisturbed run, whose record stays in the folder; its result is taken away."""
    go_on(journal(tmp_path))
    content = (tmp_path / "o.csv").read_bytes()
    (tmp_path / "o.csv").unlink()
    return content


# --- going on ---------------------------------------------------------------------------------------------------


def test_a_run_cut_at_any_byte_goes_on_to_the_same_bytes(tmp_path: Path, whole: bytes) -> None:
    """'The part is parsed as CSV, the last photo's rows are dropped and redone': wherever a kill cut it."""
    kept = []
    for cut in range(len(whole) + 1):
        (tmp_path / "o.csv.part").write_bytes(whole[:cut])
        kept.append(go_on(journal(tmp_path)))
        assert (tmp_path / "o.csv").read_bytes() == whole, cut
        (tmp_path / "o.csv").unlink()
    assert (kept[0], kept[-1]) == (0, len(ROWS) - 1)
    assert kept == sorted(kept)


def test_a_finished_run_leaves_its_csv_and_its_record(tmp_path: Path) -> None:
    """The part is renamed, and 'preds.csv.run.json' stays."""
    go_on(journal(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["o.csv", "o.csv.run.json"]


def test_the_csv_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    """Until then its rows are in the part, each there as soon as it is appended."""
    run = journal(tmp_path)
    run.begin(restart=False, force=False)
    assert list(run.kept()) == []
    run.append(ROWS[:1])
    assert not run.out.exists()
    seen = run.part.read_bytes()
    run.close()
    assert seen.endswith(b'error\n"a,""b""\n\r.jpg",female,0.750000,0.750000,0.250000,female,1,\n')


def test_restart_begins_anew(tmp_path: Path, whole: bytes) -> None:
    """What was begun is dropped, also when another run began it."""
    (tmp_path / "o.csv.part").write_bytes(whole)
    assert go_on(journal(tmp_path, inputs=["other"]), restart=True) == 0
    assert (tmp_path / "o.csv").read_bytes() == whole


@pytest.mark.parametrize("step", ["_write_record", "append_fields"])
def test_a_restart_that_is_killed_leaves_no_row_of_another_run(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Old rows never lie beside a new record, so that the next run cannot take them for its own."""
    (tmp_path / "o.csv.part").write_bytes(whole)
    other = journal(tmp_path, inputs=["other"])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, step, stop)
        with pytest.raises(KeyboardInterrupt):
            other.begin(restart=True, force=False)
    other.close()
    assert go_on(journal(tmp_path, inputs=["other"])) == 0


def test_an_existing_result_is_kept_without_force(tmp_path: Path) -> None:
    """It is refused before anything is written; with ``--force`` it stays until the new one is whole."""
    (tmp_path / "o.csv").write_text("mine")
    assert refusal(journal(tmp_path)) == (
        "the output already exists\n  where: o.csv\n  do:    choose another --out, or repeat with --force to replace it"
    )
    assert os.listdir(tmp_path) == ["o.csv"]
    run = journal(tmp_path)
    run.begin(restart=False, force=True)
    assert (tmp_path / "o.csv").read_text() == "mine"
    run.close()
    assert go_on(journal(tmp_path), force=True) == 0


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason", "where"),
    [
        (b"damaged", b"\xff", "'utf-8' codec can't decode byte 0xff in position 24: invalid start byte", ":4"),
        (b"\"'-- damaged", b'"x" damaged', "',' expected after '\"'", ":4"),
        (b",,,,,,", b",", "3 fields instead of 8", ", at ./=é☃.jpg"),
        (b",,,,,,", b",femail,,,,,", "'femail' is none of the classes", ", at ./=é☃.jpg"),
        (b",,,,,,", b",,,,,x,", "'x' is none of the classes", ", at ./=é☃.jpg"),
        (b"./=", b"\n", "0 fields instead of 8", ", at an empty line"),
    ],
)
def test_from_a_damaged_row_on_all_is_done_again(
    tmp_path: Path, whole: bytes, old: bytes, new: bytes, reason: str, where: str
) -> None:
    """It is named with its reason, and nothing that comes after it is trusted."""
    (tmp_path / "o.csv.part").write_bytes(whole.replace(old, new, 1))
    run = journal(tmp_path)
    assert go_on(run) == 0
    assert run.damage == f"a row is damaged: {reason} ({tmp_path}/o.csv.part{where})"
    assert (tmp_path / "o.csv").read_bytes() == whole


@pytest.mark.parametrize("length", [1, 511, 4096, 300_000])
@pytest.mark.parametrize("garbage", [b"\0", b'"', b"\xff", b"x,", b"\n", b"c.jpg,male,0.5\n", b'"\n'])
def test_whatever_follows_the_rows_is_dropped(tmp_path: Path, whole: bytes, garbage: bytes, length: int) -> None:
    """As blocks that a file system had promised and not yet written when the power went: zeros, or another file's."""
    (tmp_path / "o.csv.part").write_bytes(whole + (garbage * length)[:length])
    go_on(journal(tmp_path))
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_a_damaged_result_is_not_retried(tmp_path: Path, whole: bytes) -> None:
    """It is replaced in one step, so what is wrong with it has to be known first; it stays as it is."""
    damaged = whole.replace(b",,,,,,", b",femail,,,,,", 1)
    (tmp_path / "o.csv").write_bytes(damaged)
    run = journal(tmp_path)
    run.begin_retry()
    with pytest.raises(DamagedRowError, match="a row is damaged: 'femail' is none of the classes"):
        list(run.photos())
    run.close()
    assert (tmp_path / "o.csv").read_bytes() == damaged


def test_a_header_that_is_none_is_refused(tmp_path: Path, whole: bytes) -> None:
    """Nobody can tell what the rows are."""
    damaged = whole.replace(b"path", b"pa\xffth", 1)
    (tmp_path / "o.csv.part").write_bytes(damaged)
    assert refusal(journal(tmp_path)).startswith("the rows have other columns than this run's\n")
    assert (tmp_path / "o.csv.part").read_bytes() == damaged


def test_other_columns_are_refused(tmp_path: Path, whole: bytes) -> None:
    """Rows of other classes are no rows of this run."""
    (tmp_path / "o.csv.part").write_bytes(whole)
    assert refusal(journal(tmp_path, Columns(answers_for(False, ("cat", "dog")), has_truth=False))) == (
        "the rows have other columns than this run's\n"
        "  where: o.csv.part begins with path,label,confidence,p_female,p_male,truth,correct,error\n"
        "  do:    choose another --out, or repeat with --restart to begin anew"
    )


@pytest.mark.parametrize(
    ("change", "difference", "where"),
    [
        (
            {"model": {"file": "mine.onnx", "sha256": "81d02e" + "1" * 58}},
            "another model",
            "faces-1.onnx (3f9c0a), this run has mine.onnx (81d02e)",
        ),
        ({"inputs": ["a", "b"]}, "other inputs", "photos, caf\udce9, this run has a, b"),
        (
            {"labels": {"source": "CelebA", "sha256": "77" * 32}},
            "other labels",
            "none, this run has CelebA (777777)",
        ),
        (
            {"options": {"device": "cpu", "confidence_threshold": 0.5}},
            "another confidence threshold",
            "0.9, this run has 0.5",
        ),
        ({"versions": {"onnxruntime": "1.22"}}, "another version of onnxruntime", "1.21, this run has 1.22"),
        ({"format": [1, 0]}, "another format", "1, 2, this run has 1, 0"),
    ],
)
def test_another_run_is_refused(
    tmp_path: Path, whole: bytes, change: dict[str, Any], difference: str, where: str
) -> None:
    """Other options, inputs, labels, versions or another model: the first difference is named with both values."""
    (tmp_path / "o.csv.part").write_bytes(whole)
    assert refusal(journal(tmp_path, **change)) == (
        f"o.csv was begun with {difference}; going on would mix the answers of two\n"
        f"  where: o.csv.run.json has {where}\n"
        "  do:    repeat the command as it was to continue, or with --restart to begin anew"
    )
    assert (tmp_path / "o.csv.part").read_bytes() == whole


@pytest.mark.parametrize("record", [None, b"{", b"\xff"])
def test_rows_without_a_record_are_refused(tmp_path: Path, whole: bytes, record: bytes | None) -> None:
    """Nobody can tell which run they are of."""
    (tmp_path / "o.csv.part").write_bytes(whole)
    (tmp_path / "o.csv.run.json").unlink()
    if record is not None:
        (tmp_path / "o.csv.run.json").write_bytes(record)
    assert refusal(journal(tmp_path)) == (
        "rows were begun, but the record of their run is missing or damaged\n"
        "  where: o.csv.run.json\n"
        "  do:    repeat with --restart to begin anew"
    )


# --- one writer -------------------------------------------------------------------------------------------------

LOCKED = "another run is writing this output\n  where: o.csv.part\n  do:    wait for it, or choose another --out"
HOLDER = """
import sys, pathlib
from gendercls.answers import answers_for
from gendercls.classify.output import Journal
from gendercls.rows import Columns
columns = Columns(answers_for(False, ("female", "male")), True)
journal = Journal(pathlib.Path(sys.argv[1]), columns, eval(sys.argv[2]), 0.6)
journal.begin(restart=False, force=False)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Only one process writes an output; the lock goes with it, even when it is killed."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "o.csv", repr(IDENTITY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert refusal(journal(tmp_path)) == LOCKED
        with pytest.raises(OutputError, match="another run is writing this output"):
            journal(tmp_path).begin_retry()
        other.kill()
    assert go_on(journal(tmp_path)) == 0


def test_a_part_that_was_finished_meanwhile_is_not_written(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking the other run may rename the file: then it is a result and no longer ours."""
    run = journal(tmp_path)
    run.part.write_bytes(whole)
    monkeypatch.setattr(fcntl, "flock", lambda *_: os.replace(run.part, run.out))
    assert refusal(run) == LOCKED
    assert run.out.read_bytes() == whole


# --- retrying ---------------------------------------------------------------------------------------------------


def mend(rows: list[Row]) -> list[Row] | None:
    """An answer for the photo that failed."""
    return [Row("=é☃.jpg", "male", "1.000000", ("0.000000", "1.000000"))] if rows[0].has_failed else None


@pytest.mark.parametrize("place", ["o.csv", "o.csv.part"])
def test_retrying_replaces_the_failed_rows_alone(tmp_path: Path, whole: bytes, place: str) -> None:
    """The CSV, finished or not, is replaced in one step and keeps every other byte."""
    (tmp_path / place).write_bytes(whole)
    run = journal(tmp_path)
    run.begin_retry()
    assert [[row.has_failed for row in rows] for rows in run.photos()] == [[False], [True], [False]]
    run.rewrite(mend)
    run.close()
    failed = './=é☃.jpg,,,,,,,"\'-- damaged, or so"\n'.encode()
    assert failed in whole
    mended = whole.replace(failed, "./=é☃.jpg,male,1.000000,0.000000,1.000000,,,\n".encode())
    assert (tmp_path / place).read_bytes() == mended
    assert sorted(os.listdir(tmp_path)) == [place, "o.csv.run.json"]


def test_a_retry_that_is_stopped_changes_nothing(tmp_path: Path, whole: bytes) -> None:
    """The rows stay as they were, and nothing lies beside them."""
    (tmp_path / "o.csv").write_bytes(whole)
    run = journal(tmp_path)
    run.begin_retry()
    with pytest.raises(KeyboardInterrupt):
        run.rewrite(stop)
    run.close()
    assert (tmp_path / "o.csv").read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["o.csv", "o.csv.run.json"]


def test_without_an_output_there_is_nothing_to_retry(tmp_path: Path) -> None:
    """It says what to do first."""
    with pytest.raises(OutputError) as caught:
        journal(tmp_path).begin_retry()
    assert str(caught.value) == (
        "there is no output to retry\n"
        f"  where: {tmp_path / 'o.csv'}\n"
        "  do:    run the command without --retry-failed first"
    )
