"""Photos that are copies of each other: the same bytes, or the same picture saved anew.

Perceptual hashes propose pairs and small pictures confirm them. A hash alone would not do: aligned portraits share
their low frequencies, and among hundreds of thousands of them some differ in few bits though they show two people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gendercls.train.audit.photos import HASH_SIDE, THUMBNAIL_SIDE, PhotoCheck

Kind = Literal["first", "exact", "near", "mirrored"]
"""What a photo is to the first one of its group."""

FARTHEST_HASH = 56
FARTHEST_PIXELS = 0.22
"""Two photos are copies when (bits that differ) / 56 + (1 − correlation of their thumbnails) / 0.22 is at most 1.

Chosen on CelebA's first 8,000 photos and on FairFace's train photos; docs/audit.md has what it gives on others.
"""

_BITS = HASH_SIDE * HASH_SIDE
_TABLES = 64
_FEWEST_KEY_BITS, _MOST_KEY_BITS = 8, 24
_NEIGHBOURS = 64
"""How many photos with the same key one is compared with in each table: what bounds the time where thousands agree."""
_AT_ONCE = 1 << 14
_FLAT = 1.0
"""Standard deviation, in grey levels, below which a thumbnail shows nothing that could be compared."""
_ONES = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)

Indices = NDArray[np.intp]
Hashes = NDArray[np.uint16]
"""Perceptual hashes ``[N, 16]``, 16 bits in each word."""
Pictures = NDArray[np.uint8]
"""Thumbnails ``[N, 24, 24]``, grey."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One photo of a group. number: its place in the list of checks; distance: bits that its hash differs in from
    that of the group's first photo, 0 to 256, the less of the photo as it is and mirrored."""

    number: int
    kind: Kind
    distance: int


Group = tuple[Copy, ...]
"""Two photos or more that are copies of each other, in the order of the list; the first is what others are told by."""


def find_duplicates(checks: Sequence[PhotoCheck]) -> list[Group]:
    """Groups of copies, in the order of their first photos. Photos with a reason take no part.

    A copy of a copy is in the group, though it may differ from the first photo by more than a copy may. A photo
    without any contrast is only found by its bytes.
    """
    by_digest: dict[str, list[int]] = {}
    for number, check in enumerate(checks):
        if not check.reason:
            by_digest.setdefault(check.digest, []).append(number)
    same_bytes = list(by_digest.values())
    firsts = [checks[numbers[0]] for numbers in same_bytes]
    hashes = _hashes(firsts)
    pictures = np.frombuffer(b"".join(check.thumbnail for check in firsts), np.uint8)
    pictures = pictures.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    pairs = np.concatenate([_copies(hashes, pictures, mirrored=mirrored) for mirrored in (False, True)])
    connected = joined(len(firsts), pairs.tolist())
    members = [sorted(number for place in places for number in same_bytes[place]) for places in connected]
    return [_group(numbers, checks) for numbers in sorted(members) if len(numbers) > 1]


def _group(numbers: list[int], checks: Sequence[PhotoCheck]) -> Group:
    hashes = _hashes([checks[number] for number in numbers])
    plain = _different_bits(hashes, hashes[:1])
    turned = _different_bits(hashes, _mirrored(hashes[:1]))
    copies = [Copy(numbers[0], "first", 0)]
    for place, number in enumerate(numbers[1:], start=1):
        near: Kind = "mirrored" if turned[place] < plain[place] else "near"
        kind = "exact" if checks[number].digest == checks[numbers[0]].digest else near
        copies.append(Copy(number, kind, int(min(plain[place], turned[place]))))
    return tuple(copies)


def _copies(hashes: Hashes, pictures: Pictures, *, mirrored: bool) -> Indices:
    """Pairs ``[P, 2]`` of photos, the first of them perhaps mirrored, that are copies; each pair once."""
    others, other_pictures = (_mirrored(hashes), pictures[:, :, ::-1]) if mirrored else (hashes, pictures)
    pairs = _close_pairs(others, hashes)
    found = [np.empty((0, 2), np.intp)]
    for at in range(0, len(pairs), _AT_ONCE):
        first, second = pairs[at : at + _AT_ONCE].T
        unlike = 1 - _correlation(other_pictures[first], pictures[second])
        bits = _different_bits(others[first], hashes[second])
        found.append(pairs[at : at + _AT_ONCE][bits / FARTHEST_HASH + unlike / FARTHEST_PIXELS <= 1])
    return np.concatenate(found)


def _close_pairs(others: Hashes, hashes: Hashes) -> Indices:
    """Pairs i < j, ``[P, 2]``, of which others[i] and hashes[j] differ in 56 bits at most and share some table's key.

    Locality-sensitive hashing by bit sampling (Indyk & Motwani 1998): 64 tables, each with a key of log2(N) bits drawn
    from the hash, so that few photos share one. Of 200,000 photos a pair that differs in 32 of 256 bits shares some key
    with probability 0.998, one that differs in 40 with 0.95.
    """
    photos = len(hashes)
    length = min(max(_FEWEST_KEY_BITS, photos.bit_length()), _MOST_KEY_BITS)
    columns, other_columns = _columns(hashes), _columns(others)
    generator = np.random.default_rng(0)
    pairs = np.empty(0, np.int64)
    for _ in range(_TABLES):
        # The first bit is left out: the mean brightness is above the median of all frequencies in every photo.
        chosen = generator.choice(np.arange(1, _BITS), length, replace=False)
        close = []
        for first, second in _sharing_a_key(_keys(other_columns, chosen), _keys(columns, chosen)):
            near = _different_bits(others[first], hashes[second]) <= FARTHEST_HASH
            close.append(first[near] * photos + second[near])
        pairs = np.unique(np.concatenate([pairs, *close]))  # one integer for a pair: many tables find the same
    return np.stack(np.divmod(pairs, max(photos, 1)), axis=1)


def _sharing_a_key(wanted: NDArray[np.int64], keys: NDArray[np.int64]) -> Iterator[tuple[Indices, Indices]]:
    """Photos i < j with ``wanted[i] == keys[j]``: the first such j of each i, then the second, up to the 64th."""
    photos = len(keys)
    numbers = np.arange(photos)
    # Keys and numbers in one integer: sorted by key, then by number. Searching in order is several times as fast.
    table = np.sort(keys * photos + numbers)
    asked = np.sort(wanted * photos + numbers)
    begin = np.searchsorted(table, asked, "right")
    end = np.searchsorted(table, (asked // max(photos, 1) + 1) * photos, "left")
    for step in range(_NEIGHBOURS):
        there = np.flatnonzero(begin + step < end)
        if not there.size:
            break
        yield asked[there] % photos, table[begin[there] + step] % photos


def _columns(hashes: Hashes) -> NDArray[np.uint8]:
    """The bits of hashes ``[N, 16]`` as ``[256, N]``, each bit of all photos side by side in memory."""
    return np.ascontiguousarray(np.unpackbits(hashes.view(np.uint8), axis=1).T)


def _keys(columns: NDArray[np.uint8], chosen: Indices) -> NDArray[np.int64]:
    keys = np.zeros(columns.shape[1], np.int64)
    for column in chosen:
        keys = (keys << 1) | columns[column]
    return keys


def _hashes(checks: Sequence[PhotoCheck]) -> Hashes:
    return np.frombuffer(b"".join(check.perceptual_hash for check in checks), np.uint16).reshape(-1, _BITS // 16)


def _mirrored(hashes: Hashes) -> Hashes:
    """The hashes of the mirrored photos: mirroring turns the sign of every odd horizontal frequency.

    Up to the few bits whose coefficients lie between the median and its negative.
    """
    odd = np.tile(np.array([0, 1], np.uint8), _BITS // 2)
    return hashes ^ np.packbits(odd).view(np.uint16)


def _different_bits(left: Hashes, right: Hashes) -> NDArray[np.int64]:
    """Hamming distances ``[N]`` of hashes ``[N, 16]``."""
    different: NDArray[np.int64] = _ONES[left ^ right].sum(axis=1, dtype=np.int64)
    return different


def _correlation(left: Pictures, right: Pictures) -> NDArray[np.float64]:
    """Pearson's, of the pixels of each pair of thumbnails ``[N, 24, 24]``: brightness and contrast do not matter."""
    first, second = ((pictures - pictures.mean(axis=(1, 2), keepdims=True)) for pictures in (left, right))
    lengths = np.sqrt([(pixels**2).sum(axis=(1, 2)) for pixels in (first, second)])
    shows_something = lengths.min(axis=0) >= _FLAT * THUMBNAIL_SIDE
    return np.where(shows_something, (first * second).sum(axis=(1, 2)) / np.maximum(lengths.prod(axis=0), 1.0), 0.0)


def joined(photos: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Photos that pairs connect, directly or through others, as lists; a photo in no pair is alone in its list."""
    leader = list(range(photos))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for first, second in pairs:
        leader[find(second)] = find(first)
    groups: dict[int, list[int]] = {}
    for place in range(photos):
        groups.setdefault(find(place), []).append(place)
    return list(groups.values())
