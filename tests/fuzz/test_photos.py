"""Damaged photos of every format: a row each, no crash, nothing that never ends. benchmarks/fuzz.py does many more."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from gendercls.images import decode


def test_every_damaged_photo_has_its_row(
    celeba: Path, run_benchmark: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Some keep an answer, most have a reason, and all formats are among them."""
    done = run_benchmark("fuzz.py", celeba / "img_align_celeba", "--files", 1000, "--seed", 11)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert [said[key] for key in ("files", "rows", "without_a_row", "crashed", "never_ended")] == [1000, 1000, 0, 0, 0]
    assert min(said["reasons"]["an answer"], said["reasons"]["damaged photo"]) > 100


def test_a_folder_as_it_is(tmp_path: Path, run_benchmark: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """With --as-is the files below the folder are taken undamaged, but hidden ones, and the slowest is named."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "=good.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / ".hidden.png").write_bytes(b"")
    done = run_benchmark("fuzz.py", tmp_path, "--as-is")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert [said[key] for key in ("files", "rows", "without_a_row", "crashed", "never_ended")] == [2, 2, 0, 0, 0]
    assert said["reasons"] == {"an answer": 1, "no photo inside": 1}
    assert said["slowest"]["file"] in ("a/=good.png", "broken.jpg")


def test_grey_that_is_multiplied_by_its_alpha_is_read() -> None:
    """As libtiff's own test images have it; half transparent black is grey on white."""
    written = io.BytesIO()
    Image.new("LA", (4, 4), (0, 128)).save(written, "TIFF")
    as_it_is, multiplied = (struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1))
    assert as_it_is in written.getvalue()
    content = written.getvalue().replace(as_it_is, multiplied)
    assert Image.open(io.BytesIO(content)).mode == "La"
    assert decode(content).getpixel((0, 0)) == (127, 127, 127)
