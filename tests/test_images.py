"""A photo becomes an array: contract 1."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, features

from gendercls import images
from gendercls.errors import NotAPhotoError, PhotoError
from gendercls.images import Preprocessing, decode, fit, to_array

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
needs_ycbcr = pytest.mark.skipif(int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow 12 cannot read such TIFF")
MODEL = Preprocessing("crop", height=96, width=160, resampling="bicubic", face_margin=0.25)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(image: Image.Image, expected: Image.Image | NDArray[Any]) -> float:
    """Mean absolute difference of two pictures of one size, 0 to 255."""
    got, wanted = np.asarray(image).astype(float), np.asarray(expected).astype(float)
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).mean())


@pytest.fixture(scope="session")
def photo(celeba: Path) -> Image.Image:
    """A real upright photo, 89×109, RGB."""
    with Image.open(celeba / "img_align_celeba" / "000011.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def crowd(shared: Path) -> Image.Image:
    """A real photo with much detail, 1024 pixels wide."""
    with Image.open(min((shared / "wider-100" / "images").iterdir())) as image:
        return image.convert("RGB")


# --- orientation ------------------------------------------------------------------------------------------------

# EXIF 2.32, section 4.6.4 A: the side of the upright picture that the stored row 0 and the stored column 0 show.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The picture as a camera that writes this orientation stores it."""
    row, column = ORIENTATIONS[orientation]
    pixels = np.asarray(upright)
    pixels = pixels if row in ("top", "bottom") else pixels.swapaxes(0, 1)
    pixels = pixels[::-1] if row in ("bottom", "right") else pixels
    return Image.fromarray(np.ascontiguousarray(pixels[:, ::-1] if column in ("bottom", "right") else pixels))


def orientation_tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    ("kind", "options", "allowed"),
    [
        pytest.param("JPEG", {"quality": 95}, 2, id="jpeg"),
        pytest.param("PNG", {}, 0, id="png"),
        pytest.param("WEBP", {"lossless": True}, 0, id="webp"),
        pytest.param("TIFF", {}, 0, id="tiff"),
        pytest.param("AVIF", {"quality": 95, "speed": 10}, 2, id="avif", marks=needs_avif),
    ],
)
def test_every_orientation_is_turned_upright(
    photo: Image.Image, kind: str, options: dict[str, Any], allowed: float, orientation: int
) -> None:
    """All eight EXIF orientations give the same upright picture, in each format that carries EXIF."""
    data = encoded(stored(photo, orientation), kind, exif=orientation_tag(orientation), **options)
    assert difference(decode(data), photo) <= allowed


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*", b"Exif\0\0no TIFF header", b"Exif\0\0"])
def test_broken_exif_leaves_the_photo_readable(photo: Image.Image, kind: str, exif: bytes) -> None:
    """A photo whose EXIF cannot be parsed is taken as it is stored."""
    assert difference(decode(encoded(photo, kind, exif=exif)), photo) < 10


# --- modes and formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind", "options", "allowed"),
    [
        pytest.param("CMYK", "JPEG", {"quality": 95}, 3, id="cmyk-jpeg"),
        pytest.param("CMYK", "TIFF", {}, 0, id="cmyk-tiff"),
        pytest.param("L", "JPEG", {"quality": 95}, 2, id="grey-jpeg"),
        pytest.param("L", "PNG", {}, 0, id="grey-png"),
        pytest.param("1", "PNG", {}, 0, id="one-bit-png"),
        pytest.param("P", "PNG", {}, 0, id="palette-png"),
        pytest.param("P", "GIF", {}, 0, id="gif"),
        pytest.param("P", "BMP", {}, 0, id="palette-bmp"),
        pytest.param("RGB", "BMP", {}, 0, id="bmp"),
        pytest.param("RGB", "PNG", {}, 0, id="png"),
        pytest.param("RGB", "TIFF", {"compression": "tiff_lzw"}, 0, id="lzw-tiff"),
        pytest.param("YCbCr", "TIFF", {}, 2, id="ycbcr-tiff", marks=needs_ycbcr),
        pytest.param("RGB", "JPEG", {"quality": 95, "progressive": True}, 2, id="progressive-jpeg"),
        pytest.param("RGB", "WEBP", {"quality": 95}, 4, id="webp"),
        pytest.param("RGB", "AVIF", {"quality": 95, "speed": 10}, 2, id="avif", marks=needs_avif),
    ],
)
def test_every_mode_becomes_rgb(
    photo: Image.Image, mode: str, kind: str, options: dict[str, Any], allowed: float
) -> None:
    """Whatever mode and format a photo is kept in, its decoded picture is 8-bit RGB and looks the same."""
    changed = photo.convert(mode)
    image = decode(encoded(changed, kind, **options))
    assert image.mode == "RGB"
    assert difference(image, changed.convert("RGB")) <= allowed


@pytest.mark.parametrize(
    ("dtype", "scale", "kind"),
    [
        pytest.param("<u2", 257, "PNG", id="16-bit-png"),
        pytest.param("<u2", 257, "TIFF", id="16-bit-tiff"),
        pytest.param(">u2", 257, "TIFF", id="16-bit-big-endian-tiff"),
        pytest.param("<i4", 257, "TIFF", id="32-bit-tiff-to-65535"),
        pytest.param("<i4", 1, "TIFF", id="32-bit-tiff-to-255"),
        pytest.param("<f4", 1 / 255, "TIFF", id="float-tiff-to-1"),
        pytest.param("<f4", 1, "TIFF", id="float-tiff-to-255"),
    ],
)
def test_deep_grey_keeps_its_brightness(photo: Image.Image, dtype: str, scale: float, kind: str) -> None:
    """Grey of 16 and 32 bits and of floats comes out as the same grey of 8 bits."""
    grey = np.asarray(photo.convert("L"))
    deep = Image.fromarray((grey.astype(np.float64) * scale).astype(dtype))
    image = decode(encoded(deep, kind))
    assert image.mode == "RGB"
    for channel in image.split():
        assert np.abs(np.asarray(channel).astype(int) - grey).max() <= 1


def test_a_dark_16_bit_photo_stays_dark() -> None:
    """A 16-bit photo whose brightest value is 255 of 65,535 is black and not taken for one of 8 bits."""
    dark = Image.fromarray(np.full((2, 2), 255, np.uint16))
    assert np.asarray(decode(encoded(dark, "PNG"))).max() == 0


def test_float_grey_without_a_number_is_black() -> None:
    """Pixels of a float TIFF that are no number come out black, infinite ones white."""
    values = np.array([[np.nan, np.inf], [-np.inf, 128.0]], np.float32)
    pixels = np.asarray(decode(encoded(Image.fromarray(values), "TIFF")))
    assert pixels[..., 0].tolist() == [[0, 255], [0, 128]]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert np.asarray(decode(encoded(nothing, "TIFF"))).max() == 0


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "TIFF")]
)
def test_alpha_is_laid_on_white(photo: Image.Image, mode: str, kind: str) -> None:
    """A transparent pixel is white, an opaque one itself, and one in between is mixed."""
    alpha = np.tile(np.linspace(0, 255, photo.width).astype(np.uint8), (photo.height, 1))
    colour = photo.convert(mode.removesuffix("A") or "RGB")
    layered = colour.copy()
    layered.putalpha(Image.fromarray(alpha))
    data = encoded(layered, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    share = alpha[..., None] / 255
    mixed = np.asarray(colour.convert("RGB")) * share + 255 * (1 - share)
    assert np.abs(np.asarray(decode(data)) - mixed).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_white(mode: str) -> None:
    """A PNG that names one of its colours transparent shows white there and the other colours as they are."""
    image = Image.new("RGB", (2, 1), (10, 10, 10))
    image.putpixel((1, 0), (200, 200, 200))
    changed = image.quantize(2) if mode == "P" else image.convert(mode)
    data = encoded(changed, "PNG", transparency=changed.getpixel((0, 0)))
    assert np.asarray(decode(data)).tolist() == [[[255, 255, 255], [200, 200, 200]]]


@pytest.mark.parametrize(
    ("kind", "mode", "options", "allowed"),
    [
        pytest.param("GIF", "P", {"duration": 40}, 0, id="gif"),
        pytest.param("WEBP", "RGB", {"duration": 40, "lossless": True}, 0, id="webp"),
        pytest.param("PNG", "RGB", {"duration": 40}, 0, id="apng"),
        pytest.param("MPO", "RGB", {"quality": 95}, 2, id="mpo"),
        pytest.param("TIFF", "RGB", {}, 0, id="tiff"),
        pytest.param("AVIF", "RGB", {"duration": 40, "quality": 95, "speed": 10}, 3, id="avif", marks=needs_avif),
    ],
)
def test_of_several_pictures_the_first_counts(
    photo: Image.Image, kind: str, mode: str, options: dict[str, Any], allowed: float
) -> None:
    """An animation or a file of several pictures is its first picture."""
    first, second = photo.convert(mode), ImageChops.invert(photo).convert(mode)
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 2
    assert difference(decode(data), first.convert("RGB")) <= allowed


@needs_avif
def test_avif_may_call_itself_mif1(photo: Image.Image) -> None:
    """An AVIF whose major brand is the container's is read as AVIF and not taken for HEIC."""
    data = encoded(photo, "AVIF", quality=95, speed=10)
    assert difference(decode(data[:8] + b"mif1" + data[12:]), photo) <= 2


# --- what is no photo -------------------------------------------------------------------------------------------

HEIC_HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db", "README", "photos.jpg/README", ""])
@pytest.mark.parametrize("data", [b"", b"dear diary", b"\xff\xd8", bytes(1000)], ids=["empty", "text", "stub", "zeros"])
def test_a_stray_file_is_not_a_photo(data: bytes, name: str) -> None:
    """A file that is no photo and is not named like one is no failure."""
    with pytest.raises(NotAPhotoError) as caught:
        decode(data, name=name)
    assert str(caught.value) == "not a photo"


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        pytest.param(b"", "a.jpg", "empty file", id="empty"),
        pytest.param(b"dear diary", "a/b.JPG", "no photo inside: named .JPG", id="text-as-jpg"),
        pytest.param(b"\x89PNG", "a.x.png", "no photo inside: named .png", id="cut-in-its-magic"),
    ],
)
def test_a_name_that_promises_a_photo_makes_it_a_failure(data: bytes, name: str, reason: str) -> None:
    """A file named like a photo that is none is a failure that says why."""
    with pytest.raises(PhotoError) as caught:
        decode(data, name=name)
    assert not isinstance(caught.value, NotAPhotoError)
    assert str(caught.value) == reason


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a"])
def test_heic_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A HEIC photo says which extra reads it, whatever it is named."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=re.escape("HEIC photo: needs pip install 'gendercls[heif]'") + "$"):
        decode(HEIC_HEADER, name=name)


@pytest.mark.parametrize("name", ["a.jpg", "a.txt", ""])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_off_photo_is_refused_and_not_half_shown(photo: Image.Image, kept: float, name: str) -> None:
    """A JPEG that ends too early is a damaged photo, said in one line."""
    data = encoded(photo, "JPEG", quality=95)
    with pytest.raises(PhotoError) as caught:
        decode(data[: int(kept * len(data))], name=name)
    assert re.fullmatch(r"damaged photo: image file is truncated \(\d+ bytes not processed\)", str(caught.value))


@pytest.mark.parametrize(("words", "reason"), [("two\n  lines\n", "two lines"), ("", "OSError")])
def test_a_decoders_words_are_one_line(monkeypatch: pytest.MonkeyPatch, words: str, reason: str) -> None:
    """What a decoder says becomes one line, and one that says nothing is named."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(words)

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(PhotoError) as caught:
        decode(b"bytes", name="a.jpg")
    assert str(caught.value) == f"damaged photo: {reason}"


def _seeds() -> list[bytes]:
    generator = np.random.default_rng(5)
    image = Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8))
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"] + ["AVIF"] * bool(features.check("avif"))
    plain = [encoded(image, kind) for kind in kinds]
    turned = [encoded(image, kind, exif=orientation_tag(6)) for kind in kinds if kind not in ("GIF", "BMP")]
    return [b"", *plain, *turned, encoded(image.convert("P"), "PNG"), encoded(image.convert("CMYK"), "JPEG")]


SEEDS = _seeds()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Sound files with bytes changed, cut and appended, down to nothing but noise."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for place, value in draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)):
        if data:
            data[int(place * len(data))] = value
    kept = draw(st.one_of(st.just(1.0), st.floats(0, 1)))
    return bytes(data[: int(kept * len(data))]) + draw(st.binary(max_size=40))


@pytest.mark.filterwarnings("ignore")  # Pillow's own words about damaged files
@settings(max_examples=300, deadline=None)
@given(data=damaged_files(), name=st.sampled_from(["a.jpg", "a.txt"]))
def test_no_bytes_raise_anything_but_a_photo_error(data: bytes, name: str) -> None:
    """Whatever a file holds, it becomes an array of the model's size or a reason in one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 1_000_000)  # a changed size must not cost the test its memory
        try:
            array, reason = to_array(data, MODEL, name=name), ""
        except PhotoError as error:
            array, reason = None, str(error)
    if array is None:
        assert len(reason.splitlines()) == 1
    else:
        assert array.shape == (96, 160, 3)


# --- reduced decoding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(4000, 3000), (1000, 750)])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("how", ["crop", "pad", "squash"])
def test_reduced_decoding_shows_the_same_picture(
    crowd: Image.Image, how: images.Fit, orientation: int, size: tuple[int, int]
) -> None:
    """A JPEG of 12 or 0.75 megapixels through `to_array` differs from a full decode by less than one level."""
    large = crowd.resize(size, Image.Resampling.LANCZOS)
    preprocessing = Preprocessing(how, height=96, width=160, resampling="bicubic", face_margin=0.25)
    data = encoded(stored(large, orientation), "JPEG", quality=90, exif=orientation_tag(orientation))
    reduced, full = to_array(data, preprocessing), fit(decode(data), preprocessing)
    assert (reduced.shape, reduced.dtype) == ((96, 160, 3), np.uint8)
    assert np.abs(reduced.astype(int) - full).mean() < 1


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    at_least=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    orientation=st.sampled_from([1, 6]),
)
def test_reduced_decoding_keeps_enough(size: tuple[int, int], at_least: tuple[int, int], orientation: int) -> None:
    """Neither side of the upright picture falls below what is asked, unless the photo itself is smaller."""
    data = encoded(stored(Image.new("RGB", size), orientation), "JPEG", exif=orientation_tag(orientation))
    width, height = decode(data, at_least=at_least).size
    assert width >= min(size[0], at_least[0])
    assert height >= min(size[1], at_least[1])


def test_reduced_decoding_reduces() -> None:
    """A large JPEG is decoded at the smallest eighth that suffices."""
    data = encoded(Image.new("RGB", (1600, 1200)), "JPEG")
    assert decode(data, at_least=(200, 150)).size == (200, 150)
    assert decode(data, at_least=(201, 150)).size == (400, 300)
    assert decode(data).size == (1600, 1200)


# --- fit --------------------------------------------------------------------------------------------------------

sides = st.integers(1, 300)
COLOUR = (200, 30, 90)
GREY = (128, 128, 128)


@settings(max_examples=400, deadline=None)
@given(
    size=st.tuples(sides, sides),
    model=st.tuples(st.integers(1, 320), st.integers(1, 320)),
    how=st.sampled_from(["crop", "pad", "squash"]),
    resampling=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)
def test_fit_gives_the_models_size(
    size: tuple[int, int], model: tuple[int, int], how: images.Fit, resampling: images.Resampling
) -> None:
    """Contract 1: that image to ``uint8 [H, W, 3]`` of the model's size; nothing but it and the padding is seen."""
    array = fit(Image.new("RGB", size, COLOUR), Preprocessing(how, model[1], model[0], resampling, 0.25))
    assert (array.shape, array.dtype) == ((model[1], model[0], 3), np.uint8)
    seen, padding = ((array == colour).all(axis=2) for colour in (COLOUR, GREY))
    assert seen.any()
    assert (seen | padding if how == "pad" else seen).all()


@pytest.mark.parametrize("how", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_strip_of_one_pixel_fits(how: images.Fit, size: tuple[int, int]) -> None:
    """A strip of 1×5000 pixels becomes an array in which it can be seen."""
    data = encoded(Image.new("RGB", size, COLOUR), "PNG")
    array = to_array(data, Preprocessing(how, 128, 128, "bicubic", 0.25))
    assert array.shape == (128, 128, 3)
    assert (array == COLOUR).all(axis=2).sum() >= 128


@pytest.mark.parametrize("size", [21, 39, 42, 75, 78, 156])
def test_a_square_is_cropped_whole(size: int) -> None:
    """Cropping a square for a square model loses nothing, for sides whose ratio rounding could push outside."""
    generator = np.random.default_rng(size)
    image = Image.fromarray(generator.integers(0, 256, (size, size, 3), np.uint8))
    crop, squash = (fit(image, Preprocessing(how, 75, 75, "bicubic", 0.25)) for how in ("crop", "squash"))
    assert np.abs(crop.astype(int) - squash).max() <= 1


def test_crop_takes_the_centre_pad_the_whole_and_squash_stretches() -> None:
    """Of three stripes side by side crop keeps the middle one, pad all three on grey, squash all three."""
    stripes = Image.new("RGB", (90, 30), "red")
    stripes.paste("lime", (30, 0, 60, 30))
    stripes.paste("blue", (60, 0, 90, 30))
    crop, pad, squash = (
        fit(stripes, Preprocessing(how, 30, 30, "bilinear", 0.25)) for how in ("crop", "pad", "squash")
    )
    red, lime, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    assert (crop == lime).all()
    assert [pad[15, x].tolist() for x in (2, 15, 27)] == [red, lime, blue]
    assert (pad[:10] == GREY).all()
    assert (pad[20:] == GREY).all()
    assert [squash[y, x].tolist() for y in (0, 29) for x in (2, 15, 27)] == [red, lime, blue] * 2


def test_pad_is_pillows_for_ordinary_photos(photo: Image.Image) -> None:
    """Padding an ordinary photo gives Pillow's own padding, pixel for pixel."""
    expected = ImageOps.pad(photo, (128, 96), Image.Resampling.LANCZOS, color=GREY)
    assert np.array_equal(fit(photo, Preprocessing("pad", 96, 128, "lanczos", 0.25)), np.asarray(expected))


def test_shrinking_is_antialiased() -> None:
    """A fine chequerboard shrinks to even grey and not to a pattern."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(board).convert("RGB")
    inner = fit(image, Preprocessing("squash", 75, 75, "bicubic", 0.25))[5:-5, 5:-5]
    assert inner.min() >= 120
    assert inner.max() <= 136


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit": "stretch"}, "fit is 'stretch'; it must be one of crop, pad, squash"),
        ({"resampling": "box"}, "resampling is 'box'; it must be one of bilinear, bicubic, lanczos"),
        ({"height": 0, "width": 7}, "size is 0×7; each side must be 1 to 4096 pixels"),
        ({"height": 7, "width": 4097}, "size is 7×4097; each side must be 1 to 4096 pixels"),
        ({"face_margin": 4.5}, "face_margin is 4.5; it must be 0 to 4"),
    ],
)
def test_preprocessing_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    """A preprocessing that cannot be carried out is refused where it is made."""
    values: dict[str, Any] = {"fit": "crop", "height": 8, "width": 8, "resampling": "bicubic", "face_margin": 0.25}
    make: Callable[..., Preprocessing] = Preprocessing
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        make(**values | change)
