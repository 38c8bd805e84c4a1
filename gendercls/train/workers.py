"""Processes that work for this one on all cores, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from gendercls.machine import available_cores


def worker_pool() -> ProcessPoolExecutor:
    """A process for each core. They end when this process is killed; of themselves they would wait for ever."""
    return ProcessPoolExecutor(available_cores(), initializer=_begin)


@contextmanager
def begun_deaf() -> Iterator[None]:
    """Processes that are forked meanwhile hear no SIGTERM, of which they could not yet tell whose it is."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_requests_to_main() -> None:
    """In a worker: Ctrl-C and SIGTERM that all processes are sent are for the main one, which saves and ends them.

    ``scancel``, ``systemctl stop`` and ``timeout`` send SIGTERM to all. Of the main process it is heeded, at any time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # on macOS nobody tells who sent a signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_main_says, daemon=True).start()


def _end_when_main_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _begin() -> None:
    leave_requests_to_main()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
