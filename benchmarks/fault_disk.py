"""Faults of the disk that rows are written to, and of what is found there afterwards."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable

from fault_bench import Bench, mounted


def file_size_limit(bench: Bench, times: int) -> None:
    """a limit on the size of files"""
    for _ in range(times):
        bench.clean()
        limit = bench.moments.randrange(100, len(bench.reference))
        process = bench.start(before=lambda size=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
        process.communicate()
        bench.wrong += process.returncode != 1
        bench.finish()
        bench.judge()


def disk_full(bench: Bench, times: int) -> None:
    """disk full (a tmpfs of 16 kB)"""
    for _ in range(times):
        bench.clean()
        with mounted(bench.out.parent, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
            process = bench.start()
            process.communicate()
            bench.wrong += process.returncode != 1
            subprocess.run(["mount", "-o", "remount,size=64m", bench.out.parent], check=True)
            bench.finish()
            bench.judge()


def write_fails(error: int, what: str) -> Callable[[Bench, int], None]:
    """A fault in which the system refuses to write rows, after a random number of bytes."""

    def cause(bench: Bench, times: int) -> None:
        for _ in range(times):
            bench.clean()
            after = bench.moments.randrange(100, len(bench.reference))
            process = bench.start(env=bench.preloaded(write="preds.csv.part", error=error, after=after))
            _, said = process.communicate()
            bench.wrong += process.returncode != 1 or os.strerror(error).encode() not in said
            bench.finish()
            bench.judge()

    cause.__doc__ = f"{what} ({errno.errorcode[error]} from write and fsync)"
    return cause


def folder_vanishes(bench: Bench, times: int) -> None:
    """the output's folder is removed"""
    for _ in range(times):
        bench.clean()
        process = bench.start()
        bench.wait(bench.moments.uniform(0.3, 0.95))
        shutil.rmtree(bench.out.parent, ignore_errors=True)
        process.communicate()
        bench.out.parent.mkdir(exist_ok=True)
        if not bench.out.exists():
            bench.finish()
        bench.judge()


def cut(bench: Bench, times: int) -> None:
    """the journal cut at a random byte"""
    with_journal(bench, times, lambda content: content[: bench.moments.randrange(len(content))])


def zeros(bench: Bench, times: int) -> None:
    """… and filled up with zeros, as after a loss of power"""
    with_journal(bench, times, lambda content: content[: bench.moments.randrange(len(content))] + bytes(4096))


def garbage(bench: Bench, times: int) -> None:
    """… and with random bytes"""

    def change(content: bytes) -> bytes:
        return content[: bench.moments.randrange(len(content))] + bench.moments.randbytes(4096)

    with_journal(bench, times, change)


def old_block(bench: Bench, times: int) -> None:
    """a block in its middle never written"""

    def change(content: bytes) -> bytes:
        begin = bench.moments.randrange(len(content)) // 512 * 512
        return content[:begin] + bytes(min(512, len(content) - begin)) + content[begin + 512 :]

    with_journal(bench, times, change)


def with_journal(bench: Bench, times: int, change: Callable[[bytes], bytes]) -> None:
    for _ in range(times):
        (bench.out).unlink(missing_ok=True)
        if not bench.out.with_name("preds.csv.run.json").exists():
            bench.finish()
            bench.out.unlink()
        changed = change(bench.reference)
        bench.part.write_bytes(changed)
        bench.finish_or_begin_anew()
        bench.judge()


DISK_FAULTS: tuple[Callable[[Bench, int], None], ...] = (
    file_size_limit,
    disk_full,
    write_fails(errno.EDQUOT, "the quota is used up"),
    write_fails(errno.EROFS, "the output's disk turns read-only"),
    write_fails(errno.EIO, "the output's disk fails"),
    folder_vanishes,
    cut,
    zeros,
    garbage,
    old_block,
)
