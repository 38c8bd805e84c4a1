"""A photo that crashes the process which reads it, or never ends, costs one row. The faults are real ones."""

from __future__ import annotations

import csv
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendercls import guard
from gendercls.errors import GenderclsError
from gendercls.guard import Watch

Run = Callable[..., subprocess.CompletedProcess[str]]
COUNT = 90
# Read by Python before anything else: decoders that have the faults which are asked for by a photo's width.
FAULTY = """
import ctypes, os, time
from PIL import ImageFile

real = ImageFile.ImageFile.load

def load(self):
    if self.width == 31:
        ctypes.string_at(0)
    elif self.width == 32:
        while True:
            pass
    elif self.width == 33:
        time.sleep(3600)
    elif self.width == 34:
        os.abort()
    return real(self)

ImageFile.ImageFile.load = load
"""
WIDTHS = {"crash": 31, "spin": 32, "sleep": 33, "abort": 34}
SEGFAULT, ABORT = "crashed (SIGSEGV)", "crashed (SIGABRT)"


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """The environment of a command whose decoders are faulty."""
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "sitecustomize.py").write_text(FAULTY)
    path = os.pathsep.join(filter(None, (str(tmp_path / "faulty"), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path}


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """``photos(crash=[…], …)``: a folder of photos, those with these numbers faulty."""

    def make(**faults: list[int]) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        width_of = {number: WIDTHS[kind] for kind, numbers in faults.items() for number in numbers}
        for number in range(COUNT):
            image = Image.new("RGB", (width_of.get(number, 16), 16), (number, 90 - number, 0))
            image.save(folder / f"{number:03}.png")
        return folder

    return make


def command(folder: Path, model: Path, *more: str) -> list[str]:
    words = ["classify", str(folder), "--model", str(model), "--out", str(folder.with_name("o.csv")), "--jobs", "2"]
    return [*words, "--device", "cpu", *more]


def rows(folder: Path) -> list[dict[str, str]]:
    with folder.with_name("o.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def errors(folder: Path) -> dict[int, str]:
    return {number: row["error"] for number, row in enumerate(rows(folder)) if row["error"]}


def assert_others_have_their_answers(folder: Path) -> None:
    """Each photo's own, by its upper left pixel."""
    found = rows(folder)
    assert [row["path"] for row in found] == [f"{number:03}.png" for number in range(COUNT)]
    for number, row in enumerate(found):
        if not row["error"]:
            assert row["label"] == ("female" if number >= COUNT - number else "male")


# --- crashes ----------------------------------------------------------------------------------------------------


def test_photos_that_crash_cost_their_rows_alone(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run
) -> None:
    """One alone, two neighbours, and the last; the command ends well and says what happened."""
    folder = photos(crash=[10, 60, 61], abort=[89])
    done = run_gendercls(*command(folder, null_model, "--json"), env=faulty)
    assert done.returncode == 0, done.stderr
    assert errors(folder) == {10: SEGFAULT, 60: SEGFAULT, 61: SEGFAULT, 89: ABORT}
    assert_others_have_their_answers(folder)
    assert '"failures": {"crashed (SIGSEGV)": 3, "crashed (SIGABRT)": 1}' in done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("gendercls: ")]
    assert said[0] == "gendercls: the process that worked crashed (SIGSEGV): going on with one photo at a time"
    assert said[1] == "gendercls: a photo crashed (SIGSEGV): its row says so"
    assert sum("its row says so" in line for line in said) == 4


def test_the_same_bytes_come_out_again(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run
) -> None:
    """Whenever the photos crash; and nothing is said where nobody wants to hear it."""
    folder = photos(crash=[0, 47])
    done = run_gendercls(*command(folder, null_model, "--quiet"), env=faulty)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first = folder.with_name("o.csv").read_bytes()
    run_gendercls(*command(folder, null_model, "--force", "--jobs", "1", "--batch-size", "3"), env=faulty)
    assert folder.with_name("o.csv").read_bytes() == first


def test_strict_still_counts_them(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run
) -> None:
    """The exit status is the working process's own."""
    done = run_gendercls(*command(photos(crash=[5]), null_model, "--strict", "--quiet"), env=faulty)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "Error: 1 photo failed")


def test_restart_begins_anew_only_once(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run
) -> None:
    """Each process that goes on after a crash keeps what the one before has done."""
    folder = photos(crash=[70])
    folder.with_name("o.csv.part").write_text("path,of,another\nrun,x,y\n")
    done = run_gendercls(*command(folder, null_model, "--restart"), env=faulty)
    assert done.returncode == 0, done.stderr
    assert errors(folder) == {70: SEGFAULT}
    assert_others_have_their_answers(folder)


def test_a_retry_goes_on_too(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run
) -> None:
    """Photos that still crash stay failed; those that are mended get their answers."""
    folder = photos(crash=[3, 4, 80])
    run_gendercls(*command(folder, null_model), env=faulty)
    Image.new("RGB", (16, 16), (4, 86, 0)).save(folder / "004.png")
    done = run_gendercls(*command(folder, null_model, "--retry-failed"), env=faulty)
    assert done.returncode == 0, done.stderr
    assert errors(folder) == {3: SEGFAULT, 80: SEGFAULT}
    assert_others_have_their_answers(folder)


def test_a_crash_that_no_photo_caused_is_an_error(
    photos: Callable[..., Path], tmp_path: Path, null_model: Path, run_gendercls: Run
) -> None:
    """Here while onnxruntime opens the model."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, onnxruntime\nonnxruntime.InferenceSession = lambda *_, **__: ctypes.string_at(0)\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run_gendercls(*command(photos(), null_model), env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (
        1,
        "Error: the process that worked crashed (SIGSEGV), while no photo was under way\n"
        "  do:    repeat the command, which continues; if this happens again, gendercls doctor examines the machine\n",
    )


def test_crashes_without_end_are_not_the_photos_fault() -> None:
    """After twenty in a row the command gives up, and says what may be wrong."""
    watch, said = Watch(), []
    watch.reach(100, 48)
    guard._learn(watch, SEGFAULT, said.append)
    assert (watch.careful_until, watch.lethal, watch.is_again) == (148, {}, True)
    for number in range(100, 119):
        watch.reach(number, 48)
        guard._learn(watch, SEGFAULT, said.append)
    assert watch.lethal == dict.fromkeys(range(100, 119), SEGFAULT)
    watch.reach(119, 48)
    with pytest.raises(GenderclsError, match="20 photos in a row ended the process that read them"):
        guard._learn(watch, SEGFAULT, said.append)
    assert len(said) == 20


# --- photos that never end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spin", "sleep"])
def test_a_photo_that_never_ends_is_given_up(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run, kind: str
) -> None:
    """One that keeps the interpreter to itself, and one that waits for something."""
    folder = photos(**{kind: [20]})
    done = run_gendercls(*command(folder, null_model, "--photo-timeout", "2"), env=faulty)
    assert done.returncode == 0, done.stderr
    assert errors(folder) == {20: "took more than 2 s"}
    assert_others_have_their_answers(folder)


# --- signals ----------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(photos: Callable[..., Path], faulty: dict[str, str], null_model: Path) -> tuple[list[str], Path, Any]:
    """A command that waits for its last photo for ever, its folder, and its environment."""
    folder = photos(sleep=[COUNT - 1])
    return [sys.executable, "-m", "gendercls", *command(folder, null_model)], folder, os.environ | faulty


def until_written(part: Path) -> None:
    """Wait until the rows before the last chunks are there."""
    while not part.exists() or part.read_bytes().count(b"\n") < 33:
        time.sleep(0.01)


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_nobody_works_on_when_the_guard_is_killed(waiting: tuple[list[str], Path, Any]) -> None:
    """Neither unseen nor with the output locked."""
    words, folder, env = waiting
    process = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    until_written(folder.with_name("o.csv.part"))
    (child,) = children_of(process.pid)
    process.kill()
    process.wait()
    (folder / f"{COUNT - 1:03}.png").unlink()
    Image.new("RGB", (16, 16), (COUNT - 1, 0, 0)).save(folder / f"{COUNT - 1:03}.png")
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not Path(f"/proc/{child}").exists() or Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
    assert_others_have_their_answers(folder)


def test_a_signal_for_which_nothing_is_said_ends_both(waiting: tuple[list[str], Path, Any]) -> None:
    """The terminal was closed: the rows stay, and who waits for the command sees of what it died."""
    words, folder, env = waiting
    process = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    until_written(folder.with_name("o.csv.part"))
    (child,) = children_of(process.pid)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == -signal.SIGHUP
    assert not Path(f"/proc/{child}").exists()
    assert folder.with_name("o.csv.part").exists()


def test_an_interrupted_command_does_not_wait_for_a_photo_that_never_ends(
    waiting: tuple[list[str], Path, Any],
) -> None:
    """It ends in seconds, and the rows before that photo stay."""
    words, folder, env = waiting
    process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    part = folder.with_name("o.csv.part")
    while not part.exists() or part.read_bytes().count(b"\n") < 1 + 88:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (
        130,
        "Error: interrupted, while a photo would not end; rows are kept\n  do:    repeat the command to continue\n",
    )
    assert part.read_bytes().count(b"\n") == 1 + 88


def test_ctrl_c_in_a_terminal_is_heard_once(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path
) -> None:
    """The terminal tells both processes; only the one that works says something, and the exit status is 130."""
    folder = photos(sleep=[COUNT - 1])
    words = [sys.executable, "-m", "gendercls", *command(folder, null_model, "--quiet", "--jobs", "1")]
    process, terminal = pty.fork()
    if process == 0:
        os.execve(words[0], words, os.environ | faulty)  # noqa: S606 - the command itself, in that terminal
    until_written(folder.with_name("o.csv.part"))
    os.write(terminal, b"\x03")
    said = b""
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the terminal's other side is closed
            break
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130, said
    assert said.count(b"interrupted after") == 1
