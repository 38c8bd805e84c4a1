"""Chunks of photos through a pool of threads: bounded, and back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

IN_FLIGHT = 3
"""Chunks a thread: enough that none waits for the reader of the answers, and no more memory than that."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_order(
    work: Callable[[tuple[Item, ...]], list[Answer]], items: Iterable[Item], *, size: int, jobs: int
) -> Iterator[list[Answer]]:
    """The answers to chunks of ``size`` items, in order, from ``jobs`` threads.

    At most `IN_FLIGHT` chunks a thread are under way, however long ``items`` is. An error in ``work`` is raised here,
    in its chunk's turn.
    """
    stream = iter(items)
    chunks = iter(lambda: tuple(islice(stream, size)), ())
    window: deque[Future[list[Answer]]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="classify")
    try:
        window.extend(pool.submit(work, chunk) for chunk in islice(chunks, IN_FLIGHT * jobs))
        while window:
            answers = window.popleft().result()
            window.extend(pool.submit(work, chunk) for chunk in islice(chunks, 1))
            yield answers
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
