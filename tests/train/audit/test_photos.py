"""Each photo opened once: reasons, digests, and what finds copies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gendercls.images import Preprocessing
from gendercls.train.audit.photos import PhotoCheck, check_photos

PREPROCESSING = Preprocessing("crop", 128, 128, "bicubic", 0.25)


def test_good_photos_have_digest_hash_and_thumbnail(celeba: Path) -> None:
    """A photo that can be used has no reason, the SHA-256 of its bytes, 32 bytes of hash and 576 of thumbnail."""
    path = celeba / "img_align_celeba" / "000001.jpg"
    (check,) = check_photos([path], PREPROCESSING)
    assert (check.reason, check.digest) == ("", hashlib.sha256(path.read_bytes()).hexdigest())
    assert (len(check.perceptual_hash), len(check.thumbnail)) == (32, 24 * 24)


def test_photos_that_cannot_be_used_say_why(celeba: Path, tmp_path: Path) -> None:
    """A missing, an empty, a truncated and a foreign file have a reason and nothing else, in the order of the paths."""
    whole = (celeba / "img_align_celeba" / "000001.jpg").read_bytes()
    for name, content in (("empty.jpg", b""), ("cut.jpg", whole[:1500]), ("text.jpg", b"hello"), ("whole.jpg", whole)):
        (tmp_path / name).write_bytes(content)
    names = ["missing.jpg", "empty.jpg", "whole.jpg", "cut.jpg", "text.jpg"]
    checks = check_photos([tmp_path / name for name in names], PREPROCESSING)
    reasons = [check.reason for check in checks]
    assert reasons[:3] == ["No such file or directory", "empty file", ""]
    assert reasons[3].startswith("damaged photo: image file is truncated")
    assert reasons[4] == "no photo inside: named .jpg"
    assert [check for check in checks if check.reason] == [PhotoCheck(reason, "") for reason in reasons if reason]
