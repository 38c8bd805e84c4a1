"""Where photos come from: every file once, in one order, whatever the folders hold."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.errors import GenderclsError, NotAPhotoError, PhotoError, UsageError
from gendercls.sources import MAX_BYTES, Listing, PhotoFile

# The neighbours of "/" in byte order, a hidden one and bytes that are not UTF-8.
NAMES = st.lists(st.sampled_from([b"a", b"!", b"-", b".", b"0", b"\xff"]), min_size=1, max_size=3).map(b"".join)
PATHS = st.lists(NAMES.filter(lambda name: name.strip(b".")), min_size=1, max_size=4).map(b"/".join)


def plant(root: Path, *paths: str | bytes) -> Path:
    """Empty files at these paths below root, their folders made."""
    for path in paths:
        place = os.path.join(os.fsencode(root), os.fsencode(path))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(os.fsdecode(place)).touch()
    return root


def keys(*arguments: Path | str, leave_out: tuple[Path, ...] = ()) -> list[str]:
    """The listing's keys, in its order."""
    return [photo.key for photo in Listing([str(argument) for argument in arguments], leave_out)]


def refusal(path: Path) -> str:
    """Why the file gives no bytes."""
    with pytest.raises(PhotoError) as caught:
        PhotoFile(path.name, os.fsencode(path)).read()
    return str(caught.value)


@pytest.fixture
def pit(tmp_path: Path) -> Iterator[Path]:
    """A folder to dig deep in; removed by a tool that does not recurse in Python, as pytest would."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def dig(folder: Path, levels: int) -> int:
    """That many folders ``d`` within each other, deeper than a path can name; a descriptor of the last one."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=place)
        above, place = place, os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(above)
    return place


# --- order ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.sets(PATHS, min_size=1, max_size=10))
def test_order_is_that_of_the_raw_paths(paths: set[bytes]) -> None:
    """Arguments come in the order typed, 'within each plain byte order of the raw path'; hidden ones are left out."""
    files = {path for path in paths if not any(other.startswith(path + b"/") for other in paths)}
    seen = [path for path in files if not any(part.startswith(b".") for part in path.split(b"/"))]
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder), *files)
        assert keys(folder) == [path.decode("utf-8", "backslashreplace") for path in sorted(seen)]


def test_a_folder_sorts_as_if_it_ended_in_a_slash(tmp_path: Path) -> None:
    """Names that differ around ``/`` (0x2f) stand where their whole path does, not where the folder's name would."""
    plant(tmp_path, "a/b.jpg", "a!", "a-/x", "a.jpg", "a0", "Z")
    assert keys(tmp_path) == ["Z", "a!", "a-/x", "a.jpg", "a/b.jpg", "a0"]


def test_several_arguments_keep_their_order_and_their_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each path begins with the argument as typed, whatever slashes end it."""
    plant(tmp_path, "b/2.jpg", "b/1.jpg", "a/x/3.jpg", "one.jpg")
    monkeypatch.chdir(tmp_path)
    assert keys("b/", "./one.jpg", "a") == ["b/1.jpg", "b/2.jpg", "./one.jpg", "a/x/3.jpg"]


@pytest.mark.parametrize("typed", ["a", "a/", "./a//", "../{name}/a"])
def test_one_folder_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Where one folder is named, a path begins below it."""
    monkeypatch.chdir(plant(tmp_path, "a/x/1.jpg", "a/2.jpg"))
    assert keys(typed.format(name=tmp_path.name)) == ["2.jpg", "x/1.jpg"]


def test_one_file_is_called_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named itself is listed, hidden or not."""
    monkeypatch.chdir(plant(tmp_path, "a/.hidden.jpg"))
    assert keys("a/.hidden.jpg") == ["a/.hidden.jpg"]


# --- what is listed ---------------------------------------------------------------------------------------------


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    """Whatever begins with a dot is not listed, nor what lies below it."""
    assert keys(plant(tmp_path, ".DS_Store", ".git/a.jpg", "b/.c/d.jpg", "b/e.jpg")) == ["b/e.jpg"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    """A link to a file is a photo like any other; a link to a folder would list photos twice, or for ever."""
    plant(tmp_path, "real/a.jpg", "outside/b.jpg")
    (tmp_path / "real" / "link.jpg").symlink_to(tmp_path / "outside" / "b.jpg")
    (tmp_path / "real" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "real")
    assert keys(tmp_path / "real") == ["a.jpg", "link.jpg"]


@pytest.mark.parametrize(
    ("target", "reason"), [("gone.jpg", "No such file or directory"), ("l.jpg", "Too many levels of symbolic links")]
)
def test_a_link_that_leads_nowhere_is_a_row(tmp_path: Path, target: str, reason: str) -> None:
    """A broken link and one that points at itself are listed, and reading them says why they cannot be read."""
    link = tmp_path / "l.jpg"
    link.symlink_to(target)
    assert keys(tmp_path) == ["l.jpg"]
    assert refusal(link) == f"cannot be read: {reason}"


def test_an_argument_that_is_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    """The person named it, so it is meant; the run's own files are known through it too."""
    plant(tmp_path, "real/a.jpg", "real/preds.csv")
    (tmp_path / "link").symlink_to("real")
    assert keys(tmp_path / "link", leave_out=(tmp_path / "real" / "preds.csv",)) == ["a.jpg"]


@pytest.mark.parametrize("place", ["", "b/", "b/c/"])
def test_the_runs_own_files_are_left_out_and_nothing_else(tmp_path: Path, place: str) -> None:
    """An output among the photos is no input; a photo whose name only begins like it, or lies elsewhere, is one."""
    plant(tmp_path, f"{place}o.csv", f"{place}o.csv.part", f"{place}o.csv.jpg", "z/o.csv", f"{place}other.csv")
    own = (tmp_path / place / "o.csv", tmp_path / place / "o.csv.part")
    assert keys(tmp_path, leave_out=own) == [f"{place}o.csv.jpg", f"{place}other.csv", "z/o.csv"]


def test_names_that_are_not_utf8_are_written_with_their_bytes(tmp_path: Path) -> None:
    r"""Bytes that are not UTF-8 become ``\xNN``, and the file is still found by its raw name."""
    plant(tmp_path, b"caf\xe9.jpg", "café.jpg")
    photos = list(Listing([str(tmp_path)]))
    assert [photo.key for photo in photos] == ["café.jpg", "caf\\xe9.jpg"]
    assert [photo.read() for photo in photos] == [b"", b""]


def test_a_tree_2000_levels_deep_is_listed(pit: Path) -> None:
    """Neither recursion nor time breaks on depth: the file at the bottom is there, and can be read."""
    levels = min(2000, (4095 - len(os.fsencode(pit)) - len("/x.jpg")) // 2)
    bottom = dig(pit, levels)
    os.close(os.open("x.jpg", os.O_CREAT, dir_fd=bottom))
    os.close(bottom)
    photos = list(Listing([str(pit)]))
    assert [photo.key for photo in photos] == ["d/" * levels + "x.jpg"]
    assert photos[0].read() == b""


def test_a_folder_that_cannot_be_listed_is_a_row(pit: Path) -> None:
    """Nobody knows what it holds, so it is neither passed over nor the end of the run; here its path is too long."""
    plant(pit, "e.jpg")
    os.close(dig(pit, 2100))
    folder, photo = Listing([str(pit)])
    assert folder.key == "d/" * (folder.key.count("/")) + "d"
    assert photo.key == "e.jpg"
    with pytest.raises(PhotoError) as caught:
        folder.read()
    assert str(caught.value) == "folder cannot be listed: File name too long"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_a_row(tmp_path: Path) -> None:
    """Its reason is the system's."""
    plant(tmp_path, "shut/a.jpg")
    (tmp_path / "shut").chmod(0)
    (folder,) = Listing([str(tmp_path)])
    with pytest.raises(PhotoError) as caught:
        folder.read()
    (tmp_path / "shut").chmod(0o700)
    assert (folder.key, str(caught.value)) == ("shut", "folder cannot be listed: Permission denied")


# --- reading ----------------------------------------------------------------------------------------------------


def test_a_pipe_that_nobody_feeds_does_not_hold_the_run(tmp_path: Path) -> None:
    """A FIFO is listed and is no photo."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (photo,) = Listing([str(tmp_path)])
    with pytest.raises(NotAPhotoError):
        photo.read()


def test_a_socket_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system will not open says so."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert keys(".") == ["s.jpg"]
        assert refusal(tmp_path / "s.jpg") == "cannot be read: No such device or address"


@pytest.mark.parametrize(
    ("name", "reason"), [("film.mkv", "not a photo"), ("scan.tif", f"larger than {MAX_BYTES // 1024**2} MB")]
)
def test_a_huge_file_is_not_read(tmp_path: Path, name: str, reason: str) -> None:
    """Above the bound a film is no photo, and a photo has failed."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert refusal(tmp_path / name) == reason


def test_a_path_that_no_system_takes_is_a_reason(tmp_path: Path) -> None:
    """A NUL in a path, which only Python can give, is no traceback."""
    assert refusal(tmp_path / "a\0b.jpg") == "cannot be read: its path holds a NUL"


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ("a a", "a and a"),
        ("a a/c", "a and a/c"),
        ("a/c a", "a and a/c"),
        ("a a!b a/c", "a and a/c"),
        ("a a/c/x.jpg", "a and a/c/x.jpg"),
        ("link a/c", "link and a/c"),
        (". a!b", ". and a!b"),
    ],
)
def test_overlapping_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, where: str
) -> None:
    """A photo that two arguments reach would be counted twice, also where other names sort between them."""
    monkeypatch.chdir(plant(tmp_path, "a/c/x.jpg", "a!b/y.jpg"))
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(UsageError) as caught:
        Listing(arguments.split())
    assert str(caught.value) == (
        "two of the arguments overlap, so photos would be counted twice\n"
        f"  where: {where}\n"
        "  do:    name each folder once"
    )


def test_neighbours_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that only begin alike are two folders."""
    monkeypatch.chdir(plant(tmp_path, "a/c/1", "a/d/2", "a!b/3", "ab/4"))
    assert keys("ab", "a/d", "a!b", "a/c") == ["ab/4", "a/d/2", "a!b/3", "a/c/1"]


@pytest.mark.parametrize("name", ["gone", "dangling"])
def test_an_argument_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """So that a misspelt folder is no empty result."""
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("nothing")
    with pytest.raises(GenderclsError) as caught:
        Listing([name])
    assert str(caught.value) == f"no such file or folder\n  where: {name}\n  do:    check the path"
