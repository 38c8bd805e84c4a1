"""Loss of power: what a disk may hold that was told to write in this order, and whether the command goes on from it.

The system calls of an undisturbed run are recorded. A disk that loses power after one of them holds for certain what
fsync had been told of before: a file's bytes, a folder's names. Of names given since, it may hold any first few. Of
bytes written since, a file may have got its new length and each sector of 512 bytes or not; what is missing is zeros.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from fault_bench import Bench, CannotBeCausedError

SECTOR = 512
DRAWS = 10
CALLS = "openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"

_LINE = re.compile(r"(?P<time>\d+\.\d+) (?P<call>\w+)\((?P<words>.*)\) += (?P<result>\d+)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_OPENED = re.compile(r"\d+<([^>]*)>")
_TEXT = re.compile(r'"([^"]*)"')


@dataclass
class File:
    """Bytes as the process wrote them, and how many of them fsync was told of."""

    content: bytearray = field(default_factory=bytearray)
    safe: int = 0


Names = dict[str, File]


class Folder:
    """What a process sees of the output's folder, and how its names came about since fsync was told of them."""

    def __init__(self) -> None:
        self.safe: Names = {}
        self.since: list[Names] = []

    @property
    def names(self) -> Names:
        return self.since[-1] if self.since else self.safe

    def rename(self, old: str, new: str | None) -> None:
        names = dict(self.names)
        moved = names.pop(old)
        if new is not None:
            names[new] = moved
        self.since.append(names)

    def create(self, name: str) -> None:
        if name not in self.names:
            self.since.append(self.names | {name: File()})

    def sync(self) -> None:
        self.safe, self.since = self.names, []


def power_lost(bench: Bench, times: int) -> None:
    """power lost after a random write, each sector since the last fsync written or not"""
    calls = recorded(bench)
    for _ in range(times * DRAWS):
        folder = Folder()
        for call, words, content in calls[: bench.moments.randrange(len(calls) + 1)]:
            replay(folder, call, words, content)
        bench.clean()
        names = bench.moments.choice([folder.safe, *folder.since])
        for name, file in names.items():
            (bench.out.parent / name).write_bytes(left_of(file, bench))
        if not bench.out.exists():
            bench.finish_or_begin_anew()
        bench.judge()


Call = tuple[str, list[str], bytes]


def recorded(bench: Bench) -> list[Call]:
    """The calls of an undisturbed run that touch the output's folder, in order: name, files in it, what is written.

    Of ftruncate the latter is the length.
    """
    bench.clean()
    place = bench.scratch / "calls"
    place.mkdir(exist_ok=True)
    words = ["strace", "-ff", "-ttt", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-e", "signal=none"]
    try:
        done = subprocess.run([*words, "-o", place / "of", *bench.words()], capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotBeCausedError("there is no strace") from None
    if done.returncode != 0:
        raise CannotBeCausedError(f"strace: {done.stderr.strip().splitlines()[-1]}")
    lines = [line for path in place.iterdir() for line in path.read_text().splitlines()]
    found = [match for line in lines if (match := _LINE.match(line))]
    folder = str(bench.out.parent)
    calls = [parsed(match, folder) for match in sorted(found, key=lambda match: float(match["time"]))]
    return [call for call in calls if call is not None]


def parsed(match: re.Match[str], folder: str) -> Call | None:
    call, words = match["call"], match["words"]
    opened, texts = _OPENED.search(words), [unhex(text) for text in _TEXT.findall(words)]
    if call in ("write", "pwrite64", "ftruncate", "fsync", "fdatasync"):
        paths, content = [unhex(opened[1]).decode()] if opened else [], texts[0] if texts else b""
    else:
        paths, content = [text.decode() for text in texts], b""
        if call == "openat" and "O_CREAT" not in words:
            return None
    if not paths or not all(path == folder or Path(path).parent == Path(folder) for path in paths):
        return None
    names = ["" if path == folder else Path(path).name for path in paths]
    if call == "ftruncate":
        content = words.rpartition(", ")[2].encode()
    return call, names, content[: int(match["result"])] if call == "write" else content


def unhex(text: str) -> bytes:
    return _HEX.sub(lambda run: bytes.fromhex(run[0].replace("\\x", "")).decode("latin-1"), text).encode("latin-1")


def replay(folder: Folder, call: str, names: list[str], content: bytes) -> None:
    match call, names:
        case "openat", [name]:
            folder.create(name)
        case "write", [name]:
            folder.names[name].content += content
        case "ftruncate", [name] if int(content) == len(folder.names[name].content):
            pass
        case "fsync" | "fdatasync", [""]:
            folder.sync()
        case "fsync" | "fdatasync", [name]:
            folder.names[name].safe = len(folder.names[name].content)
        case "rename" | "renameat" | "renameat2", [old, new]:
            folder.rename(old, new)
        case "unlink" | "unlinkat", [name]:
            folder.rename(name, None)
        case _:
            raise AssertionError(f"{call} of {names} is not modelled")


def left_of(file: File, bench: Bench) -> bytes:
    """What the disk may hold of a file: all that is safe; of the rest a new length, and of its sectors any."""
    moments = bench.moments
    length = moments.randint(file.safe, len(file.content))
    kept = bytearray(file.content[:length])
    likely = moments.choice([0.0, 0.5, 0.9, 1.0])
    begin = file.safe
    while begin < length:
        end = min(length, (begin // SECTOR + 1) * SECTOR)
        if moments.random() > likely:
            kept[begin:end] = bytes(end - begin)
        begin = end
    return bytes(kept)
