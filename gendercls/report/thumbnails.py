"""Photos as small JPEG images inside the page."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from PIL import Image

from gendercls import images
from gendercls.images import Preprocessing
from gendercls.sources import PhotoFile

SIDE = 128
"""Pixels; a page of 24 stays well below a megabyte."""
_QUALITY = 80


def thumbnail(folder: Path, key: str, preprocessing: Preprocessing) -> str:
    """A photo as ``preprocessing`` fits it, as a JPEG ``data:`` address.

    Args:
        folder: of the photos.
        key: the photo's path below it; bytes that are not UTF-8 are surrogates.

    Raises:
        PhotoError: it is not there, or no photo.
    """
    data = PhotoFile(key, os.fsencode(folder / key)).read()
    buffer = io.BytesIO()
    Image.fromarray(images.to_array(data, preprocessing, name=key)).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
