"""Chunks of photos through a pool of threads: bounded, and back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

IN_FLIGHT = 3
"""Chunks a thread: enough that none waits for the reader of the answers, and no more memory than that."""

MOST_HELD = 1 << 30
"""Bytes of photos whose content comes with their listing, as from a compressed archive."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_order(
    work: Callable[[tuple[Item, ...]], list[Answer]],
    items: Iterable[Item],
    *,
    size: int,
    jobs: int,
    held: Callable[[Item], int] = lambda _: 0,
    give_up: Callable[[], None] = lambda: None,
) -> Iterator[list[Answer]]:
    """The answers to chunks of ``size`` items, in order, from ``jobs`` threads.

    At most `IN_FLIGHT` chunks a thread are under way, however long ``items`` is, and fewer and smaller ones where the
    items come with more bytes than `MOST_HELD`. An error in ``work`` is raised here, in its chunk's turn.

    held: how many bytes an item keeps in memory until it has been worked on. give_up: called at the end, also at one
    that comes early; frees the threads that wait for an item's content.
    """
    chunks = chunks_of(iter(items), size, held)
    window: deque[tuple[Future[list[Answer]], int]] = deque()
    in_memory = 0
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="classify")

    def fill() -> None:
        nonlocal in_memory
        while len(window) < IN_FLIGHT * jobs and in_memory < MOST_HELD:
            chunk, bytes_held = next(chunks, ((), 0))
            if not chunk:
                return
            window.append((pool.submit(work, chunk), bytes_held))
            in_memory += bytes_held

    try:
        fill()
        while window:
            future, bytes_held = window.popleft()
            answers = future.result()
            in_memory -= bytes_held
            fill()
            yield answers
    finally:
        give_up()
        pool.shutdown(wait=True, cancel_futures=True)


def chunks_of(stream: Iterator[Item], size: int, held: Callable[[Item], int]) -> Iterator[tuple[tuple[Item, ...], int]]:
    """Chunks with the bytes that they hold: of ``size`` items, or of as many as hold a share of `MOST_HELD`."""
    chunk: list[Item] = []
    bytes_held = 0
    for item in stream:
        chunk.append(item)
        bytes_held += held(item)
        if len(chunk) == size or bytes_held >= MOST_HELD // IN_FLIGHT:
            yield tuple(chunk), bytes_held
            chunk, bytes_held = [], 0
    if chunk:
        yield tuple(chunk), bytes_held
