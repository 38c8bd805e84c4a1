"""What every fault of faults.py has in common: the run that is disturbed, and how its result is judged."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Put before libc. read(2) of the file whose path ends as FAULTY_READ says fails, or never ends; write(2) and fsync(2)
# of FAULTY_WRITE fail with that error number after FAULTY_AFTER bytes; with FAULTY_CLOCK each look at the calendar's
# clock finds it another year. pread and mmap are not used for photos, nor pwrite for rows.
PRELOAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_named(int fd, const char *variable) {
    const char *name = getenv(variable);
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = name ? readlink(link, path, sizeof path - 1) : -1;
    size_t tail = name ? strlen(name) : 0;
    return length > 0 && (size_t)length >= tail && !strncmp(path + length - tail, name, tail);
}

static long from_environment(const char *variable) {
    const char *value = getenv(variable);
    return value ? atol(value) : 0;
}

ssize_t read(int fd, void *to, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (is_named(fd, "FAULTY_READ")) {
        while (!from_environment("FAULTY_ERROR")) pause();
        errno = from_environment("FAULTY_ERROR");
        return -1;
    }
    return real(fd, to, count);
}

static long written;

ssize_t write(int fd, const void *from, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (is_named(fd, "FAULTY_WRITE")) {
        long left = from_environment("FAULTY_AFTER") - written;
        if (left <= 0) {
            errno = from_environment("FAULTY_ERROR");
            return -1;
        }
        if ((size_t)left < count) count = left;
        written += count;
    }
    return real(fd, from, count);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (is_named(fd, "FAULTY_WRITE") && written >= from_environment("FAULTY_AFTER")) {
        errno = from_environment("FAULTY_ERROR");
        return -1;
    }
    return real(fd);
}

int clock_gettime(clockid_t kind, struct timespec *to) {
    static int (*real)(clockid_t, struct timespec *);
    static long looks;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(kind, to);
    if (kind == CLOCK_REALTIME && getenv("FAULTY_CLOCK")) to->tv_sec = (looks++ * 7919 % 60) * 31556952;
    return done;
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

    def finish(self, *more: str, env: dict[str, str] | None = None, before: Callable[[], None] | None = None) -> None:
        """The command to its end, which has to be a good one."""
        self.end_well(self.start(*more, env=env, before=before))

    def end_well(self, process: Process) -> None:
        _, said = process.communicate()
        if process.returncode != 0:
            sys.exit(f"the command ended with {process.returncode}:\n{said.decode(errors='replace')}")

    def finish_or_begin_anew(self) -> None:
        """The command to its end; with --restart where it asks for that, since what is left cannot be gone on with."""
        process = self.start()
        _, said = process.communicate()
        if process.returncode != 0:
            self.wrong += b"--restart" not in said
            self.finish("--restart")

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

    def preloaded(self, **variables: object) -> dict[str, str]:
        """The environment in which a command meets the faults of PRELOAD. Raises where no C compiler is."""
        source, library = self.scratch / "faulty.c", self.scratch / "faulty.so"
        if not library.exists():
            source.write_text(PRELOAD)
            try:
                subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
            except FileNotFoundError:
                raise CannotBeCausedError("there is no C compiler") from None
        return {"LD_PRELOAD": str(library)} | {
            f"FAULTY_{name.upper()}": str(value) for name, value in variables.items()
        }


def rows(content: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fields in csv.reader(io.StringIO(content.decode())):
        if fields[0] in found:
            raise AssertionError(f"two rows of {fields[0]}")
        found[fields[0]] = fields[1:]
    return found


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    done = subprocess.run(["mount", *words, place], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBeCausedError(f"mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)
