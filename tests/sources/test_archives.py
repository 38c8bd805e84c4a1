"""Photos in archives: the bytes that a folder of them gives, a row for each, and nothing lost of a broken one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.errors import NotAPhotoError, PhotoError
from gendercls.sources import Listing, Photo

PHOTO = b"\xff\xd8\xff" + random.Random(1).randbytes(5000)  # noqa: S311
COMPRESSED = {".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}


def content(photo: Photo) -> bytes | str:
    """A photo's bytes, or why there are none."""
    try:
        return photo.read()
    except PhotoError as error:
        return error.what


def contents(*arguments: Path) -> dict[str, bytes | str]:
    """What each photo of a listing gives, by what its key has after the archive's name."""
    return {photo.key.partition("!/")[2]: content(photo) for photo in Listing([str(path) for path in arguments])}


def make_tar(path: Path, members: dict[str, bytes], mode: str = "") -> Path:
    """A tar of these members, in their order."""
    with tarfile.open(path, f"w:{mode}") as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members, in their order."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# --- what is there ----------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["a", "!", "-", "0", "é", "x" * 120]), min_size=1, max_size=3).map("".join)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
MEMBERS = st.dictionaries(PATHS, st.binary(max_size=2000), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(members=MEMBERS, method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_a_zip_gives_each_member_in_the_order_of_its_path(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], method: int
) -> None:
    path = make_zip(tmp_path_factory.mktemp("zip") / "p.zip", members, method)
    found = contents(path)
    assert found == members
    assert list(found) == sorted(members, key=str.encode)


@settings(max_examples=60, deadline=None)
@given(members=MEMBERS, suffix=st.sampled_from([".tar", *COMPRESSED]))
def test_a_tar_gives_each_member_in_its_own_order(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], suffix: str
) -> None:
    path = make_tar(tmp_path_factory.mktemp("tar") / f"p{suffix}", members, COMPRESSED.get(suffix, ""))
    found = contents(path)
    assert found == members
    assert list(found) == list(members)


def test_keys_begin_with_the_archive_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_zip(tmp_path / "p.zip", {"a/b.jpg": PHOTO})
    assert [photo.key for photo in Listing(["p.zip"])] == ["p.zip!/a/b.jpg"]
    assert [photo.key for photo in Listing(["./p.zip"])] == ["./p.zip!/a/b.jpg"]


def test_hidden_members_and_folders_have_no_rows(tmp_path: Path) -> None:
    members = {"a/": b"", "a/b.jpg": PHOTO, "__MACOSX/a/._b.jpg": b"x", ".git/config": b"x"}
    assert list(contents(make_zip(tmp_path / "p.zip", members))) == ["a/b.jpg"]
    assert list(contents(make_tar(tmp_path / "p.tar", {k: v for k, v in members.items() if v}))) == ["a/b.jpg"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    r"""Bytes that are not UTF-8 are written as ``\xNN``; UTF-8 that its zip does not declare is UTF-8 all the same."""
    path = make_zip(tmp_path / "p.zip", {"caf_.jpg": PHOTO, "th__.jpg": PHOTO})
    data = path.read_bytes().replace(b"caf_.jpg", b"caf\xe9.jpg").replace(b"th__.jpg", "thé.jpg".encode())
    path.write_bytes(data)
    assert contents(path) == {"caf\\xe9.jpg": PHOTO, "thé.jpg": PHOTO}
    with tarfile.open(tmp_path / "p.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(os.fsdecode(b"caf\xe9.jpg")))
    assert list(contents(tmp_path / "p.tar")) == ["caf\\xe9.jpg"]


def test_a_member_with_a_long_extra_field(tmp_path: Path) -> None:
    """A local header may be longer than the archive's directory tells."""
    info = zipfile.ZipInfo("a.jpg")
    info.extra = b"\xfe\xca" + (4000).to_bytes(2, "little") + b"\0" * 4000
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(info, PHOTO)
    assert contents(tmp_path / "p.zip") == {"a.jpg": PHOTO}


# --- what an honest archive does not have -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "b/../../a.jpg"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_path_that_leads_out_is_a_row_and_not_read(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    path = make(tmp_path / ("p.zip" if make is make_zip else "p.tar"), {name: PHOTO, "z.jpg": PHOTO})
    assert contents(path) == {name: "its path leads out of the archive", "z.jpg": PHOTO}


def test_links_devices_and_pipes_in_a_tar(tmp_path: Path) -> None:
    kinds = {"s.jpg": tarfile.SYMTYPE, "h.jpg": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "dev": tarfile.CHRTYPE}
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    link = "a link in an archive is not followed"
    not_a_photo = NotAPhotoError().what
    assert contents(tmp_path / "p.tar") == {"s.jpg": link, "h.jpg": link, "fifo": not_a_photo, "dev": not_a_photo}


def test_an_encrypted_member_is_a_row(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"a.jpg": PHOTO})
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1  # the flag in the archive's directory
    path.write_bytes(data)
    assert contents(path) == {"a.jpg": "encrypted in the archive"}


def test_another_kind_of_packing_is_a_row(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"a.jpg": PHOTO}, zipfile.ZIP_LZMA)
    assert contents(path) == {"a.jpg": "packed in a way that is not read here: method 14"}


def test_a_member_larger_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """A bomb: what is unpacked ends one byte after what the directory promised."""
    path = make_zip(tmp_path / "p.zip", {"a.jpg": b"\0" * 50_000_000})
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02") + 24
    data[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    assert contents(path) == {"a.jpg": "damaged in the archive: its check sum is another"}


def test_a_member_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"a.jpg": PHOTO, "b.txt": PHOTO})
    data = bytearray(path.read_bytes())
    for name in (b"a.jpg", b"b.txt"):
        place = data.rfind(name) - 46 + 24
        data[place : place + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    assert contents(path) == {"a.jpg": "larger than 512 MB", "b.txt": "not a photo"}


def test_a_directory_of_too_many_members_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    size = 600_000_000
    with path.open("wb") as file:  # sparse: it takes no disk
        file.truncate(size)
        file.seek(size)
        file.write(b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + size.to_bytes(4, "little") + bytes(6))
    (only,) = Listing([str(path)])
    assert "more than 10,000,000 members" in str(content(only))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_asks_for_gigabytes_is_not_followed(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = kind, 4 << 30
    (tmp_path / "p.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    (only,) = Listing([str(tmp_path / "p.tar")])
    assert str(content(only)).endswith("a header gives a size of 4,294,967,296")


def test_a_tar_of_a_negative_size_ends(tmp_path: Path) -> None:
    """It would lead tarfile back to itself for ever."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "p.tar").write_bytes(bytes(header) + bytes(10240))
    (only,) = Listing([str(tmp_path / "p.tar")])
    assert "a header gives a size of -" in str(content(only))


# --- broken ones ------------------------------------------------------------------------------------------------

SOUND = {f"{number}.jpg": PHOTO for number in range(5)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_tar_cut_anywhere_gives_what_is_whole_and_says_so(tmp_path: Path, suffix: str) -> None:
    whole = make_tar(tmp_path / f"whole{suffix}", SOUND, COMPRESSED.get(suffix, "")).read_bytes()
    last = len(whole) if suffix != ".tar" else 5 * (512 + -(-len(PHOTO) // 512) * 512)
    for size in range(0, last, 601):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole[:size])
        found = contents(cut)
        reason = str(found.pop(""))
        assert reason.startswith("damaged archive, what follows could not be read: "), size
        sound = {name: data for name, data in found.items() if data != "the archive ends within it"}
        assert sound == {name: SOUND[name] for name in sound}
        assert len(found) - len(sound) <= 1


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".tar.gz", gzip.compress), (".tar.bz2", bz2.compress), (".tar.xz", lzma.compress)]
)
def test_a_tar_compressed_in_several_pieces(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    """As programs do that compress on several cores."""
    whole = make_tar(tmp_path / "whole.tar", SOUND).read_bytes()
    path = tmp_path / f"p{suffix}"
    path.write_bytes(b"".join(pack(whole[begin : begin + 7000]) for begin in range(0, len(whole), 7000)))
    assert contents(path) == SOUND


def test_a_tar_with_a_damaged_header_does_not_end_in_silence(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar", SOUND)
    data = bytearray(path.read_bytes())
    data[2 * (512 + -(-len(PHOTO) // 512) * 512) + 20] ^= 0xFF
    path.write_bytes(data)
    found = contents(path)
    assert list(found) == ["0.jpg", "1.jpg", ""]
    assert "no member begins at byte" in str(found[""])


def test_a_zip_cut_or_hit_anywhere_never_gives_wrong_bytes(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", SOUND).read_bytes()
    chance = random.Random(3)  # noqa: S311
    for number in range(300):
        data = bytearray(whole[: chance.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(number % 3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        hit = tmp_path / "hit.zip"
        hit.write_bytes(data)
        found = contents(hit)
        assert found
        assert all(isinstance(answer, str) or answer == PHOTO for answer in found.values())


def test_what_is_no_archive_is_a_row(tmp_path: Path) -> None:
    for suffix in (".zip", ".tar", ".tar.gz"):
        (tmp_path / f"p{suffix}").write_bytes(b"no archive" * 200)
        (only,) = Listing([str(tmp_path / f"p{suffix}")])
        assert only.key == str(tmp_path / f"p{suffix}")
        assert str(content(only)).startswith("damaged archive")


def test_an_archive_that_goes_away_while_it_is_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", SOUND)
    photos = list(Listing([str(path)]))
    path.unlink()
    assert {content(photo) for photo in photos} == {"cannot be read: No such file or directory"}


def test_a_member_changed_after_the_listing_is_found(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"a.jpg": PHOTO}, zipfile.ZIP_STORED)
    (photo,) = Listing([str(path)])
    path.write_bytes(path.read_bytes().replace(PHOTO[:50], bytes(50)))
    assert content(photo) == "damaged in the archive: its check sum is another"
    assert zlib.crc32(PHOTO) != zlib.crc32(bytes(50) + PHOTO[50:])
