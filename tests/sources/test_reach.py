"""A store within this process: what is tried again and how long, in which order it is listed, what is read ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.errors import GenderclsError, PhotoError
from gendercls.sources import READERS, Listing, PhotoFile, Readers, reach, read_ahead
from gendercls.sources.bucket import _PAGES, Page, RemoteFolder
from gendercls.sources.reach import patiently
from gendercls.sources.store import RemoteFile, RemotePhoto


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of `reach`, which passes only where it sleeps."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    clock.sleep = sleep
    monkeypatch.setattr(reach, "time", clock)
    return clock


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A store ``moody://`` with a photo; ``errors``, by method, are raised one after another, the last one for ever."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    from fsspec.implementations.memory import MemoryFileSystem

    state = SimpleNamespace(errors={})

    class Moody(MemoryFileSystem):  # type: ignore[misc]
        protocol = "moody"
        store: ClassVar[dict[str, Any]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("moody://").strip("/")

        def cat_file(self, *args: Any, **named: Any) -> bytes:
            fail("cat_file")
            return super().cat_file(*args, **named)

        def info(self, *args: Any, **named: Any) -> dict[str, Any]:
            fail("info")
            return super().info(*args, **named)

        def ls(self, *args: Any, **named: Any) -> list[Any]:
            fail("ls")
            return super().ls(*args, **named)

    def fail(method: str) -> None:
        errors = state.errors.get(method, [])
        error = errors.pop(0) if len(errors) > 1 else errors[0] if errors else None
        if error is not None:
            raise error

    fsspec.register_implementation("moody", Moody, clobber=True)
    state.system = Moody()
    state.system.pipe("/photos/a.jpg", b"abc")
    yield state
    reach._file_system.cache_clear()


def test_a_failure_that_passes_is_no_failure(moody: SimpleNamespace, clock: SimpleNamespace) -> None:
    """Also a photo of which fewer bytes came than were promised, or that was replaced by a longer one meanwhile."""
    moody.errors["cat_file"] = [OSError("busy"), TimeoutError(), ConnectionError("reset"), None]
    assert RemotePhoto("a.jpg", "moody://photos/a.jpg", 3).read() == b"abc"
    for old_size in (2, 4):
        assert RemotePhoto("a.jpg", "moody://photos/a.jpg", old_size).read() == b"abc"
    assert 1 < clock.now < 5


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("a.jpg"), "cannot be read: No such file or directory"),
        (PermissionError("Forbidden"), "cannot be read: Forbidden"),
        (ValueError("no range"), "cannot be read: no range"),
    ],
)
def test_what_no_second_try_mends_is_not_tried_again(
    moody: SimpleNamespace, clock: SimpleNamespace, error: Exception, reason: str
) -> None:
    """It is the photo's own fault, which its row tells."""
    moody.errors["cat_file"] = [error]
    with pytest.raises(PhotoError) as caught:
        RemotePhoto("a.jpg", "moody://photos/a.jpg", 3).read()
    assert (str(caught.value), clock.now) == (reason, 0)


def test_a_photo_that_always_fails_has_its_reason(moody: SimpleNamespace, clock: SimpleNamespace) -> None:
    """After half a minute, where the store answers other questions."""
    moody.errors["cat_file"] = [OSError("internal\nerror")]
    with pytest.raises(PhotoError) as caught:
        RemotePhoto("a.jpg", "moody://photos/a.jpg", 3).read()
    assert str(caught.value) == "cannot be read: internal error"
    assert 20 < clock.now < reach.PATIENCE


def test_a_store_that_is_gone_ends_the_run(moody: SimpleNamespace, clock: SimpleNamespace) -> None:
    """Instead of a row for each of the photos that are left."""
    moody.errors |= {"cat_file": [OSError("no route")], "info": [OSError("no route")]}
    for read in (
        RemotePhoto("a.jpg", "moody://photos/a.jpg", 3).read,
        lambda: RemoteFile("moody://photos/a.jpg").read(0, 3),
    ):
        with pytest.raises(GenderclsError) as caught:
            read()
        assert not isinstance(caught.value, PhotoError)
        assert str(caught.value) == (
            "the store does not answer as it should: no route\n"
            "  where: moody://photos/a.jpg\n"
            "  do:    check the address, the network and your rights there, and repeat the command"
        )


def test_credentials_that_are_no_longer_good_end_the_run(moody: SimpleNamespace) -> None:
    """At once: no other photo will be given either."""
    error = PermissionError("The provided token has expired.")
    error.__cause__ = Exception()
    error.__cause__.response = {"Error": {"Code": "ExpiredToken"}}  # type: ignore[attr-defined]
    moody.errors["cat_file"] = [error]
    with pytest.raises(GenderclsError, match="does not accept who is asking: The provided token has expired"):
        RemotePhoto("a.jpg", "moody://photos/a.jpg", 3).read()


def test_an_archive_whose_rest_cannot_be_had_ends_the_run(moody: SimpleNamespace, clock: SimpleNamespace) -> None:
    """It is not damaged, and no row could stand for the photos that are missing."""
    moody.system.pipe("/p.tar", bytes(10_240))
    listing = Listing(["moody://p.tar"])
    moody.errors["cat_file"] = [OSError("no route")]
    with pytest.raises(GenderclsError, match="does not answer as it should: no route"):
        list(listing)


def test_a_listing_that_breaks_off_ends_the_run(moody: SimpleNamespace, clock: SimpleNamespace) -> None:
    """Photos that are not listed would be lost without a word; a folder that is forbidden has its row, as on disk."""
    listing = Listing(["moody://photos"])
    moody.errors["ls"] = [PermissionError("no")]
    assert [(photo.key, photo.path) for photo in listing] == [("moody://photos", "moody://photos")]
    moody.errors["ls"] = [OSError("no route")]
    with pytest.raises(GenderclsError, match="does not answer as it should: no route"):
        list(listing)


def test_a_huge_object_is_not_read(moody: SimpleNamespace) -> None:
    """Its size is known from the listing."""
    moody.errors["cat_file"] = [AssertionError("read")]
    with pytest.raises(PhotoError, match="larger than 512 MB"):
        RemotePhoto("a.jpg", "moody://photos/a.jpg", 600 << 20).read()


def test_patience_has_an_end_from_the_beginning(clock: SimpleNamespace) -> None:
    """A first question is given up sooner."""
    with pytest.raises(OSError, match="busy"):
        patiently("s3://bucket", lambda: (_ for _ in ()).throw(OSError("busy")), reach.AT_FIRST)
    assert clock.now < reach.AT_FIRST


# --- order ------------------------------------------------------------------------------------------------------

PARTS = st.text(alphabet="a!-0.é", min_size=1, max_size=3).filter(lambda part: part.strip("."))
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(max_examples=100, deadline=None)
@given(st.sets(KEYS, min_size=1, max_size=12))
def test_levels_come_in_the_order_of_the_folder(keys: set[str]) -> None:
    """A store that lists a folder at a time gives the byte order of whole paths, as a folder on disk does."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    files = {key for key in keys if not any(other.startswith(key + "/") for other in keys)}
    system = fsspec.filesystem("memory")
    system.pipe({f"/order/{key}": b"" for key in files})
    try:
        seen = [key for key in files if not any(part.startswith(".") for part in key.split("/"))]
        listed = [photo.key for photo in Listing(["memory://order"])]
        assert listed == sorted(seen, key=str.encode)
    finally:
        system.rm("/order", recursive=True)


@settings(max_examples=100, deadline=None)
@given(st.sets(KEYS, min_size=1, max_size=12), st.integers(1, 5))
def test_pages_come_in_the_order_of_the_folder(keys: set[str], length: int) -> None:
    """A store that lists whole trees; it may have ``a`` and ``a/b``, which no disk can."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    stored = sorted((f"order/{key}" for key in {*keys, "a/"}), key=str.encode)

    def ask(bucket: str, folder: str, token: str) -> Page:
        begin = int(token or 0)
        found = [(f"{bucket}/{key}", int(key[-1] != "/")) for key in stored[begin : begin + length]]
        return found, str(begin + length) if begin + length < len(stored) else ""

    seen = [key for key in keys if not any(part.startswith(".") for part in key.split("/"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_PAGES, "s3", ask)
        listed = [photo.key for photo in RemoteFolder("s3://bucket/order", "").photos()]
    assert listed == sorted(seen, key=str.encode)


def test_a_store_that_lists_in_no_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over its photos could not be continued."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    monkeypatch.setitem(_PAGES, "s3", lambda *_: ([("bucket/b.jpg", 1), ("bucket/a.jpg", 1)], ""))
    with pytest.raises(GenderclsError, match="it does not list in the order of its paths"):
        list(RemoteFolder("s3://bucket", "").photos())


# --- reading ahead ----------------------------------------------------------------------------------------------


def test_photos_in_a_store_are_read_before_their_turn(moody: SimpleNamespace, tmp_path: Path) -> None:
    """Those on disk pass by, in their place; a reader that is closed keeps nobody waiting."""
    (tmp_path / "b.jpg").write_bytes(b"disk")
    far = RemotePhoto("a.jpg", "moody://photos/a.jpg", 3)
    photos = [PhotoFile("b.jpg", os.fsencode(tmp_path / "b.jpg")), far, PhotoFile("c.jpg", b"/nothing"), far]
    readers = Readers(READERS)
    begun = list(read_ahead(iter(photos), readers))
    assert [photo.key for photo in begun] == ["b.jpg", "a.jpg", "c.jpg", "a.jpg"]
    assert begun[0] is photos[0]
    assert (begun[0].read(), begun[1].read(), begun[3].read()) == (b"disk", b"abc", b"abc")
    assert begun[1].held == 3
    readers.close()


def test_no_more_is_begun_than_is_bounded() -> None:
    """However long the listing is."""
    seen = 0

    def photos() -> Iterator[RemotePhoto]:
        nonlocal seen
        while True:
            seen += 1
            yield RemotePhoto("a.jpg", "nostore://a.jpg", 100 << 20)

    readers = Readers(2)
    next(read_ahead(photos(), readers))
    assert seen == 3  # 256 MB
    readers.close()
