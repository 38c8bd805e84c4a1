"""Cause faults while `gendercls classify` runs, then repeat the command: python benchmarks/faults.py PHOTOS

Each fault is caused many times, at random moments where it has a moment. Afterwards every file must have its row, and
the bytes must be those of a run that nobody disturbed; where a fault hits single photos, those of all others. The model
is one that costs nothing, whose answer follows from a photo's first pixel. Prints a table; exits with 1 when anything
was lost or wrong. Faults that cannot be caused here are named with the reason.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from null_model import null_model

# Fails or hangs in read(2) for the file whose path ends as FAULTY_READ says; pread and mmap are not used for photos.
PRELOAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *to, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    const char *name = getenv("FAULTY_READ"), *kind = getenv("FAULTY_KIND");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = name ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0) {
        path[length] = 0;
        size_t tail = strlen(name);
        if ((size_t)length >= tail && !strcmp(path + length - tail, name)) {
            if (kind && !strcmp(kind, "hang")) for (;;) pause();
            errno = EIO;
            return -1;
        }
    }
    return real(fd, to, count);
}
"""


Process = subprocess.Popen[bytes]


class CannotBeCausedError(Exception):
    """The reason why a fault cannot be caused on this machine."""


@dataclass
class Bench:
    """Where photos, model and output lie, and what an undisturbed run gave.

    lost, wrong, same: over all tries of a fault: files without a row, rows that are not the photo's, equal bytes.
    """

    scratch: Path
    photos: Path
    moments: random.Random
    reference: bytes = b""
    usual: float = 0.0
    lost: int = 0
    wrong: int = 0
    same: int = 0
    tries: int = 0

    @property
    def out(self) -> Path:
        return self.scratch / "out" / "preds.csv"

    @property
    def part(self) -> Path:
        return self.out.with_name("preds.csv.part")

    def words(self, *more: str) -> list[str]:
        words = ["classify", str(self.photos), "--model", str(self.scratch / "null.onnx"), "--out", str(self.out)]
        return [sys.executable, "-m", "gendercls", *words, "--device", "cpu", "--quiet", *more]

    def clean(self) -> None:
        shutil.rmtree(self.out.parent, ignore_errors=True)
        self.out.parent.mkdir()

    def start(self, *more: str, env: dict[str, str] | None = None, before: Callable[[], None] | None = None) -> Process:
        return subprocess.Popen(
            self.words(*more),
            env=os.environ | (env or {}),
            preexec_fn=before,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self, *more: str, env: dict[str, str] | None = None) -> None:
        """The command to its end, which has to be a good one."""
        process = self.start(*more, env=env)
        _, said = process.communicate()
        if process.returncode != 0:
            sys.exit(f"the command ended with {process.returncode}:\n{said.decode(errors='replace')}")

    def wait(self, share: float) -> None:
        time.sleep(share * self.usual)

    def until_rows(self, process: Process) -> None:
        while process.poll() is None and not (self.part.exists() and self.part.read_bytes().count(b"\n") > 1):
            time.sleep(0.001)

    def judge(self, hit: frozenset[str] = frozenset()) -> None:
        """Compare the result with the reference; rows of the photos that were hit may be others."""
        found, wanted = rows(self.out.read_bytes()), rows(self.reference)
        self.tries += 1
        self.lost += len(wanted.keys() - found.keys())
        self.wrong += sum(found[key] != wanted[key] for key in wanted.keys() & found.keys() - hit)
        self.wrong += len(found.keys() - wanted.keys())
        self.same += self.out.read_bytes() == self.reference


def rows(content: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fields in csv.reader(io.StringIO(content.decode())):
        if fields[0] in found:
            raise AssertionError(f"two rows of {fields[0]}")
        found[fields[0]] = fields[1:]
    return found


# --- the process ------------------------------------------------------------------------------------------------


def ended(bench: Bench, times: int, end: Callable[[Process], None]) -> None:
    """End a run at a random moment, and go on with it."""
    for _ in range(times):
        bench.clean()
        process = bench.start()
        bench.wait(bench.moments.uniform(0.3, 0.95))
        end(process)
        process.communicate()
        bench.out.parent.mkdir(exist_ok=True)
        if not bench.out.exists():
            bench.finish()
        bench.judge()


def killed(bench: Bench, times: int) -> None:
    """kill -9 of the command"""
    ended(bench, times, subprocess.Popen.kill)


def worker_killed(bench: Bench, times: int) -> None:
    """kill -9 of the process that works"""

    def kill(process: Process) -> None:
        with suppress(OSError, ValueError, IndexError):  # it has ended, or not yet begun
            child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
            os.kill(child, signal.SIGKILL)

    ended(bench, times, kill)


def signalled(kind: signal.Signals) -> Callable[[Bench, int], None]:
    def cause(bench: Bench, times: int) -> None:
        ended(bench, times, lambda process: process.send_signal(kind))

    cause.__doc__ = kind.name
    return cause


def output_closed(bench: Bench, times: int) -> None:
    """stdout closed by its reader"""
    for _ in range(times):
        bench.clean()
        words = [word for word in bench.words("--json") if word != "--quiet"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.close()
        if not bench.out.exists():
            bench.finish()
        bench.judge()


def two_at_once(bench: Bench, times: int) -> None:
    """two runs on one output"""
    for _ in range(times):
        bench.clean()
        first = bench.start()
        while not bench.part.exists() and first.poll() is None:
            time.sleep(0.001)
        second = bench.start()
        _, said = second.communicate()
        first.communicate()
        if second.returncode == 0 or first.returncode != 0:
            bench.wrong += b"another run is writing" not in said
        bench.judge()


# --- the disk ---------------------------------------------------------------------------------------------------


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


def read_only(bench: Bench, times: int) -> None:
    """the output's disk turns read-only"""
    for _ in range(times):
        bench.clean()
        with mounted(bench.out.parent, "-t", "tmpfs", "tmpfs"):
            process = bench.start()
            bench.until_rows(process)
            done = subprocess.run(["mount", "-o", "remount,ro", bench.out.parent], capture_output=True, text=True)
            process.communicate()
            if done.returncode != 0:
                raise CannotBeCausedError(done.stderr.strip().splitlines()[0])
            subprocess.run(["mount", "-o", "remount,rw", bench.out.parent], check=True)
            if not bench.out.exists():
                bench.finish()
            bench.judge()


def folder_vanishes(bench: Bench, times: int) -> None:
    """the output's folder is removed"""
    ended(bench, times, lambda _: shutil.rmtree(bench.out.parent, ignore_errors=True))


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    done = subprocess.run(["mount", *words, place], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBeCausedError(f"mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


# --- the journal ------------------------------------------------------------------------------------------------


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
        process = bench.start()
        _, said = process.communicate()
        if process.returncode != 0:  # the header itself is damaged: refused, and begun anew when told so
            bench.wrong += b"--restart" not in said
            bench.finish("--restart")
        bench.judge()


# --- photos -----------------------------------------------------------------------------------------------------


def read_error(bench: Bench, times: int) -> None:
    """a read error (EIO) on one photo, then `--retry-failed`"""
    preloaded(bench, times, "error", "cannot be read: Input/output error")


def hanging_read(bench: Bench, times: int) -> None:
    """a read that never ends, then `--retry-failed`"""
    preloaded(bench, min(times, 3), "hang", "took more than 1 s")


def preloaded(bench: Bench, times: int, kind: str, reason: str) -> None:
    library = build(bench)
    names = sorted(path.name for path in bench.photos.iterdir())
    for _ in range(times):
        bench.clean()
        hit = bench.moments.choice(names)
        env = {"LD_PRELOAD": str(library), "FAULTY_READ": f"/{hit}", "FAULTY_KIND": kind}
        bench.finish("--photo-timeout", "1", env=env)
        found = rows(bench.out.read_bytes())
        bench.wrong += found[hit][-1] != reason
        bench.wrong += sum(found[key] != row for key, row in rows(bench.reference).items() if key != hit)
        bench.finish("--retry-failed")
        bench.judge()


def build(bench: Bench) -> Path:
    source, library = bench.scratch / "faulty.c", bench.scratch / "faulty.so"
    source.write_text(PRELOAD)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    except FileNotFoundError:
        raise CannotBeCausedError("there is no C compiler") from None
    return library


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
            for path in hit:
                change(path, kept / hit[0].name)
            _, said = process.communicate()
            if process.returncode != 0:
                sys.exit(f"the command ended with {process.returncode}:\n{said.decode(errors='replace')}")
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


def odd_files(bench: Bench, times: int) -> None:
    """a FIFO, a socket, a device and a file of /proc among the photos"""
    place = bench.photos / "zz"
    for _ in range(times):
        bench.clean()
        place.mkdir()
        os.mkfifo(place / "fifo.jpg")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place / "socket.jpg"))
            (place / "null.jpg").symlink_to("/dev/null")
            (place / "maps.jpg").symlink_to("/proc/self/maps")
            bench.finish()
        found = rows(bench.out.read_bytes())
        bench.lost += sum(f"zz/{name}.jpg" not in found for name in ("fifo", "socket", "null", "maps"))
        bench.wrong += sum(1 for key, row in found.items() if key.startswith("zz/") and row[0] + row[1])
        shutil.rmtree(place)
        content = bench.out.read_bytes()
        bench.out.write_bytes(b"".join(line for line in content.splitlines(True) if not line.startswith(b"zz/")))
        bench.judge()


# --- surroundings -----------------------------------------------------------------------------------------------


def surroundings(bench: Bench, _: int) -> None:
    """locale C and Turkish, random hashes, umask 077, no HOME, one that cannot be written, one core, 24 open files"""
    one = min(os.sched_getaffinity(0))
    tries: list[tuple[dict[str, str], Callable[[], None] | None]] = [
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, None),
        ({"LC_ALL": "tr_TR.UTF-8"}, None),
        ({"PYTHONHASHSEED": "12345"}, None),
        ({}, lambda: os.umask(0o077) and None),
        ({"HOME": "/nonexistent"}, None),
        ({"HOME": "/proc"}, None),
        ({}, lambda: os.sched_setaffinity(0, {one})),
        ({}, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))),
    ]
    for env, before in tries:
        bench.clean()
        process = bench.start(env=env, before=before)
        _, said = process.communicate()
        if process.returncode != 0:
            sys.exit(f"the command ended with {process.returncode}:\n{said.decode(errors='replace')}")
        bench.judge()


def no_shared_memory(bench: Bench, times: int) -> None:
    """no /dev/shm"""
    for _ in range(min(times, 3)):
        bench.clean()
        words = ["unshare", "-m", "sh", "-c", 'umount -l /dev/shm && exec "$@"', "sh", *bench.words()]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotBeCausedError(done.stderr.strip().splitlines()[-1])
        bench.judge()


FAULTS: tuple[Callable[[Bench, int], None], ...] = (
    killed,
    worker_killed,
    signalled(signal.SIGINT),
    signalled(signal.SIGTERM),
    signalled(signal.SIGHUP),
    output_closed,
    two_at_once,
    file_size_limit,
    disk_full,
    read_only,
    folder_vanishes,
    cut,
    zeros,
    garbage,
    old_block,
    read_error,
    hanging_read,
    meanwhile(remove, "5 photos removed while the run goes on"),
    meanwhile(replace, "5 photos replaced by another"),
    meanwhile(grow, "5 photos growing"),
    meanwhile(shorten, "5 photos cut to 100 bytes"),
    meanwhile(forbid, "5 photos forbidden to be read"),
    odd_files,
    surroundings,
    no_shared_memory,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=1500, help="how many of them (default 1500)")
    parser.add_argument("--times", type=int, default=20, help="how often each fault is caused (default 20)")
    parser.add_argument("--kills", type=int, default=100, help="how often kill -9 is (default 100)")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    options = parser.parse_args()
    is_good = True
    print("| fault | caused | rows lost | rows wrong | bytes equal |\n| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(Path(scratch), options)
        for cause in FAULTS:
            name = (cause.__doc__ or "").strip()
            if options.only not in name:
                continue
            bench.lost = bench.wrong = bench.same = bench.tries = 0
            try:
                cause(bench, options.kills if cause in (killed, worker_killed) else options.times)
            except CannotBeCausedError as error:
                print(f"| {name} | not here: {error} | | | |", flush=True)
                continue
            print(f"| {name} | {bench.tries} | {bench.lost} | {bench.wrong} | {bench.same} |", flush=True)
            is_good = is_good and bench.lost == bench.wrong == 0
    sys.exit(not is_good)


def prepare(scratch: Path, options: argparse.Namespace) -> Bench:
    """Photos of the bench's own, since faults change some; and the run that nobody disturbs."""
    photos = scratch / "photos"
    photos.mkdir()
    for path in sorted(options.photos.iterdir())[: options.count]:
        shutil.copy(path, photos)
    (scratch / "null.onnx").write_bytes(null_model())
    bench = Bench(scratch, photos, random.Random(options.seed))  # noqa: S311 - moments, no secrets
    bench.clean()
    began = time.monotonic()
    bench.finish()
    bench.usual = time.monotonic() - began
    bench.reference = bench.out.read_bytes()
    return bench


if __name__ == "__main__":
    main()
