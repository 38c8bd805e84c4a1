"""Label files that are no text, or more of it than anybody needs: refused soon, and with little memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gendercls.errors import LabelError
from gendercls.labels import read_labels


def refusal(path: Path) -> str:
    """What reading says, with the test's folder cut off."""
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("name", "rows"), [("labels.csv", b"path,age\n1.jpg,30\n"), ("list_attr_celeba.txt", b"1\nMale\n")]
)
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, name: str, rows: bytes) -> None:
    """A label file that is not UTF-8 is said to be so, with the line of the first bad byte."""
    (tmp_path / name).write_bytes(rows + "ü.jpg,1\n".encode("latin-1"))
    assert refusal(tmp_path / name) == f"the label file is not UTF-8\n  where: {name}:3\n  do:    save it as UTF-8"


PACKED = gzip.compress(b"path,Male\n1.jpg,1\n", mtime=0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(PACKED[:-9], "Compressed file ended before the end-of-stream marker was reached", id="cut-off"),
        pytest.param(b"path,Male\n1.jpg,1\n", "Not a gzipped file (b'pa')", id="not-packed"),
        pytest.param(PACKED[:10] + b"\xff" * 20, "Error -3 while decompressing data: invalid block type", id="damaged"),
    ],
)
def test_a_broken_archive_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    """A gzipped label file that is cut off, damaged or none is refused, and not a crash."""
    file = tmp_path / "labels.csv.gz"
    file.write_bytes(data)
    assert refusal(file) == f"the label file cannot be read: {problem}\n  where: labels.csv.gz\n  do:    check the file"


# --- too much of it ---------------------------------------------------------------------------------------------

ROWS = b"path,Male\n1.jpg,1\n"


def sparse(path: Path, content: bytes, size: int) -> None:
    """A file of that length, of which the disk has the beginning alone."""
    path.write_bytes(content)
    os.truncate(path, size)


def bomb(path: Path) -> None:
    """Half a megabyte that unpacks to more than half a gigabyte."""
    path.write_bytes(gzip.compress(ROWS) + gzip.compress(bytes(2**24)) * 33)


LARGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a gigabyte": ("labels.csv", lambda path: sparse(path, ROWS, 2**30), "it has 1,073,741,824 bytes"),
    "a line of a gigabyte": ("labels.csv", lambda path: sparse(path, b"path,", 2**30), "it has 1,073,741,824 bytes"),
    "a terabyte": (
        "list_attr_celeba.txt",
        lambda path: sparse(path, b"1\nMale\n", 2**40),
        "it has 1,099,511,627,776 bytes",
    ),
    "a bomb": ("labels.csv.gz", bomb, "it has more than 268,435,456 bytes when unpacked"),
    "a long line": (
        "labels.csv",
        lambda path: path.write_bytes(ROWS + b"x," * 2**23 + b"x\n"),
        "a line of it has more than 16,777,216 bytes",
    ),
    "a long line, packed": (
        "list_attr_celeba.txt.gz",
        lambda path: path.write_bytes(gzip.compress(b"1\n" + b"a " * 2**23 + b"x\n", 1)),
        "a line of it has more than 16,777,216 bytes",
    ),
    "many lines": (
        "list_attr_celeba.txt",
        lambda path: path.write_bytes(b"1\nMale\n" + b"\n" * 2**24),
        "it has more than 16,777,216 lines",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_file_that_is_too_large_is_refused(tmp_path: Path, case: str) -> None:
    """Within seconds, however it came to be so large."""
    name, write, why = LARGE[case]
    write(tmp_path / name)
    began = time.monotonic()
    assert refusal(tmp_path / name) == (
        f"the label file is too large to be read\n  where: {name}: {why}\n  do:    split it, or leave out rows"
    )
    assert time.monotonic() - began < 10


def test_a_bomb_takes_bounded_memory(tmp_path: Path) -> None:
    """Of a process that may have two gigabytes it leaves enough to say what is wrong."""
    bomb(tmp_path / "labels.csv.gz")
    reads = "import sys, pathlib; from gendercls.labels import read_labels; read_labels(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", reads, tmp_path / "labels.csv.gz"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the label file is too large to be read" in done.stderr
    assert "MemoryError" not in done.stderr


def test_many_fields_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes many times the memory that it takes in the file."""
    monkeypatch.setattr("gendercls.labels.file._MOST_FIELDS", 6)
    file = tmp_path / "labels.csv"
    file.write_text("path,Male\n" + "".join(f"{n}.jpg,1\n" for n in range(3)))
    assert len(read_labels(file)) == 3
    file.write_text("path,Male\n" + "".join(f"{n}.jpg,1\n" for n in range(4)))
    assert "the label file is too large to be read\n  where: labels.csv: it has more than 6 fields" in refusal(file)


@pytest.mark.parametrize(("name", "line"), [("labels.csv", 1), ("list_attr_celeba.txt", 2)])
def test_many_columns_are_refused(tmp_path: Path, name: str, line: int) -> None:
    """Within seconds; every one may become an attribute."""
    names = [f"c{number}" for number in range(500_000)]
    separator = "," if name.endswith("csv") else " "
    rows = separator.join(["1.jpg", *"1" * 499_999])
    (tmp_path / name).write_text(("" if separator == "," else "1\n") + separator.join(names) + f"\n{rows}\n")
    began = time.monotonic()
    assert refusal(tmp_path / name) == (
        f"the label file has 500,000 columns; at most 10,000 are read\n  where: {name}:{line}\n"
        "  do:    leave out those that nobody needs"
    )
    assert time.monotonic() - began < 10


# --- no text ----------------------------------------------------------------------------------------------------


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("labels.csv", ROWS)
    return content.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("zip", zipped()),
        ("gzip", gzip.compress(ROWS)),
        ("bzip2", bz2.compress(ROWS)),
        ("xz", lzma.compress(ROWS)),
        ("zstd", b"\x28\xb5\x2f\xfd\x24"),
        ("7z", b"7z\xbc\xaf\x27\x1c\0\4"),
        ("rar", b"Rar!\x1a\x07\1\0"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
@pytest.mark.parametrize("name", ["labels.csv", "list_attr_celeba.txt"])
def test_a_packed_file_is_named_as_what_it_is(tmp_path: Path, kind: str, content: bytes, name: str) -> None:
    """Whatever its name says; what is gzipped may end in ``.gz``."""
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name) == (
        f"the label file is packed ({kind})\n  where: {name}\n  do:    unpack it, or save it as a CSV"
    )


def test_what_is_packed_twice_is_unpacked_once(tmp_path: Path) -> None:
    """And so a bomb within a bomb is none."""
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress(gzip.compress(ROWS)))
    assert "the label file is packed (gzip)" in refusal(tmp_path / "labels.csv.gz")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """At once: nobody writes to the FIFO, and a device may have no end."""
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    message = "the labels are no file, nor a folder\n  where: {}\n  do:    name a file"
    for name in ("fifo.csv", "zero.csv"):
        assert refusal(tmp_path / name) == message.format(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
        assert "the label file cannot be read: [Errno 6] No such device or address" in refusal(tmp_path / "socket.csv")


def test_a_fifo_ends_the_command(tmp_path: Path, celeba: Path) -> None:
    """It does not wait for somebody to write labels."""
    os.mkfifo(tmp_path / "fifo.csv")
    words = ["classify", celeba / "img_align_celeba", "--limit", "1", "--out", tmp_path / "o.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "gendercls", *words, "--device", "cpu", "--labels", tmp_path / "fifo.csv"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: the labels are no file, nor a folder")


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """A link in a circle, and a name that no file system takes."""
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert refusal(tmp_path / "loop.csv").startswith("no such label file or folder\n")
    assert refusal(tmp_path / ("x" * 5000)).startswith("the labels cannot be read: File name too long\n")
