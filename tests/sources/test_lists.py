"""Photos that a text names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.errors import GenderclsError, UsageError
from gendercls.sources import Listing

LINES = st.lists(st.binary(min_size=1, max_size=300).filter(lambda line: not set(line) & set(b"\0\r\n")), max_size=20)


def keys(argument: str) -> list[str]:
    """The listing's keys."""
    return [photo.key for photo in Listing([argument])]


@settings(max_examples=100, deadline=None)
@given(lines=LINES, separator=st.sampled_from([b"\n", b"\0", b"\r\n"]), is_ended=st.booleans())
def test_each_line_is_a_photo(lines: list[bytes], separator: bytes, is_ended: bool) -> None:
    # A list of one path that no NUL follows is taken for a line, which it is.
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(separator.join(lines) + (separator if is_ended and lines else b""))
        file.flush()
        assert keys(f"@{file.name}") == [line.decode("utf-8", "backslashreplace") for line in lines]


def test_a_list_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    paths = [f"{number:040}.jpg" for number in range(100_000)]
    (tmp_path / "l.txt").write_text("\n".join(paths), encoding="utf-8")
    assert keys(f"@{tmp_path / 'l.txt'}") == paths
    (tmp_path / "l.txt").write_text("\0".join(paths) + "\0", encoding="utf-8")
    assert keys(f"@{tmp_path / 'l.txt'}") == paths


@pytest.mark.parametrize("content", [b"x" * 3_000_000, b"a.jpg\n" + b"x" * 200_000 + b"\nb.jpg"])
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(GenderclsError, match="this is no list of paths"):
        keys(f"@{tmp_path / 'l.txt'}")


def test_a_list_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(GenderclsError, match="the list cannot be read: No such file") as caught:
        Listing([f"@{tmp_path / 'none.txt'}"])
    assert "@ before it means a list" in caught.value.do


def test_lists_of_the_same_file_overlap(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a.jpg\n", encoding="utf-8")
    with pytest.raises(UsageError, match="overlap"):
        Listing([f"@{tmp_path / 'l.txt'}", f"@{tmp_path}/./l.txt"])


COUNT = (
    "from gendercls import process; from gendercls.sources import Listing; process.hold_input(['@-']);"
    "listing = Listing(['@-']); print([photo.key for photo in listing] == [photo.key for photo in listing],"
    "sum(1 for _ in listing))"
)


def count(**given: object) -> str:
    """How many photos a list has that a process gets as its standard input, and whether it has them twice."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=False, **given)  # type: ignore[call-overload]
    return done.stdout + done.stderr


def test_what_is_piped_in_can_be_read_again(tmp_path: Path) -> None:
    text = "".join(f"{number}.jpg\n" for number in range(300_000))
    assert count(input=text) == "True 300000\n"
    (tmp_path / "l.txt").write_text(text, encoding="utf-8")
    with (tmp_path / "l.txt").open() as file:
        assert count(stdin=file) == "True 300000\n"


def test_a_terminal_is_no_list(run_on_terminal: object) -> None:
    status, said = run_on_terminal("classify", "@-", "--out", os.devnull + "x")  # type: ignore[operator]
    assert status == 2
    assert "@- is a list that is piped in, and nothing is" in said
