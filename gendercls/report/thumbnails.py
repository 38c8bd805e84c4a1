"""Photos as small WebP images inside the page."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls import images
from gendercls.faces import Face, face_crop
from gendercls.images import Preprocessing
from gendercls.rows import Row
from gendercls.sources import Photo, PhotoFile

SIDE = 128
"""Pixels; a page of 24 stays well below a megabyte."""

LARGE = 512
"""Pixels of the longer side of a photo that is looked at by itself."""

AROUND = 0.5
"""How much of a face's box is shown on each side of it; more than models see, since hair and neck tell people more."""

_QUALITY = 80


def thumbnail(folder: Path, key: str, preprocessing: Preprocessing) -> str:
    """A photo as ``preprocessing`` fits it, as a WebP ``data:`` address.

    Args:
        folder: of the photos.
        key: the photo's path below it; bytes that are not UTF-8 are surrogates.

    Raises:
        PhotoError: it is not there, or no photo.
    """
    data = PhotoFile(key, os.fsencode(folder / key)).read()
    return _address(images.to_array(data, preprocessing, name=key))


def picture_of(row: Row, photo: Photo, longest: int) -> str:
    """A row's photo, the whole of it or its face in the middle of what is around it, as a WebP ``data:`` address.

    Args:
        longest: pixels of the longer side at most; it is never enlarged.

    Raises:
        PhotoError: it is not there, or no photo.
    """
    data = photo.read()
    if row.face:
        _, _, width, height = map(int, row.face[1:5])
        return _address(_face(row, data, min(longest, round(max(width, height) * (1 + 2 * AROUND)))))
    image = images.decode(data, name=row.path, at_least=(2 * longest, 2 * longest))
    scale = min(1.0, longest / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return _address(images.fit(image, Preprocessing("squash", height, width, "lanczos", 0)))


def _face(row: Row, data: bytes, side: int) -> NDArray[np.uint8]:
    x, y, width, height = map(int, row.face[1:5])
    image, size = images.decode_with_size(data, name=row.path)
    around = Preprocessing("squash", side, side, "lanczos", AROUND)
    return face_crop(image, size, Face(x, y, width, height, float(row.face[5])), around)


def _address(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
