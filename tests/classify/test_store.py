"""An output in a store: whatever request was the last, the run goes on to the same bytes or is finished, never half."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gendercls.answers import answers_for
from gendercls.classify.output import Journal
from gendercls.classify.parts import read_parts
from gendercls.errors import GenderclsError, OutputError
from gendercls.parquet import csv_of
from gendercls.rows import Columns, Row, encode

pytest.importorskip("fsspec", reason="fsspec is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from fsspec.implementations.memory import MemoryFileSystem

COLUMNS = Columns(answers_for(False, ("female", "male")), has_truth=False)
ROWS = [
    Row(f"{name}\n.jpg", "female", f"0.{n}00000", (f"0.{n}00000", f"0.{10 - n}00000"))
    for n, name in enumerate("abcd", 6)
]
OLD = [Row("old.jpg", "male", "0.900000", ("0.100000", "0.900000"))]
OUTPUTS = ("memory://b/o.csv", "memory://b/o.parquet", "memory://b/o/")

State = dict[str, bytes]


class Memory:
    """What the store holds, and what it held after each request that changed it."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def state(self) -> State:
        return {path: file.getvalue() for path, file in MemoryFileSystem.store.items()}

    def recorded(self, original: Callable[..., None]) -> Callable[..., None]:
        """A request that changes the store, after which what it holds is written down."""

        def request(*args: Any, **more: Any) -> None:
            original(*args, **more)
            self.states.append(self.state())

        return request

    def restore(self, state: State) -> None:
        MemoryFileSystem.store.clear()
        for path, data in state.items():
            MemoryFileSystem().pipe_file(path, data)
        self.states.clear()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """An empty bucket ``b``; each row makes a part."""
    made = Memory()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = ["", "/b"]
    for name in ("pipe_file", "put_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, made.recorded(getattr(MemoryFileSystem, name)))
    monkeypatch.setattr("gendercls.classify.store._PART_BYTES", 1)
    yield made
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def journal(out: str, **changes: Any) -> Journal:
    """The journal of that output."""
    return Journal(out, COLUMNS, {"inputs": ["photos"], **changes}, 0.0)


def go_on(run: Journal, rows: list[Row] = ROWS, *, restart: bool = False, force: bool = False) -> int:
    """Write what is missing, a row at a time, and finish; how many rows were kept."""
    try:
        run.begin(restart=restart, force=force)
        kept = [row for found in run.kept() for row in found]
        assert kept == rows[: len(kept)]
        for row in rows[len(kept) :]:
            run.append([row])
        run.finish({})
    finally:
        run.close()
    return len(kept)


def csv_in(state: State, out: str) -> bytes | None:
    """The CSV of the result, None without one."""
    place = out.removeprefix("memory:/")
    if out.endswith("/"):
        return b"".join(read_parts(out)) if place + "manifest.json" in state else None
    if place not in state:
        return None
    return b"".join(csv_of(io.BytesIO(state[place]), out)) if out.endswith(".parquet") else state[place]


def is_tidy(state: State, out: str) -> bool:
    """Whether nothing is there but a result, its record and its parts."""
    record = next(data for path, data in state.items() if path.endswith("run.json"))
    parts = sorted(path for path in state if path.endswith(".csv") and path != "/b/o.csv")
    wanted = json.loads(state["/b/o/manifest.json"])["parts"] if out.endswith("/") else []
    return "unfinished" not in json.loads(record) and parts == [f"/b/o/{part['name']}" for part in wanted]


def whole_of(rows: list[Row]) -> bytes:
    """The CSV of these rows."""
    return b"".join(map(encode, [COLUMNS.header(), *map(COLUMNS.fields, rows)]))


WHOLE = whole_of(ROWS)


# --- whatever was the last request ------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_run_goes_on_after_any_request(memory: Memory, out: str) -> None:
    """'A kill at any moment leaves either a run that continues or the finished file.'"""
    go_on(journal(out))
    states = memory.states.copy()
    kept = []
    for state in [{}, *states]:
        memory.restore(state)
        assert csv_in(state, out) in (None, WHOLE)
        if state and "unfinished" not in json.loads(next(v for k, v in state.items() if k.endswith("run.json"))):
            with pytest.raises(OutputError, match="the output already exists"):
                go_on(journal(out))
        else:
            kept.append(go_on(journal(out)))
        assert csv_in(memory.state(), out) == WHOLE
        assert is_tidy(memory.state(), out)
    assert kept == [0, 0, 1, 2, 3, 4, 4]  # before the record, after it, after each part, and after the result


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("rows", [OLD, ROWS])
def test_a_result_stands_until_it_is_replaced(memory: Memory, out: str, rows: list[Row]) -> None:
    """With ``--force``, whatever was the last request: the old one is there, or the new one."""
    go_on(journal(out), rows)
    memory.states.clear()
    go_on(journal(out, inputs=["new"]), force=True)
    for state in memory.states.copy():
        memory.restore(state)
        assert csv_in(state, out) in (whole_of(rows), WHOLE)
        go_on(journal(out, inputs=["new"]), force=True)
        assert csv_in(memory.state(), out) == WHOLE
        assert is_tidy(memory.state(), out)


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_restart_leaves_no_row_of_another_run(memory: Memory, out: str) -> None:
    """Whatever was its last request, the rows are of one run; the other's are refused or gone."""
    other = journal(out, inputs=["other"])
    other.begin(restart=False, force=False)
    other.append(OLD)
    other.append(OLD)
    other.close()
    memory.states.clear()
    go_on(journal(out), restart=True)
    for state in memory.states.copy():
        memory.restore(state)
        said = refusal(journal(out))
        assert (
            any(words in said for words in ("other inputs", "already exists")) or csv_in(memory.state(), out) == WHOLE
        )
        memory.restore(state)
        said = refusal(journal(out), restart=True)
        assert "already exists" in said or not said
        assert csv_in(memory.state(), out) == WHOLE
        assert is_tidy(memory.state(), out)


def refusal(run: Journal, *, restart: bool = False) -> str:
    """Why it does not go on; empty where it does."""
    try:
        go_on(run, restart=restart)
    except OutputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("size", "seconds", "parts"), [(1 << 30, 3600.0, 1), (1 << 30, 0.0, 4), (1, 3600.0, 4)])
def test_rows_are_sent_by_size_and_by_time(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, size: int, seconds: float, parts: int
) -> None:
    """And the rest of them in the end."""
    monkeypatch.setattr("gendercls.classify.store._PART_BYTES", size)
    monkeypatch.setattr("gendercls.classify.store._PART_SECONDS", seconds)
    go_on(journal("memory://b/o/"))
    assert len(json.loads(memory.state()["/b/o/manifest.json"])["parts"]) == parts


def test_a_run_that_is_stopped_sends_what_it_has(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does: its rows are kept."""
    monkeypatch.setattr("gendercls.classify.store._PART_BYTES", 1 << 30)
    run = begun("memory://b/o.csv", [])
    run.append(ROWS[:3])
    run.close()
    assert go_on(journal("memory://b/o.csv")) == 3


# --- two at once ------------------------------------------------------------------------------------------------


def begun(out: str, rows: list[Row]) -> Journal:
    """A run that is under way."""
    run = journal(out)
    run.begin(restart=False, force=False)
    assert len(list(run.kept())) <= len(rows)
    return run


@pytest.mark.parametrize("out", OUTPUTS)
def test_of_two_processes_one_is_refused(memory: Memory, out: str) -> None:
    """The one that comes second to its next part; the other ends as if it had been alone."""
    first = begun(out, [])
    first.append(ROWS[:1])
    second = begun(out, ROWS[:1])
    first.append(ROWS[1:2])
    with pytest.raises(OutputError, match="another run is writing this output"):
        second.append(ROWS[1:3])
    second.close()
    first.append(ROWS[2:])
    first.finish({})
    assert csv_in(memory.state(), out) == WHOLE
    assert is_tidy(memory.state(), out)


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_run_that_was_restarted_over_stops(memory: Memory, out: str) -> None:
    """It adds no part to those of the other."""
    first = begun(out, [])
    first.append(ROWS[:1])
    second = journal(out)
    second.begin(restart=True, force=False)
    with pytest.raises(OutputError, match="another run is writing this output"):
        first.append(ROWS[1:])
    first.close()
    second.append(ROWS)
    second.finish({})
    assert csv_in(memory.state(), out) == WHOLE


def test_an_answer_that_was_lost_is_no_other_run(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is there after a request that failed is the run's own."""
    monkeypatch.setattr("gendercls.sources.reach._WAITS", (0.0, 0.0))
    pipe, failed = MemoryFileSystem.pipe_file, []

    def lose(self: Any, path: str, *args: Any, **more: Any) -> None:
        pipe(self, path, *args, **more)
        if path.endswith(".csv") and path not in failed:
            failed.append(path)
            raise ConnectionResetError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lose)
    go_on(journal("memory://b/o.csv"))
    assert len(failed) == len(ROWS)
    assert csv_in(memory.state(), "memory://b/o.csv") == WHOLE


def test_a_store_that_takes_long_ticks_meanwhile(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tick tells the guard that something goes on."""
    monkeypatch.setattr("gendercls.classify.objects._TICK_SECONDS", 0.01)
    ticks: list[int] = []
    run = Journal("memory://b/o.csv", COLUMNS, {"inputs": ["photos"]}, 0.0, lambda: ticks.append(1))
    run.begin(restart=False, force=False)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *_, **__: time.sleep(0.2))
    ticks.clear()
    run.append(ROWS)
    run.close()
    assert len(ticks) > 5


# --- damage -----------------------------------------------------------------------------------------------------


def unfinished(memory: Memory, out: str) -> list[str]:
    """The parts of a run that was stopped after three rows."""
    run = begun(out, [])
    for row in ROWS[:3]:
        run.append([row])
    run.close()
    return sorted(path for path in memory.state() if path.endswith(".csv"))


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (1, None, "a part of the rows is missing"),
        (0, None, "a part of the rows is missing"),
        (1, lambda data: data[:-5], "a part of the rows is cut off"),
        (2, lambda data: data[:-5], "a part of the rows is cut off"),
        (1, lambda data: b"", "a part of the rows has another header"),
        (1, lambda data: data.replace(b"p_male", b"p_cat"), "a part of the rows has another header"),
        (1, lambda data: data.replace(b"female,0.7", b"female,0.8"), "a row is damaged: it has the confidence"),
        (2, lambda data: data.replace(b"female,0.8", b"fe\xffale,0.8"), "a row is damaged: 'utf-8' codec"),
    ],
)
def test_damaged_parts_are_refused(memory: Memory, out: str, number: int, change: Any, message: str) -> None:
    """A store does not tear what it keeps, so somebody did it; the address is named, and nothing is touched."""
    path = unfinished(memory, out)[number]
    if change is None:
        MemoryFileSystem().rm_file(path)
    else:
        MemoryFileSystem().pipe_file(path, change(MemoryFileSystem().cat_file(path)))
    before = memory.state()
    with pytest.raises(OutputError) as caught:
        go_on(journal(out))
    assert str(caught.value).startswith(message)
    assert caught.value.where.startswith(out)
    assert caught.value.do == "repeat with --restart to begin anew"
    assert memory.state() == before


@pytest.mark.parametrize("record", [None, b"{", b"\xff"])
def test_parts_without_a_record_are_refused(memory: Memory, record: bytes | None) -> None:
    """Nobody can tell which run they are of."""
    out = "memory://b/o.csv"
    unfinished(memory, out)
    MemoryFileSystem().rm_file("/b/o.csv.run.json")
    if record is not None:
        MemoryFileSystem().pipe_file("/b/o.csv.run.json", record)
    with pytest.raises(OutputError, match="the record of their run is missing or damaged"):
        go_on(journal(out))
    assert go_on(journal(out), restart=True) == 0
    assert csv_in(memory.state(), out) == WHOLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "a part is missing"),
        (lambda data: data.replace(b"0.7", b"0.8", 1), "a part is not what the manifest says"),
        (lambda data: data + b"x", "a part is not what the manifest says"),
    ],
)
def test_parts_that_the_manifest_does_not_know_are_not_read(memory: Memory, change: Any, message: str) -> None:
    """``read_parts`` gives the bytes that were written, or names the part."""
    out = "memory://b/o/"
    go_on(journal(out))
    part = sorted(path for path in memory.state() if path.endswith(".csv"))[1]
    if change is None:
        MemoryFileSystem().rm_file(part)
    else:
        MemoryFileSystem().pipe_file(part, change(MemoryFileSystem().cat_file(part)))
    with pytest.raises(OutputError, match=message) as caught:
        list(read_parts(out))
    assert caught.value.where == f"memory:/{part}"


# --- retrying ---------------------------------------------------------------------------------------------------


def mend(rows: list[Row]) -> list[Row] | None:
    """Another answer for the second photo."""
    return [Row(rows[0].path, "male", "1.000000", ("0.000000", "1.000000"))] if rows[0].path == ROWS[1].path else None


@pytest.mark.parametrize("out", OUTPUTS[:2])
def test_retrying_replaces_the_result_in_one_step(memory: Memory, out: str) -> None:
    """With one request, so that there is no moment without it."""
    go_on(journal(out))
    memory.states.clear()
    run = journal(out)
    run.begin_retry()
    assert list(run.photos()) == [[row] for row in ROWS]
    run.rewrite(mend)
    run.close()
    assert len(memory.states) == 1
    assert csv_in(memory.state(), out) == whole_of([row for old in ROWS for row in mend([old]) or [old]])


@pytest.mark.parametrize("out", OUTPUTS)
def test_what_is_not_retried_says_so(memory: Memory, out: str) -> None:
    """Parts never change."""
    with pytest.raises(OutputError, match="there is no output to retry"):
        journal(out).begin_retry()
    unfinished(memory, out)
    with pytest.raises(OutputError, match="the run is not finished"):
        journal(out).begin_retry()


# --- places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("memory://c/o.csv", "there is no such bucket"),
        ("memory://b", "the output has no name"),
        ("memory://b/", "the output has no name"),
        ("memory://b/folder", "the output is a folder"),
        ("file:///tmp/o.csv", "a file on disk is named by its path"),
        ("nosuch://b/o.csv", "no store is reached by nosuch://"),
    ],
)
def test_a_place_that_takes_no_output_is_refused(memory: Memory, out: str, message: str) -> None:
    """Before any work, with the address."""
    MemoryFileSystem().pipe_file("/b/folder/x", b"")
    with pytest.raises(GenderclsError, match=message):
        journal(out).begin(restart=False, force=False)
