"""Faults of the process that works, and of what surrounds it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fault_bench import Bench, CannotBeCausedError, Process


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
        bench.finish(env=env, before=before)
        bench.judge()


def clock(bench: Bench, times: int) -> None:
    """a calendar's clock that jumps by years, forth and back"""
    for _ in range(times):
        bench.clean()
        bench.finish(env=bench.preloaded(clock=1))
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


PROCESS_FAULTS: tuple[Callable[[Bench, int], None], ...] = (
    killed,
    worker_killed,
    signalled(signal.SIGINT),
    signalled(signal.SIGTERM),
    signalled(signal.SIGHUP),
    output_closed,
    two_at_once,
    surroundings,
    clock,
    no_shared_memory,
)
