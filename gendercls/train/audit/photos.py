"""Each photo opened once: whether it can be used, and what finds its copies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing, decode
from gendercls.train.workers import worker_pool

HASH_SIDE = 16
"""Of the square of cosine coefficients that a perceptual hash is: 256 bits."""

THUMBNAIL_SIDE = 24
"""In pixels: small enough that JPEG's noise averages out, large enough that another photo of a person differs."""


@dataclass(frozen=True, slots=True)
class PhotoCheck:
    """What one look at a file gave.

    reason: why the photo cannot be used, empty where it can. digest: SHA-256 of its bytes, as hex digits.
    perceptual_hash: 32 bytes, one bit for each of the 16×16 lowest cosine coefficients, row by row. thumbnail: 24×24
    grey pixels, row by row. All but the reason are empty where the photo cannot be used.
    """

    reason: str
    digest: str
    perceptual_hash: bytes = b""
    thumbnail: bytes = b""


def check_photos(paths: Sequence[Path], preprocessing: Preprocessing) -> list[PhotoCheck]:
    """Decode every photo once, on all cores, as a model of that preprocessing would; in the order of the paths."""
    with worker_pool() as pool:
        return list(pool.map(_check_photo, paths, [preprocessing] * len(paths), chunksize=64))


def _check_photo(path: Path, preprocessing: Preprocessing) -> PhotoCheck:
    try:
        data = path.read_bytes()
        image = decode(data, name=path.name, at_least=(2 * preprocessing.width, 2 * preprocessing.height))
    except PhotoError as error:
        return PhotoCheck(error.what, "")
    except OSError as error:
        return PhotoCheck(error.strerror or str(error), "")
    return PhotoCheck("", hashlib.sha256(data).hexdigest(), perceptual_hash(image), thumbnail(image))


def perceptual_hash(image: Image.Image) -> bytes:
    """The signs of a photo's lowest frequencies, 32 bytes: they survive another size, quality or brightness.

    Source: Zauner 2010 (the hash based on the cosine transform), as the library ``imagehash`` computes it.
    """
    bits: NDArray[np.bool_] = imagehash.phash(image, hash_size=HASH_SIDE).hash
    return np.packbits(bits).tobytes()


def thumbnail(image: Image.Image) -> bytes:
    """The photo in grey at 24×24 pixels, whatever its shape: 576 bytes."""
    return image.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC).tobytes()
