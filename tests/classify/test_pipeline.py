"""The pool's bounds: how many chunks, and how many bytes of photos that came with their listing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.classify import pipeline
from gendercls.classify.pipeline import IN_FLIGHT, in_order


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=60), st.integers(1, 8), st.integers(1, 3))
def test_bytes_in_memory_are_bounded_and_the_order_stays(sizes: list[int], size: int, jobs: int) -> None:
    """Of items that hold up to 900 bytes, 1,000 and what one item, and one chunk, adds."""
    given_out = worked_on = most = 0
    lock = threading.Lock()

    def items() -> Iterator[tuple[int, int]]:
        nonlocal given_out, most
        for place, held in enumerate(sizes):
            with lock:
                given_out += held
                most = max(most, given_out - worked_on)
            yield place, held

    def work(chunk: tuple[tuple[int, int], ...]) -> list[int]:
        nonlocal worked_on
        assert len(chunk) <= size
        with lock:
            worked_on += sum(held for _, held in chunk)
        return [place for place, _ in chunk]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MOST_HELD", 1000)
        answers = list(in_order(work, items(), size=size, jobs=jobs, held=lambda item: item[1]))
    assert [place for chunk in answers for place in chunk] == list(range(len(sizes)))
    assert most <= 1000 + 1000 // IN_FLIGHT + 900


def test_items_without_bytes_are_taken_by_whole_chunks() -> None:
    assert list(map(len, in_order(lambda chunk: list(chunk), iter(range(20)), size=8, jobs=2))) == [8, 8, 4]
