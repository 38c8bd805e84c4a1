"""Small files that would cost much: refused, or no more than their first picture is looked at."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gendercls.images import decode

FRAMES, DIRECTORIES = 5_000_000, 500_000
SECONDS = 4  # of the processor; to go through all of them takes three times as long


def png_of_zeros(width: int, height: int) -> bytes:
    """A sound one-bit PNG of that size; 20,000×20,000 of them are 50 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * ((width + 7) // 8 + 1)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bound", ["Image.MAX_IMAGE_PIXELS", "None"])
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path, bound: str) -> None:
    """20,000×20,000 pixels are refused by the header alone, growing by less than 20 MB, whatever Pillow's bound."""
    assert decode(png_of_zeros(20, 20)).size == (20, 20)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_of_zeros(20_000, 20_000))
    script = f"""
import resource, sys
from pathlib import Path
from PIL import Image
from gendercls.errors import PhotoError
from gendercls.images import decode
Image.MAX_IMAGE_PIXELS = {bound}
data = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(data)
except PhotoError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script, bomb], capture_output=True, text=True, check=True)
    reason, grown = done.stdout.splitlines()
    assert reason == "more than 178 million pixels"
    assert int(grown) < 20_000


def gif_of_frames() -> bytes:
    """Frames of one pixel."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * FRAMES + b"\x3b"


def tiff_of_directories() -> bytes:
    """Directories of one grey pixel each."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    first, size = 16, 2 + len(entries) + 4
    following = [*(first + size * number for number in range(1, DIRECTORIES)), 0]
    chain = b"".join(struct.pack("<H", len(tags)) + entries + struct.pack("<I", place) for place in following)
    return b"II*\x00" + struct.pack("<I", first) + b"\x80" + bytes(7) + chain


@pytest.mark.parametrize("make", [gif_of_frames, tiff_of_directories])
def test_of_a_long_chain_the_first_picture_counts(tmp_path: Path, make: Callable[[], bytes]) -> None:
    """The process would be killed if it went through all of them."""
    path = tmp_path / "chain"
    path.write_bytes(make())
    script = "import sys, pathlib, gendercls.images as i; print(i.decode(pathlib.Path(sys.argv[1]).read_bytes()).size)"
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
    )
    assert (done.returncode, done.stdout) == (0, "(1, 1)\n"), done.stderr
