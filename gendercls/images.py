"""Bytes → upright RGB → one uint8 array of the model's size. The only decode and resize in the project.

Training's evaluation, the export gate, ``classify`` and every worker call these two functions, so a photo is the
same array everywhere. Normalisation is not here: it is inside the model.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

# Importing a plugin registers its format; otherwise one unknown file makes Pillow load all its forty.
from PIL import AvifImagePlugin as AvifImagePlugin
from PIL import BmpImagePlugin as BmpImagePlugin
from PIL import GifImagePlugin as GifImagePlugin
from PIL import Image, UnidentifiedImageError, features
from PIL import JpegImagePlugin as JpegImagePlugin
from PIL import PngImagePlugin as PngImagePlugin
from PIL import TiffImagePlugin as TiffImagePlugin
from PIL import WebPImagePlugin as WebPImagePlugin

from gendercls.errors import NotAPhotoError, PhotoError

Fit = Literal["crop", "pad", "squash"]
Resampling = Literal["bilinear", "bicubic", "lanczos"]

MAX_PIXELS = 178_956_970
"""A photo of more pixels is refused before it is decoded: Pillow's own bound against decompression bombs."""

PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff"),
        *("avif", "avifs", "heic", "heif"),
    )
)
"""Names that promise a photo: when the content is none, that is a failure and not a stray file."""

# A multi-picture MPO is opened as a JPEG; AVIF only where Pillow was built with it.
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"] + (["AVIF"] if features.check("avif") else [])
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"}
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION_TAG = 0x0112
_TURNS = {  # EXIF 2.32, section 4.6.4 A, orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on bad bytes, beside its own errors.
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, ArithmeticError),
    *(MemoryError, AttributeError, RuntimeError, AssertionError),
)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an upright photo becomes the model's input; part of the model file's contract.

    fit: ``crop`` takes the largest centred region of the model's shape, ``pad`` keeps the whole photo on grey,
    ``squash`` stretches it. height, width: the model's size in pixels. face_margin: how much of a face box's
    width and height is added on each side before it is cropped.
    """

    fit: Fit
    height: int
    width: int
    resampling: Resampling
    face_margin: float

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit is {self.fit!r}; it must be one of {', '.join(get_args(Fit))}")
        if self.resampling not in get_args(Resampling):
            raise ValueError(f"resampling is {self.resampling!r}; it must be one of {', '.join(get_args(Resampling))}")
        if not (1 <= self.height <= 4096 and 1 <= self.width <= 4096):
            raise ValueError(f"size is {self.height}×{self.width}; each side must be 1 to 4096 pixels")
        if not 0 <= self.face_margin <= 4:
            raise ValueError(f"face_margin is {self.face_margin}; it must be 0 to 4")


def decode(data: bytes, *, name: str = "", at_least: tuple[int, int] | None = None) -> Image.Image:
    """An upright 8-bit RGB image from a file's bytes: the first frame of an animation, alpha laid on white.

    Args:
        data: the whole file.
        name: the file's name; a photo's suffix on something that is no photo makes it a failure.
        at_least: (width, height) in pixels that the upright image must keep; a JPEG larger than that is decoded
            at 1/2, 1/4 or 1/8 of its size, which costs a fraction of the time. None decodes in full.

    Raises:
        NotAPhotoError: the content is none of the formats read here, and the name promises nothing else.
        PhotoError: the content is empty, damaged, too large, or no photo although its name says so.
    """
    return decode_with_size(data, name=name, at_least=at_least)[0]


def decode_with_size(
    data: bytes, *, name: str = "", at_least: tuple[int, int] | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """As `decode`, and the (width, height) that the upright photo has in full, whatever it was reduced to."""
    try:
        return _upright_rgb(_open(data, name), at_least)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise _too_large() from None
    except _DECODER_ERRORS as error:
        raise PhotoError("damaged photo: " + _one_line(error)) from error


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The image at the model's size, resized with antialiasing: uint8 ``[H, W, 3]`` RGB, 0 to 255.

    Args:
        image: an upright RGB image, as `decode` gives it.
        preprocessing: fit, size and resampling of the model.
    """
    size = (preprocessing.width, preprocessing.height)
    resampling = _RESAMPLING[preprocessing.resampling]
    if preprocessing.fit == "squash":
        resized = image.resize(size, resampling)
    elif preprocessing.fit == "crop":
        resized = image.resize(size, resampling, box=centre_box(image.size, size))
    else:
        resized = _pad(image, size, resampling)
    return np.asarray(resized)


def to_array(data: bytes, preprocessing: Preprocessing, *, name: str = "") -> NDArray[np.uint8]:
    """`decode` at the scale the model needs, then `fit`: uint8 ``[H, W, 3]``. Raises as `decode` does."""
    # Twice the model's size leaves the antialiased resize enough to work on after JPEG's own coarse reduction.
    return fit(decode(data, name=name, at_least=(2 * preprocessing.width, 2 * preprocessing.height)), preprocessing)


def centre_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred box of the target's shape in an image of that size: left, top, right, bottom in pixels."""
    width, height = size
    scale = min(width / target[0], height / target[1])
    box_width, box_height = target[0] * scale, target[1] * scale
    left, top = max(0.0, (width - box_width) / 2), max(0.0, (height - box_height) / 2)  # rounding may fall below 0
    return left, top, min(left + box_width, width), min(top + box_height, height)


def _pad(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """As ImageOps.pad, which loses a photo so narrow that its short side would round to no pixel."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGB", size, (128, 128, 128))
    canvas.paste(image.resize(inner, resampling), (round((size[0] - inner[0]) / 2), round((size[1] - inner[1]) / 2)))
    return canvas


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise PhotoError("empty file") if promises_photo(name) else NotAPhotoError()
    formats = list(_FORMATS)
    if _is_heif(data):
        _register_heif()
        formats.append("HEIF")
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if promises_photo(name):
            suffix = name[name.rindex(".") :]
            raise PhotoError(f"no photo inside: named {suffix}") from None
        raise NotAPhotoError() from None
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    return image


def _is_heif(data: bytes) -> bool:
    """By the brands at its head. An AVIF may lead with the container's own, which HEIC shares; Pillow reads it."""
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return data[4:8] == b"ftyp" and brands[:4] in _HEIF_BRANDS and b"avif" not in brands


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise PhotoError("HEIC photo: needs pip install 'gendercls[heif]'") from None
    pillow_heif.register_heif_opener()


def _upright_rgb(image: Image.Image, at_least: tuple[int, int] | None) -> tuple[Image.Image, tuple[int, int]]:
    reduced_from = None
    if at_least is not None and image.format in ("JPEG", "MPO"):
        on_its_side = _orientation(image) in (5, 6, 7, 8)  # width and height change places
        reduced_from = image.size[::-1] if on_its_side else image.size
        image.draft("RGB", at_least[::-1] if on_its_side else at_least)
    image.load()
    # Read after loading: Pillow turns TIFF and AVIF by itself and takes the tag away.
    turn = _TURNS.get(_orientation(image))
    upright = _rgb(image) if turn is None else _rgb(image).transpose(turn)
    return upright, reduced_from or upright.size


def _orientation(image: Image.Image) -> int:
    """What EXIF says, 1 to 8 when it is sound; a photo whose EXIF is broken is taken as it is stored."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit_grey(image).convert("RGB")
    if image.mode == "La":  # of a TIFF; Pillow turns it into nothing else but LA
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey by its high byte; float grey as 0 to 1 where it stays within, else as 0 to 255."""
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values).clip(0, 255)
        scaled = values * 255 if values.max() <= 1 else values
    else:
        scaled = values / 257 if values.max() > 255 or image.mode.startswith("I;16") else values
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def promises_photo(name: str) -> bool:
    """Whether a file's name ends as photos' names do."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in PHOTO_SUFFIXES


def _too_large() -> PhotoError:
    return PhotoError(f"more than {MAX_PIXELS // 1_000_000} million pixels")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
