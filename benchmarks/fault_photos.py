"""Faults of the photos: they cannot be read, or are others than when they were listed."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fault_bench import Bench, CannotBeCausedError, rows


def read_error(bench: Bench, times: int) -> None:
    """a read error (EIO) on one photo, then `--retry-failed`"""
    read_fails(bench, times, errno.EIO, "cannot be read: Input/output error")


def hanging_read(bench: Bench, times: int) -> None:
    """a read that never ends, then `--retry-failed`"""
    read_fails(bench, min(times, 3), 0, "took more than 1 s")


def read_fails(bench: Bench, times: int, error: int, reason: str) -> None:
    names = sorted(path.name for path in bench.photos.iterdir())
    for _ in range(times):
        bench.clean()
        hit = bench.moments.choice(names)
        bench.finish("--photo-timeout", "1", env=bench.preloaded(read=f"/{hit}", error=error))
        found = rows(bench.out.read_bytes())
        bench.wrong += found[hit][-1] != reason
        bench.wrong += sum(found[key] != row for key, row in rows(bench.reference).items() if key != hit)
        bench.finish("--retry-failed")
        bench.judge()


def meanwhile(change: Callable[[Path, Path], None], what: str) -> Callable[[Bench, int], None]:
    """A fault that changes some photos while the run goes on. change: of a photo, given another one."""

    def cause(bench: Bench, times: int) -> None:
        kept = bench.scratch / "kept"
        for _ in range(times):
            bench.clean()
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(bench.photos, kept)
            photos = sorted(bench.photos.iterdir())
            hit = bench.moments.sample(photos[len(photos) // 2 :], 5)
            process = bench.start()
            bench.until_rows(process)  # the photos are listed, and these are still to come
            try:
                for path in hit:
                    change(path, kept / hit[0].name)
            except CannotBeCausedError:
                process.kill()
                process.communicate()
                raise
            bench.end_well(process)
            bench.judge(frozenset(path.name for path in hit))
            for path in hit:
                with suppress(OSError):
                    path.chmod(0o600)
                    path.unlink()
                shutil.copy2(kept / path.name, path)

    cause.__doc__ = what
    return cause


def remove(path: Path, _: Path) -> None:
    path.unlink()


def grow(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(100_000))


def shorten(path: Path, _: Path) -> None:
    os.truncate(path, 100)


def replace(path: Path, other: Path) -> None:
    fresh = path.with_name(".fresh")
    shutil.copy(other, fresh)
    fresh.replace(path)


def forbid(path: Path, _: Path) -> None:
    if os.geteuid() == 0:
        raise CannotBeCausedError("root may read everything")
    path.chmod(0)


@contextmanager
def more_photos(bench: Bench) -> Iterator[Path]:
    """A folder that comes last among the photos, and is gone afterwards."""
    place = bench.photos / "zz"
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def judge_without_more(bench: Bench) -> None:
    """As `Bench.judge`, but for the rows of that folder."""
    content = bench.out.read_bytes()
    bench.out.write_bytes(b"".join(line for line in content.splitlines(True) if not line.startswith(b"zz")))
    bench.judge()


def folder_of_photos_vanishes(bench: Bench, times: int) -> None:
    """a folder of photos vanishes before it is listed"""
    for _ in range(times):
        bench.clean()
        with more_photos(bench) as place:
            shutil.copy(next(path for path in bench.photos.iterdir() if path.is_file()), place)
            process = bench.start()
            bench.until_rows(process)
            shutil.rmtree(place)
            bench.end_well(process)
        found = {key: row for key, row in rows(bench.out.read_bytes()).items() if key.startswith("zz")}
        bench.lost += not found
        bench.wrong += list(found) == ["zz"] and "cannot be listed" not in found["zz"][-1]
        judge_without_more(bench)


def folder_of_photos_appears(bench: Bench, times: int) -> None:
    """a folder of photos appears; killed; the repeated command names it, and goes on once it is gone"""
    for _ in range(times):
        bench.clean()
        process = bench.start()
        bench.until_rows(process)
        process.kill()
        process.communicate()
        first = bench.photos / "!first"
        first.mkdir()
        shutil.copy(next(path for path in bench.photos.iterdir() if path.is_file()), first)
        again = bench.start()
        _, said = again.communicate()
        bench.wrong += not bench.out.exists() and (again.returncode != 1 or b"!first" not in said)
        shutil.rmtree(first)
        if not bench.out.exists():
            bench.finish()
        bench.judge()


def odd_files(bench: Bench, times: int) -> None:
    """a FIFO, a socket, a device and a file of /proc among the photos"""
    for _ in range(times):
        bench.clean()
        with more_photos(bench) as place, socket.socket(socket.AF_UNIX) as server:
            os.mkfifo(place / "fifo.jpg")
            server.bind(str(place / "socket.jpg"))
            (place / "null.jpg").symlink_to("/dev/null")
            (place / "maps.jpg").symlink_to("/proc/self/maps")
            bench.finish()
        found = rows(bench.out.read_bytes())
        bench.lost += sum(f"zz/{name}.jpg" not in found for name in ("fifo", "socket", "null", "maps"))
        bench.wrong += sum(1 for key, row in found.items() if key.startswith("zz/") and row[0] + row[1])
        judge_without_more(bench)


PHOTO_FAULTS: tuple[Callable[[Bench, int], None], ...] = (
    read_error,
    hanging_read,
    meanwhile(remove, "5 photos removed while the run goes on"),
    meanwhile(replace, "5 photos replaced by another"),
    meanwhile(grow, "5 photos growing"),
    meanwhile(shorten, "5 photos cut to 100 bytes"),
    meanwhile(forbid, "5 photos forbidden to be read"),
    folder_of_photos_vanishes,
    folder_of_photos_appears,
    odd_files,
)
