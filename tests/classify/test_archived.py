"""``gendercls classify`` over archives, lists and tables: the rows that the same photos have in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]

OPTIONS = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def place(take: Take, run_gendercls: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` (24 good ones, a broken one, a note), the same in archives, and ``folder.csv``."""
    place = tmp_path_factory.mktemp("archived")
    photos = take(place / "photos" / "a", 12) + take(place / "photos" / "b", 13, first=20)
    photos[3].write_bytes(photos[3].read_bytes()[:1500])
    (place / "photos" / "notes.txt").write_text("taken in May", encoding="utf-8")
    files = sorted(path for path in (place / "photos").rglob("*") if path.is_file())
    names = [str(path.relative_to(place / "photos")) for path in files]
    with zipfile.ZipFile(place / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in reversed(list(zip(files, names, strict=True))):
            archive.write(path, name)
    for suffix, mode in {".tar": "w:", ".tar.gz": "w:gz"}.items():
        with tarfile.open(place / f"p{suffix}", mode) as archive:  # type: ignore[call-overload]
            for path, name in zip(files, names, strict=True):
                archive.add(path, name)
    (place / "list.txt").write_text("".join(f"photos/{name}\n" for name in names), encoding="utf-8")
    done = run_gendercls("classify", "photos", "--out", "folder.csv", *OPTIONS, cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def classify(run_gendercls: Run, place: Path, *arguments: str) -> bytes:
    """The CSV of the command over these arguments, the archive's name taken off its keys."""
    (place / "o.csv").unlink(missing_ok=True)
    done = run_gendercls("classify", *arguments, "--out", "o.csv", *OPTIONS, cwd=place)
    assert done.returncode == 0, done.stderr
    return (place / "o.csv").read_bytes()


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_an_archive_has_the_rows_of_the_folder(run_gendercls: Run, place: Path, name: str) -> None:
    written = classify(run_gendercls, place, name)
    assert written.replace(f"{name}!/".encode(), b"") == (place / "folder.csv").read_bytes()
    assert f"\n{name}!/a/000001.jpg,".encode() in written


def test_a_list_has_the_rows_of_the_folder(run_gendercls: Run, place: Path) -> None:
    assert classify(run_gendercls, place, "@list.txt").replace(b"photos/", b"") == (place / "folder.csv").read_bytes()


def test_a_table_has_the_rows_of_the_folder(run_gendercls: Run, place: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    names = [line.removeprefix("photos/") for line in (place / "list.txt").read_text().splitlines()]
    images = [{"bytes": (place / "photos" / name).read_bytes(), "path": name} for name in names]
    parquet.write_table(pa.table({"image": images}), place / "t.parquet")
    written = classify(run_gendercls, place, "t.parquet")
    for number in range(len(names)):
        written = written.replace(f"t.parquet!/{number}/".encode(), b"")
    assert written == (place / "folder.csv").read_bytes()


def test_what_is_piped_in_has_rows_also_after_a_crash(run_gendercls: Run, place: Path, tmp_path: Path) -> None:
    """The guard starts a second process, which reads the list once more."""
    crash = tmp_path / "sitecustomize.py"
    crash.write_text(
        "import os, sys\n"
        "def look(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(\"000022.jpg'\"):\n"
        "        os.abort()\n"
        "sys.addaudithook(look)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "gendercls", "classify", "@-", "--out", str(tmp_path / "o.csv"), *OPTIONS]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (place / "list.txt").open("rb") as listed, subprocess.Popen(["cat"], stdin=listed, stdout=-1) as pipe:
        done = subprocess.run(
            command, stdin=pipe.stdout, cwd=place, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=120
        )
    assert done.returncode == 0
    expected = [
        line if not line.startswith(b"b/000022.jpg") else b"b/000022.jpg,,,,,crashed (SIGABRT)\n"
        for line in (place / "folder.csv").read_bytes().splitlines(keepends=True)
    ]
    assert (tmp_path / "o.csv").read_bytes().replace(b"photos/", b"") == b"".join(expected)


def test_several_arguments_of_all_kinds(run_gendercls: Run, place: Path) -> None:
    """In the order typed; braces stand for several."""
    for number in range(3):
        shutil.copy(place / "p.tar", place / f"s{number}.tar")
    written = classify(run_gendercls, place, "s{0..2}.tar", "photos", "p.zip").decode()
    order = list(dict.fromkeys(line.partition("/")[0] for line in written.splitlines()[1:]))
    assert order == ["s0.tar!", "s1.tar!", "s2.tar!", "photos", "p.zip!"]
    assert written.count("\n") == 1 + 5 * 26


def test_a_run_over_an_archive_continues_after_a_kill(run_gendercls: Run, place: Path) -> None:
    (place / "o.csv").unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "gendercls",
        "classify",
        "p.tar.gz",
        "--out",
        "o.csv",
        "--batch-size",
        "2",
        *OPTIONS,
    ]
    part = place / "o.csv.part"
    with subprocess.Popen(command, cwd=place, start_new_session=True) as process:
        while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 4):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert part.exists()
    done = run_gendercls(*command[3:], cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "o.csv").read_bytes().replace(b"p.tar.gz!/", b"") == (place / "folder.csv").read_bytes()


def test_labels_match_photos_in_an_archive(run_gendercls: Run, place: Path) -> None:
    rows = ["path,Male", *(f"{folder}/{number:06}.jpg,1" for folder, number in (("a", 1), ("b", 21)))]
    (place / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name in ("p.zip", "p.tar.gz"):
        written = classify(run_gendercls, place, name, "--labels", "labels.csv").decode().splitlines()
        labelled = [line.partition(",")[0] for line in written if ",male,1," in line or ",male,0," in line]
        assert labelled == [f"{name}!/a/000001.jpg", f"{name}!/b/000021.jpg"]


def test_verify_reads_an_archive_again(run_gendercls: Run, place: Path) -> None:
    for name in ("p.zip", "p.tar.gz", "@list.txt"):
        classify(run_gendercls, place, name)
        done = run_gendercls("verify", "o.csv", cwd=place)
        assert done.returncode == 0, done.stderr
    assert "26" in done.stderr


def test_failed_photos_of_an_archive_are_retried(run_gendercls: Run, place: Path, tmp_path: Path) -> None:
    """Once its archive was made again; the others are not classified again."""
    names = [line.removeprefix("photos/") for line in (place / "list.txt").read_text().splitlines()]
    broken = names.index("a/000004.jpg")
    for suffix, mode in {".tar": "", ".tar.gz": "gz"}.items():
        archive, out = tmp_path / f"p{suffix}", tmp_path / f"{mode}.csv"
        for number in (1, 4):
            with tarfile.open(archive, f"w:{mode}") as made:  # type: ignore[call-overload]
                for name in names:
                    whole = place / "photos" / ("a/000001.jpg" if name == "a/000004.jpg" and number == 4 else name)
                    made.add(whole, name)
            retry = () if number == 1 else ("--retry-failed",)
            done = run_gendercls("classify", archive, "--out", out, *OPTIONS, *retry, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        rows = out.read_text().splitlines()[1:]
        assert rows[broken].partition(",")[2] == rows[0].partition(",")[2]
        before = (place / "folder.csv").read_text().splitlines()[1:]
        assert [row.replace(f"{archive}!/", "") for row in rows if "000004" not in row] == [
            row for row in before if "000004" not in row
        ]


@pytest.mark.parametrize("name", ["p.zip", "p.tar.gz"])
def test_photos_of_an_archive_are_shown(run_gendercls: Run, place: Path, name: str) -> None:
    classify(run_gendercls, place, name)
    done = run_gendercls("sample", "o.csv", "--n", "10", "--out", "sheet.html", "--force", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "sheet.html").read_text().count("data:image/webp;base64,") == 10
    done = run_gendercls("report", "o.csv", "--photos", ".", "--out", "r.html", "--force", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "r.html").read_text().count("data:image/webp;base64,") == 24
    assert "could not be shown" not in done.stderr


def test_a_sheet_names_what_went_from_its_archive(run_gendercls: Run, place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "p.zip", tmp_path)
    classify(run_gendercls, tmp_path, "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("other.jpg", b"x")
    done = run_gendercls("sample", "o.csv", "--n", "10", "--out", "sheet.html", cwd=tmp_path)
    assert done.returncode == 1
    assert "p.zip!/a/0000" in done.stderr
    assert "is not in its archive any more" in done.stderr
    assert not (tmp_path / "sheet.html").exists()
