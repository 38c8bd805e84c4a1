"""Threads that read from stores, for which nobody waits: one may hang for as long as its store does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

_Work = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class Readers:
    """Up to ``most`` threads, each started when it is first needed.

    Those of ``concurrent.futures`` would be waited for as the process ends.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._work: _Work = SimpleQueue()
        self._unfinished: set[Future[Any]] = set()

    def begin(self, read: Callable[[], T]) -> Future[T]:
        """What the function will give, called in a thread."""
        future: Future[T] = Future()
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        self._work.put((future, read))
        if self._started < self._most:
            self._started += 1
            Thread(target=_serve, args=(self._work,), name=f"reader-{self._started}", daemon=True).start()
        return future

    def close(self) -> None:
        """Give up what is not finished: whoever waits for it is told at once."""
        for future in self._unfinished.copy():
            future.cancel()
        for _ in range(self._started):
            self._work.put(None)


def _serve(work: _Work) -> None:
    while (task := work.get()) is not None:
        future, read = task
        # A future that is never marked as running can be cancelled at any time.
        with suppress(InvalidStateError):
            try:
                if not future.cancelled():
                    future.set_result(read())
            except InvalidStateError:
                raise
            except BaseException as error:
                future.set_exception(error)
        del task, future, read  # so that no photo's bytes stay until the next one comes
