"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gendercls.errors import OutputError
from gendercls.wholefile import check_free, mode_of_next, whole_file


def test_the_old_content_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    """A pipe or a device, such as /dev/null, would be a file afterwards."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"^the output is a device or a pipe, which no file may replace\n"):
        check_free(tmp_path / "pipe", "page.html", force=True)


def test_what_raises_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")

    def write_half() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_check_sees_all_that_was_written_and_may_refuse_it(tmp_path: Path) -> None:
    path, seen = tmp_path / "model.onnx", []

    def refuse(written: Path) -> None:
        seen.append(written.read_bytes())
        raise ValueError("not sound")

    with pytest.raises(ValueError, match="not sound"), whole_file(path, refuse) as file:
        file.write(b"x" * 100_000)
    assert seen == [b"x" * 100_000]
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_keeps_its_name(tmp_path: Path) -> None:
    """A FIFO is not replaced, and nothing is left beside it."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="it is no file"), whole_file(tmp_path / "fifo") as file:
        file.write(b"new")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert list(tmp_path.iterdir()) == [tmp_path / "fifo"]


@pytest.mark.parametrize("name", ["null", "stdout"])
def test_a_name_of_the_system_is_never_taken(name: str) -> None:
    """Not even where it leads to a file, as ``/dev/stdout`` may; root could replace it for all."""
    with pytest.raises(OSError, match="it is no file"):
        mode_of_next(Path("/dev") / name)
