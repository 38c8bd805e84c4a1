"""Files that appear under their name whole, or not at all; until then they are their owner's alone."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from gendercls.errors import OutputError


def check_free(out: Path, example: str, *, force: bool) -> None:
    """Raises OutputError where no file can get that name, or where one has it that must not be replaced.

    Args: example: a name for the file, for who named a folder. force: whether another file may be replaced.
    """
    if not out.parent.is_dir():
        problem, do = "the output's folder does not exist", "make it, or choose another --out"
    elif out.is_dir():
        problem, do = "the output is a folder", f"name a file in it, as in --out {out / example}"
    elif out.exists() and not out.is_file():
        problem, do = "the output is a device or a pipe, which no file may replace", "choose another --out"
    elif out.exists() and not force:
        problem, do = "the output already exists", "choose another --out, or repeat with --force to replace it"
    else:
        return
    raise OutputError(problem, where=str(out), do=do)


def write_whole(path: Path, content: bytes, option: str = "--out") -> None:
    """The whole file or none: one that has the name stays until the new one is on the disk.

    Args: option: what decides where it is.

    Raises OutputError.
    """
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(
            f"the file cannot be written: {error.strerror}",
            where=str(path),
            do=f"free some disk, make the folder writable, or choose another {option}",
        ) from None


@contextmanager
def whole_file(path: Path, before_naming: Callable[[Path], object] = lambda written: None) -> Iterator[BinaryIO]:
    """A file to write to, beside ``path``, which gets that name in one step once all of it is on the disk.

    Args:
        path: the name; a file that has it stands until it is replaced, also when anything raises.
        before_naming: called with the path of what was written, to check it, or to move away what has the name.

    Raises OSError as open, write and rename do.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)  # what a killed process left
        mode = mode_of_next(path)
        with open_private(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before_naming(temporary)
        publish(temporary, path, mode)
    finally:
        temporary.unlink(missing_ok=True)


def open_private(path: Path, mode: Literal["xb", "x+b"] = "xb") -> BinaryIO:
    """A new file that nobody but its owner may open. Raises FileExistsError where one has the name."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def publish(written: Path, path: Path, mode: int) -> None:
    """Give a private file, which is whole, its mode and its name."""
    if stat.S_IMODE(written.stat().st_mode) != mode:  # a file system without modes refuses to change them
        written.chmod(mode)
    os.replace(written, path)


def is_no_file(path: Path) -> bool:
    """Whether the name is that of a device, a FIFO or a folder, which must not lose it."""
    # What /dev/stdout leads to may be a file, and it still is a name of the system's.
    return (os.path.exists(path) and not os.path.isfile(path)) or os.path.realpath(path.parent) == "/dev"


def mode_of_next(path: Path) -> int:
    """The mode for a file that will get that name: as the one has that it replaces, else as a new one gets there.

    Raises OSError where a file must not replace what has the name.
    """
    if is_no_file(path):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return mode_of_new(path.with_name(path.name + ".tmp"))


def mode_of_new(path: Path) -> int:
    """The mode that a new file gets there, found by making one: the umask decides, or the folder's access list."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        path.unlink()
