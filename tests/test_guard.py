"""A photo that crashes the process which reads it, or never ends, costs one row. The faults are real ones."""

from __future__ import annotations

import csv
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
    elif self.width == 35:
        time.sleep(0.02)
    return real(self)

ImageFile.ImageFile.load = load
"""
WIDTHS = {"crash": 31, "spin": 32, "sleep": 33, "abort": 34, "slow": 35}
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


def test_crashes_cost_no_row_of_an_output_in_a_store(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run, s3: Any
) -> None:
    """What the process that crashed had not sent is done again."""
    folder, out = photos(crash=[10, 60]), s3.bucket("crashes") + "/o.csv"
    done = run_gendercls("classify", folder, "--model", null_model, "--out", out, "--jobs", 2, env=faulty | s3.env)
    assert done.returncode == 0, done.stderr
    folder.with_name("o.csv").write_bytes(s3.files(out)[""])
    assert errors(folder) == {10: SEGFAULT, 60: SEGFAULT}
    assert_others_have_their_answers(folder)


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


def test_a_model_that_crashes_is_an_error(
    photos: Callable[..., Path], tmp_path: Path, null_model: Path, run_gendercls: Run
) -> None:
    """It is named, and nothing is tried again."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, onnxruntime\nonnxruntime.InferenceSession = lambda *_, **__: ctypes.string_at(0)\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run_gendercls(*command(photos(), null_model), env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (
        1,
        "Error: opening the model and its self-test crashed (SIGSEGV)\n"
        f"  where: {null_model}\n"
        "  do:    name another file, such as one made by gendercls export; one that is only slow needs a larger "
        "--photo-timeout; gendercls doctor examines the machine\n",
    )


def test_a_crash_that_neither_a_photo_nor_the_model_caused_is_an_error() -> None:
    """What to do is said all the same."""
    with pytest.raises(GenderclsError) as caught:
        guard._learn(Watch(), SEGFAULT, 20, lambda line: None)
    assert str(caught.value) == (
        "the process that worked crashed (SIGSEGV), while no photo was under way\n"
        "  do:    repeat the command, which continues; if this happens again, gendercls doctor examines the machine"
    )


def test_crashes_without_end_are_not_the_photos_fault() -> None:
    """After twenty in a row the command gives up, and says what may be wrong; a retry, which has few, goes on."""
    for most in (20, None):
        watch, said = Watch(), []
        watch.reach(100, 48)
        guard._learn(watch, SEGFAULT, most, said.append)
        assert (watch.careful, watch.lethal, watch.is_again) == (range(100, 148), {}, True)
        for number in range(100, 119):
            watch.reach(number, 48)
            guard._learn(watch, SEGFAULT, most, said.append)
        assert watch.lethal == dict.fromkeys(range(100, 119), SEGFAULT)
        assert len(said) == 20
        watch.reach(119, 48)
        if most is None:
            guard._learn(watch, SEGFAULT, most, said.append)
            continue
        with pytest.raises(GenderclsError, match="20 photos in a row ended the process that read them"):
            guard._learn(watch, SEGFAULT, most, said.append)


def test_a_photo_that_is_not_touched_is_not_blamed_again() -> None:
    """What ends the process then is something else, and no process follows another for ever."""
    watch = Watch(lethal={7: SEGFAULT}, careful=range(5, 50))
    watch.reach(7, 48)
    with pytest.raises(GenderclsError, match="while no photo was under way"):
        guard._learn(watch, SEGFAULT, 20, lambda line: None)


def test_a_photo_that_went_well_before_is_not_blamed() -> None:
    """Rows are not taken back one by one, for ever, where memory or the disk is at fault."""
    watch = Watch(careful=range(100, 148), is_again=True)
    watch.reach(99, 48)
    with pytest.raises(GenderclsError, match="which it had read before"):
        guard._learn(watch, SEGFAULT, None, lambda line: None)


def test_care_begins_before_rows_that_are_done_again() -> None:
    """The last row that is there is dropped: of a photo that crashes, it must not be touched either."""
    watch = Watch(lethal={47: SEGFAULT, 48: SEGFAULT}, careful=range(20, 49))
    watch.reach(49, 10)
    guard._learn(watch, SEGFAULT, 20, lambda line: None)
    assert watch.careful == range(47, 59)


# --- photos that never end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spin", "sleep"])
def test_a_photo_that_never_ends_is_given_up(
    photos: Callable[..., Path], faulty: dict[str, str], null_model: Path, run_gendercls: Run, kind: str
) -> None:
    """One that keeps the interpreter to itself, and one that waits for something."""
    folder = photos(**{kind: [20]})
    done = run_gendercls(*command(folder, null_model, "--photo-timeout", "3"), env=faulty)
    assert done.returncode == 0, done.stderr
    assert errors(folder) == {20: "took more than 3 s"}
    assert_others_have_their_answers(folder)


# --- signals ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command that is slow from its 40th photo on, whose last one takes for ever. words, env: of its process."""

    words: list[str]
    folder: Path
    env: dict[str, str]

    @property
    def part(self) -> Path:
        return self.folder.with_name("o.csv.part")

    def start(self, *ignored: signal.Signals) -> subprocess.Popen[str]:
        """With signals as a person's shell has them, but for those that are ignored."""

        def prepare() -> None:
            for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(kind, signal.SIG_IGN if kind in ignored else signal.SIG_DFL)

        return subprocess.Popen(self.words, env=self.env, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)

    def until_written(self, rows: int, process: int) -> None:
        """Wait until that many rows are there, which the process is expected to write."""
        while not self.part.exists() or self.part.read_bytes().count(b"\n") < 1 + rows:
            assert os.waitpid(process, os.WNOHANG)[0] == 0, "it ended before"
            time.sleep(0.005)

    def mend(self) -> None:
        """From now on no photo takes for ever."""
        Image.new("RGB", (16, 16), (COUNT - 1, 1, 0)).save(self.folder / f"{COUNT - 1:03}.png")


@pytest.fixture
def waiting(photos: Callable[..., Path], faulty: dict[str, str], null_model: Path) -> Command:
    folder = photos(slow=list(range(40, COUNT - 1)), sleep=[COUNT - 1])
    words = [sys.executable, "-m", "gendercls", *command(folder, null_model, "--jobs", "1")]
    return Command(words, folder, os.environ | faulty)


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_working(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nobody_works_on_when_the_guard_is_killed(waiting: Command) -> None:
    """Neither unseen nor with the output locked: the same command goes on at once."""
    process = waiting.start()
    waiting.until_written(40, process.pid)
    (child,) = children_of(process.pid)
    process.kill()
    process.communicate()
    waiting.mend()
    done = subprocess.run(waiting.words, env=waiting.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not is_working(child)
    assert_others_have_their_answers(waiting.folder)


def test_a_signal_for_which_nothing_is_said_ends_both(waiting: Command) -> None:
    """The terminal was closed: the rows stay, and who waits for the command sees of what it died."""
    process = waiting.start()
    waiting.until_written(40, process.pid)
    (child,) = children_of(process.pid)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == -signal.SIGHUP
    assert not is_working(child)
    assert waiting.part.exists()


def test_what_is_ignored_is_no_request(waiting: Command) -> None:
    """nohup and shells in the background have signals ignored; one that waits for its children otherwise, too."""
    process = waiting.start(signal.SIGHUP, signal.SIGINT, signal.SIGCHLD)
    waiting.mend()
    waiting.until_written(40, process.pid)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert_others_have_their_answers(waiting.folder)


def test_an_interrupted_command_does_not_wait_for_a_photo_that_never_ends(waiting: Command) -> None:
    """It ends in seconds, and the rows before that photo's batch stay."""
    process = waiting.start()
    waiting.until_written(88, process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    words = shlex.join(["gendercls", *waiting.words[3:]])
    assert (process.returncode, said) == (
        130,
        "Error: interrupted; the process that worked did not end by itself; rows are kept\n"
        f"  do:    continue with: {words}\n",
    )
    assert waiting.part.read_bytes().count(b"\n") == 1 + 88


def test_one_that_crashes_as_it_is_interrupted_is_not_replaced(waiting: Command) -> None:
    """Whoever asked it to end wants no other in its place."""
    process = waiting.start()
    waiting.until_written(88, process.pid)
    (child,) = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    both = 1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1
    while int(Path(f"/proc/{child}/status").read_text().partition("SigIgn:\t")[2][:16], 16) & both != both:
        time.sleep(0.005)  # until the child has heard of it: from then on it ignores these
    os.kill(child, signal.SIGSEGV)
    _, said = process.communicate()
    assert (process.returncode, said.splitlines()[0]) == (
        130,
        "Error: interrupted; the process that worked crashed (SIGSEGV); rows are kept",
    )


def test_ctrl_c_in_a_terminal_is_heard_once(waiting: Command) -> None:
    """The terminal tells both processes; the one that works says how far it is, and the exit status is 130."""
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have it ignored
        words = [*waiting.words, "--quiet"]
        os.execve(words[0], words, waiting.env)  # noqa: S606 - the command itself, in that terminal
    waiting.until_written(40, process)
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
