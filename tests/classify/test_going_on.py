"""Runs of ``gendercls classify`` that end early and go on, and retries of what failed, on real photos."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gendercls.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]

# What the fixture `run` types.
RUN = ("classify", "photos", "--out", "o.csv", "--device", "cpu")


@pytest.fixture(scope="module")
def many(take: Take, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 72 photos and the ``whole.csv`` of an undisturbed run."""
    folder = tmp_path_factory.mktemp("many")
    take(folder / "photos", 72)
    run(folder)
    (folder / "o.csv").rename(folder / "whole.csv")
    return folder


def unfinish(folder: Path, keep: int) -> Path:
    """Leave the run as a kill would have left it after that many whole rows and half of the next."""
    lines = (folder / "o.csv").read_bytes().splitlines(keepends=True)
    (folder / "o.csv.part").write_bytes(b"".join(lines[: keep + 1]) + lines[keep + 1][:9])
    (folder / "o.csv").unlink()
    return folder


# --- going on ---------------------------------------------------------------------------------------------------


def stop(folder: Path, size: int, kind: signal.Signals, *more: str) -> subprocess.CompletedProcess[str]:
    """Start the command, send it the signal once its part has that many bytes; what it said and how it ended."""
    command = [sys.executable, "-m", "gendercls", *RUN, *more]
    # A background job of a shell without job control ignores Ctrl-C, and so would what it starts.
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    written = 0
    while process.poll() is None and written < size:
        time.sleep(0.002)
        with contextlib.suppress(FileNotFoundError):
            written = os.path.getsize(folder / "o.csv.part")
    process.send_signal(kind)
    _, said = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, "", said)


@pytest.mark.parametrize("size", [1, 1500])
def test_a_killed_run_goes_on_to_the_same_bytes(many: Path, run: Run, size: int) -> None:
    """'Running the same command again continues' after ``kill -9``: with the header there, or with rows."""
    assert stop(many, size, signal.SIGKILL).returncode == -signal.SIGKILL
    assert not (many / "o.csv").exists()
    kept = json.loads(run(many, "--json").stdout)["kept_files"]
    assert kept >= (16 if size > 1 else 0)
    assert (many / "o.csv").read_bytes() == (many / "whole.csv").read_bytes()
    (many / "o.csv").unlink()


@pytest.mark.parametrize(("kind", "typed"), [(signal.SIGINT, ()), (signal.SIGTERM, ("--restart", "--jobs", "1"))])
def test_an_interrupted_run_says_how_to_continue(many: Path, kind: signal.Signals, typed: tuple[str, ...]) -> None:
    """Exit 130 with a command that goes on, and does not begin anew as the one typed would."""
    stopped = stop(many, 1000, kind, *typed)
    assert stopped.returncode == 130, stopped.stderr
    kept = len((many / "o.csv.part").read_bytes().splitlines()) - 1
    counted = int(stopped.stderr.partition("after ")[2].partition(" ")[0])
    assert counted in (kept, kept - 8)  # the signal may come between writing a batch and counting it
    words = shlex.join(["gendercls", *RUN, *(word for word in typed if word != "--restart")])
    assert stopped.stderr == (
        f"Error: interrupted after {counted} files; their rows are kept\n"
        "  where: o.csv.part\n"
        f"  do:    continue with: {words}\n"
    )
    command = [sys.executable, "-m", *shlex.split(stopped.stderr.partition("continue with: ")[2]), "--json"]
    done = subprocess.run(command, cwd=many, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kept_files"] == kept - 1
    assert (many / "o.csv").read_bytes() == (many / "whole.csv").read_bytes()
    (many / "o.csv").unlink()


def test_ctrl_c_before_the_first_photo_is_an_interrupted_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while the model is opened the exit status is 130, not click's 1."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("gendercls.classify.run.classify", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["classify", "photos", "--out", "o.csv"])
    assert (caught.value.code, capsys.readouterr().err) == (130, "Error: interrupted\n")


def test_a_full_disk_loses_nothing(many: Path, run: Run) -> None:
    """The message says what to mend, and the same command goes on; here a limit on the size of files stands for it."""
    limited = f"ulimit -f 2; exec {shlex.join([sys.executable, '-m', 'gendercls', *RUN])}"
    full = subprocess.run(["bash", "-c", limited], cwd=many, capture_output=True, text=True, check=False)
    assert (full.returncode, full.stderr) == (
        1,
        "Error: the output cannot be written: File too large\n"
        "  where: o.csv.part\n"
        "  do:    mend that (free some disk, or make the folder writable) and repeat the command: it continues\n",
    )
    assert json.loads(run(many, "--json").stdout)["kept_files"] > 0
    assert (many / "o.csv").read_bytes() == (many / "whole.csv").read_bytes()
    (many / "o.csv").unlink()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "added": (
        lambda photos: shutil.copy(photos / "000001.jpg", photos / "000001b.jpg"),
        "000002.jpg was next among the rows; 000001b.jpg comes there now",
    ),
    "removed": (
        lambda photos: (photos / "000003.jpg").unlink(),
        "000003.jpg was next among the rows; 000004.jpg comes there now",
    ),
    "renamed": (
        lambda photos: (photos / "000002.jpg").rename(photos / "z.jpg"),
        "000002.jpg was next among the rows; 000003.jpg comes there now",
    ),
    "all but one gone": (
        lambda photos: [photo.unlink() for photo in photos.rglob("*.*") if photo.name != "000001.jpg"],
        "000002.jpg was next among the rows; the listing ends there",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_photos_are_refused(copy: Path, run: Run, change: str) -> None:
    """'The first photo that differs from the rows ends it with that photo's name', and the rows stay."""
    unfinish(copy, keep=6)
    before = (copy / "o.csv.part").read_bytes()
    CHANGES[change][0](copy / "photos")
    assert run(copy, status=1).stderr == (
        "Error: the photos are not those the run was begun with\n"
        f"  where: {CHANGES[change][1]}\n"
        "  do:    put the photos back as they were, or repeat with --restart to begin anew\n"
    )
    assert (copy / "o.csv.part").read_bytes() == before


def test_other_options_are_refused_until_restart(finished: Path, copy: Path, run: Run) -> None:
    """'So do other options or another model'; ``--restart`` begins anew."""
    unfinish(copy, keep=6)
    assert run(copy, "--limit", 5, status=1).stderr == (
        "Error: o.csv was begun with another limit; going on would mix the answers of two\n"
        "  where: o.csv.run.json has none, this run has 5\n"
        "  do:    repeat the command as it was to continue, or with --restart to begin anew\n"
    )
    run(copy, "--limit", 5, "--restart")
    assert (copy / "o.csv").read_bytes().splitlines() == (finished / "o.csv").read_bytes().splitlines()[:6]


# --- retrying ---------------------------------------------------------------------------------------------------


def test_retry_failed_redoes_only_what_failed(finished: Path, copy: Path, run: Run, celeba: Path) -> None:
    """On a finished file: the mended photo gets its answer, and no other row changes even where its photo did."""
    shutil.copy(celeba / "img_align_celeba" / "000005.jpg", copy / "photos")
    shutil.copy(copy / "photos" / "000001.jpg", copy / "photos" / "000002.jpg")
    done = run(copy, "--retry-failed", "--json")
    before, after = ((folder / "o.csv").read_bytes().splitlines() for folder in (finished, copy))
    assert [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [5]
    assert re.fullmatch(rb"000005\.jpg,(fe)?male,0\.\d{6},0\.\d{6},0\.\d{6},", after[5])
    assert "retried what had failed: 1 of 1 have an answer now\n" in done.stderr
    assert (json.loads(done.stdout)["failed"], json.loads(done.stdout)["kept_files"]) == (0, 21)


def test_retry_failed_of_an_unfinished_run(finished: Path, copy: Path, run: Run, celeba: Path) -> None:
    """The part's failed rows are redone, it says that the run is not finished, and the run still goes on."""
    unfinish(copy, keep=6)
    shutil.copy(celeba / "img_align_celeba" / "000005.jpg", copy / "photos")
    said = run(copy, "--retry-failed").stderr
    assert "the run itself is not finished: repeat the command without --retry-failed to continue\n" in said
    assert not (copy / "o.csv").exists()
    run(copy)
    expected = (finished / "o.csv").read_bytes().splitlines()
    found = (copy / "o.csv").read_bytes().splitlines()
    assert [line for line in found if not line.startswith(b"000005")] == expected[:5] + expected[6:]
    assert found[5].endswith(b",")


def test_a_retry_counts_each_label_once(copy: Path, run: Run, celeba: Path) -> None:
    """The summary of a retry is that of the whole CSV."""
    whole = json.loads(run(copy, "--force", "--labels", celeba, "--json").stdout)
    again = json.loads(run(copy, "--retry-failed", "--labels", celeba, "--json").stdout)
    for summary in (whole, again):
        for key in ("kept_files", "seconds", "photos_per_second", "unfamiliar"):  # of one run alone
            del summary[key]
    assert again == whole


def without_last_row(content: bytes) -> bytes:
    return content[: content.rindex(b"\n", 0, -1) + 1]


@pytest.mark.parametrize(
    ("cut", "what", "where"),
    [
        (without_last_row, "the listing has more photos than the CSV has rows", "o.csv ends before notes.txt"),
        (lambda content: content[:-1], "the CSV is cut off within its last row", "o.csv"),
        (lambda content: content[:-9], "the CSV is cut off within its last row", "o.csv"),
    ],
)
def test_a_finished_csv_that_lost_its_end_is_not_retried(
    copy: Path, run: Run, cut: Callable[[bytes], bytes], what: str, where: str
) -> None:
    """Cut between two rows or within one: it stays as it is."""
    left = cut((copy / "o.csv").read_bytes())
    (copy / "o.csv").write_bytes(left)
    said = run(copy, "--retry-failed", status=1).stderr
    assert said.startswith(f"Error: {what}\n  where: {where}\n  do:    ")
    assert said.endswith("repeat with --force instead of --retry-failed to begin anew\n")
    assert (copy / "o.csv").read_bytes() == left
    run(copy, "--force")


@pytest.mark.parametrize("more", [("--limit", 8), ("--split", "test"), ("--split", "test", "--limit", 2)])
def test_what_a_run_left_out_has_no_rows_to_retry(copy: Path, run: Run, more: tuple[object, ...]) -> None:
    """Photos of another part, or beyond the limit, are no rows that were lost."""
    names = [f"{number:06}.jpg" for number in range(1, 13)]
    parts = "".join(f"{name},1,{('train', 'test')[number % 2]}\n" for number, name in enumerate(names))
    (copy / "labels.csv").write_text(f"path,Male,split\n{parts}")
    labels = () if "--split" not in more else ("--labels", "labels.csv")
    run(copy, "--force", *labels, *more)
    whole = (copy / "o.csv").read_bytes()
    run(copy, "--retry-failed", *labels, *more)
    assert (copy / "o.csv").read_bytes() == whole
    (copy / "o.csv").write_bytes(without_last_row(whole))
    said = run(copy, "--retry-failed", *labels, *more, status=1).stderr
    assert "the listing has more photos than the CSV has rows" in said


@pytest.mark.parametrize("other", ["--restart", "--force"])
def test_a_retry_replaces_nothing_else(copy: Path, run_gendercls: Run, other: str) -> None:
    """What would begin anew is no retry: neither is silently ignored."""
    before = (copy / "o.csv").read_bytes()
    done = run_gendercls(*RUN, "--retry-failed", other, cwd=copy)
    assert (done.returncode, done.stderr) == (
        2,
        f"Error: {other} and --retry-failed ask for different things\n  where: --retry-failed {other}\n"
        "  do:    leave out one: --retry-failed keeps all rows but the failed ones\n",
    )
    assert (copy / "o.csv").read_bytes() == before
