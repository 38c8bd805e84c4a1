"""Shards: together they are the listing, whatever it is made of and however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.errors import UsageError
from gendercls.sources import CHUNK, Photo, Shard, Unreadable, Walk, read_shard


@dataclass(frozen=True)
class Some:
    """A source of so many photos. looks: filled with each look at it."""

    name: str
    count: int
    is_passing: bool
    looks: list[str]

    def photos(self) -> Iterator[Photo]:
        self.looks.append(self.name)
        return (Unreadable(f"{self.name}/{number}", "", "") for number in range(self.count))


KINDS = st.lists(st.tuples(st.sampled_from([0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2500]), st.booleans()), max_size=5)


@settings(max_examples=80, deadline=None)
@given(KINDS, st.integers(1, 7), st.integers(1, 3))
def test_shards_are_a_division_that_their_sizes_put_together_again(
    kinds: list[tuple[int, bool]], of: int, every: int
) -> None:
    looks: list[str] = []
    sources = [Some(str(place), count, is_passing, looks) for place, (count, is_passing) in enumerate(kinds)]

    def is_wanted(photo: Photo) -> bool:
        return int(photo.key.partition("/")[2]) % every == 0

    whole = [photo.key for source in sources for photo in source.photos() if is_wanted(photo)]
    walks = [Walk(sources, Shard(number, of), is_wanted) for number in range(1, of + 1)]
    given_by = [[photo.key for photo in walk] for walk in walks]
    assert len({walk.digest for walk in walks}) == 1
    put_together = []
    for chunk in range(1 + max((max(walk.sizes, default=-1) for walk in walks), default=-1)):
        size = walks[chunk % of].sizes.get(chunk, 0)
        put_together += given_by[chunk % of][:size]
        del given_by[chunk % of][:size]
    assert put_together == whole
    assert not any(given_by)


def test_a_source_that_passes_is_read_by_one_shard_alone() -> None:
    looks: list[str] = []
    sources = [Some(f"{number}.tar.gz", 10, True, looks) for number in range(6)]
    for number in range(1, 4):
        assert sum(1 for _ in Walk(sources, Shard(number, 3), lambda _: True)) == 20
    assert sorted(looks) == [source.name for source in sources]


def test_a_change_of_the_photos_between_shards_shows() -> None:
    digests = set()
    for names in (("a", "b"), ("a", "c"), ("b", "a"), ("a",)):
        walk = Walk([Some(name, 3, False, []) for name in names], Shard(1, 2), lambda _: True)
        assert list(walk)
        digests.add(walk.digest)
    assert len(digests) == 4


@pytest.mark.parametrize(
    "typed", ["0/4", "5/4", "1/0", "1", "1/", "a/b", "-1/4", "1/4/2", "1/65537", "1" * 20 + "/4", ""]
)
def test_what_is_no_shard_is_refused(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_shard(typed)
    assert caught.value.where == f"--shard {typed}"


def test_a_shard_reads_as_it_is_written() -> None:
    assert str(read_shard("16/16")) == "16/16"
