"""Photos in zip and tar archives, which are never unpacked to disk.

A member's path is only a name here: nothing is written to it. Yet one that is absolute or leads out of its archive is
no name that an honest archive gives a photo, so it gets a row that says so and is not read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from gendercls.errors import GenderclsError, NotAPhotoError, PhotoError, one_line
from gendercls.sources.photo import MAX_BYTES, Held, Photo, Unreadable, readable_name, too_large
from gendercls.sources.store import File, LocalFile

_MOST_MEMBERS = 10_000_000
"""Of a zip archive, whose directory is held in memory: some 4 GB at that number."""

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _IS_UTF8 = 0x1, 0x800
_LOCAL_HEADER = 30  # bytes before the name; APPNOTE.TXT 4.3.7
_GUESS = 512  # bytes of name and extra field read along, so that one request is enough
_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_LARGEST_EXTENSION = 1 << 20  # bytes; a path has at most 4,096
_ZIP_DAMAGE = (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError)
_TAR_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A member of an uncompressed tar: bytes of a file, from begin to before end."""

    key: str
    path: str
    file: File
    begin: int
    end: int

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        data = self.file.read(self.begin, self.end)
        if len(data) != self.end - self.begin:
            raise PhotoError("the archive ends within it")
        return data


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member of a zip, as the archive's directory has it. begin: of its local header. packed, size: in bytes."""

    key: str
    path: str
    file: File
    begin: int
    packed: int
    size: int
    method: int
    crc: int

    @property
    def held(self) -> int:
        return 0

    def read(self) -> bytes:
        if self.size > MAX_BYTES or self.packed > MAX_BYTES:
            raise too_large(self.key)
        if self.method not in (_STORED, _DEFLATED):
            raise PhotoError(f"packed in a way that is not read here: method {self.method}")
        data = self._unpacked(self._packed())
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise PhotoError("damaged in the archive: its check sum is another")
        return data

    def _packed(self) -> bytes:
        head = self.file.read(self.begin, self.begin + _LOCAL_HEADER + _GUESS + self.packed)
        if len(head) < _LOCAL_HEADER or head[:4] != b"PK\x03\x04":
            raise PhotoError("damaged in the archive: no member begins there")
        names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        begin, end = _LOCAL_HEADER + names, _LOCAL_HEADER + names + self.packed
        if names > _GUESS:
            head += self.file.read(self.begin + len(head), self.begin + end)
        if len(head) < end:
            raise PhotoError("the archive ends within it")
        return head[begin:end]

    def _unpacked(self, packed: bytes) -> bytes:
        if self.method == _STORED:
            return packed
        try:
            # One byte more than promised tells a member that promised too little.
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        except zlib.error as error:
            raise PhotoError(f"damaged in the archive: {error}") from None


@dataclass(frozen=True, slots=True)
class ZipArchive:
    """A zip, its members in the order of their raw paths."""

    file: File

    @property
    def is_passing(self) -> bool:
        return False

    def photos(self) -> Iterator[Photo]:
        try:
            with closing(self.file.open()) as file:
                _check_directory(file)
                with zipfile.ZipFile(file) as archive:
                    members = sorted((_raw_name(info), info) for info in _files_in(archive))
        except _ZIP_DAMAGE as error:
            yield _broken(self.file, error)
            return
        for name, info in members:
            yield self._photo(name, info)

    def _photo(self, name: bytes, info: zipfile.ZipInfo) -> Photo:
        key, path = _named(self.file, name)
        if reason := _why_no_name(name):
            return Unreadable(key, path, reason)
        if info.flag_bits & _ENCRYPTED:
            return Unreadable(key, path, "encrypted in the archive")
        return ZipMember(
            key,
            path,
            self.file,
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.compress_type,
            info.CRC,
        )


@dataclass(frozen=True, slots=True)
class TarArchive:
    """A tar, compressed or not, its members in their own order.

    One that is not compressed and lies on disk is listed by its headers; of any other all bytes pass by.
    """

    file: File

    @property
    def is_passing(self) -> bool:
        return not (isinstance(self.file, LocalFile) and self.file.name.lower().endswith(".tar"))

    def photos(self) -> Iterator[Photo]:
        try:
            with (
                closing(self.file.open()) as file,
                closing(self._unpacked(file)) as stream,
                tarfile.open(fileobj=stream, mode=self._mode, tarinfo=_StrictInfo, bufsize=1 << 20) as archive,
            ):
                for info in archive:
                    # tarfile keeps all that it has seen, for a look-up that nobody makes here.
                    archive.members = []  # type: ignore[attr-defined]
                    name = info.name.encode("utf-8", "surrogateescape")
                    if not info.isdir() and not _is_hidden(name):
                        yield self._photo(archive, info, name)
        except _TAR_DAMAGE as error:
            yield _broken(self.file, error)

    @property
    def _mode(self) -> Any:
        return "r|" if self.is_passing else "r:"

    def _unpacked(self, file: BinaryIO) -> BinaryIO:
        """By these, since tarfile itself takes the end of the first of several compressed streams for the file's."""
        name = self.file.name.lower()
        if name.endswith("gz"):
            return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
        if name.endswith("bz2"):
            return bz2.BZ2File(file)  # type: ignore[return-value]
        return lzma.LZMAFile(file) if name.endswith("xz") else file  # type: ignore[return-value]

    def _photo(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: bytes) -> Photo:
        key, path = _named(self.file, name)
        if reason := _why_no_name(name) or _why_no_file(info):
            return Unreadable(key, path, reason)
        if info.size > MAX_BYTES:
            return Unreadable(key, path, too_large(key).what)
        if not self.is_passing:
            return Stretch(key, path, self.file, info.offset_data, info.offset_data + info.size)
        content = archive.extractfile(info)
        data = content.read() if content is not None else b""
        if len(data) != info.size:
            raise tarfile.ReadError("it ends within a member")
        return Held(key, path, data)


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive, and what follows would be lost; so is a cut one."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"no member begins at byte {archive.offset:,}: {error}") from None
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no end mark, so it may be cut") from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        # tarfile would walk backwards for ever, and hold a header's extension whole, however large.
        if info.size < 0 or (info.type in _EXTENSIONS and info.size > _LARGEST_EXTENSION):
            raise tarfile.ReadError(f"a header gives a size of {info.size:,}")
        return info


def _files_in(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    return (info for info in archive.infolist() if not info.is_dir() and not _is_hidden(_raw_name(info)))


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """A member's path as the archive has it: without its flag for UTF-8, zipfile has read it as code page 437."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & _IS_UTF8 else "cp437", "surrogateescape")


def _check_directory(file: BinaryIO) -> None:
    """Raises ValueError where a zip has more members than can be held; zipfile itself would try."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 66_000))  # the end record, and the longest comment after it: APPNOTE.TXT 4.3.16
    end = file.read()
    place = end.rfind(b"PK\x05\x06")
    directory = int.from_bytes(end[place + 12 : place + 16], "little") if place >= 0 else 0
    place = end.rfind(b"PK\x06\x06")  # of zip64: 4.3.14
    if place >= 0:
        directory = int.from_bytes(end[place + 40 : place + 48], "little")
    least = 46  # bytes of a directory's entry without its name: 4.3.12
    if min(directory, size) > _MOST_MEMBERS * least:
        raise ValueError(f"its directory may name more than {_MOST_MEMBERS:,} members")
    file.seek(0)


def _named(file: File, name: bytes) -> tuple[str, str]:
    """A member's key, and the path that labels are matched by."""
    key = f"{file.name}!/{readable_name(name)}"
    return key, key


def _is_hidden(name: bytes) -> bool:
    """As in folders; a name that leads elsewhere is none of these and gets its row."""
    return any(part.startswith(b".") and part not in (b".", b"..") for part in name.split(b"/"))


def _why_no_name(name: bytes) -> str:
    if name.startswith(b"/") or b".." in name.split(b"/"):
        return "its path leads out of the archive"
    return "its path holds a NUL" if b"\0" in name else ""


def _why_no_file(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link in an archive is not followed"
    if info.issparse():
        return "a sparse file in an archive is not read"
    return "" if info.isreg() else NotAPhotoError().what


def _broken(file: File, error: Exception) -> Unreadable:
    if isinstance(error, GenderclsError):
        raise error
    if isinstance(error, FileNotFoundError):
        return Unreadable(file.name, file.name, "cannot be read: No such file or directory")
    return Unreadable(file.name, file.name, f"damaged archive, what follows could not be read: {one_line(error, 200)}")
