"""Faces: boxes in the photo's own pixels, each face once, and crops as the model was trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gendercls.faces import SIDE, STRIDES, Detect, Face, face_crop, find_faces
from gendercls.images import Preprocessing

Box = tuple[float, float, float, float]
Found = tuple[Box, float]
Outputs = dict[str, NDArray[np.float32]]


def outputs(found: Sequence[Found], stride: int = 16) -> Outputs:
    """What the detector gives where it sees boxes (left, top, right, bottom in its input's pixels) with that score."""
    values: Outputs = {}
    for s in STRIDES:
        cells = (SIDE // s) ** 2
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4)):
            values[f"{kind}_{s}"] = np.zeros((1, cells, width), np.float32)
    for (left, top, right, bottom), score in found:
        centre_x, centre_y = (left + right) / 2 / stride, (top + bottom) / 2 / stride
        column, row = int(centre_x), int(centre_y)
        cell = row * (SIDE // stride) + column
        values[f"cls_{stride}"][0, cell] = values[f"obj_{stride}"][0, cell] = score
        size = np.log((right - left) / stride), np.log((bottom - top) / stride)
        values[f"bbox_{stride}"][0, cell] = (centre_x - column, centre_y - row, *size)
    return values


def seeing(*found: Found, stride: int = 16) -> Detect:
    """A detector that always sees the same."""
    return lambda pixels: outputs(found, stride)


def grey(width: int, height: int) -> Image.Image:
    """A photo of nothing."""
    return Image.new("RGB", (width, height), (100, 100, 100))


# --- finding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", STRIDES)
def test_a_box_is_given_in_the_photos_own_pixels(stride: int) -> None:
    """The detector saw 640×480; the photo, from which a quarter was decoded, has four times that."""
    detect = seeing(((100, 50, 180, 150), 0.9), stride=stride)
    assert find_faces(grey(1280, 960), (2560, 1920), detect) == [Face(400, 200, 320, 400, 0.9)]


def test_a_small_photo_is_not_enlarged() -> None:
    """What the detector sees of 200×100 pixels are those pixels, in the corner, blue first, on black."""
    seen: list[NDArray[np.float32]] = []

    def detect(pixels: NDArray[np.float32]) -> Outputs:
        seen.append(pixels)
        return outputs([((20, 10, 60, 60), 0.7)])

    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 200, 3)).astype(np.uint8))
    assert find_faces(photo, photo.size, detect) == [Face(20, 10, 40, 50, 0.7)]
    assert (len(seen), seen[0].shape, seen[0].dtype) == (1, (1, 3, SIDE, SIDE), np.float32)
    assert np.array_equal(seen[0][0, :, :100, :200].transpose(1, 2, 0)[..., ::-1], np.asarray(photo))
    assert seen[0][0, :, 100:].max() == seen[0][0, :, :, 200:].max() == 0


def test_a_face_that_fills_the_frame_is_looked_for_in_a_smaller_picture() -> None:
    """Only where nothing was found before; the box is then in the photo's pixels all the same."""
    widths = []

    def detect(pixels: NDArray[np.float32]) -> Outputs:
        widths.append(int((pixels[0, 0].max(axis=0) > 0).sum()))
        return outputs([((32, 32, 288, 288), 0.8)] if widths[-1] == 320 else [])

    assert find_faces(grey(1280, 1280), (1280, 1280), detect) == [Face(128, 128, 1024, 1024, 0.8)]
    assert widths == [640, 320]


@pytest.mark.parametrize(("side", "looks"), [(320, 1), (321, 2)])
def test_a_photo_is_not_looked_at_twice_at_one_size(side: int, looks: int) -> None:
    """One of nobody that is no larger than the smaller picture would be the same picture again."""
    seen: list[NDArray[np.float32]] = []

    def detect(pixels: NDArray[np.float32]) -> Outputs:
        seen.append(pixels)
        return outputs([])

    assert find_faces(grey(side, 200), (side, 200), detect) == []
    assert len(seen) == looks


SMALL, LARGE = (600, 200, 96), (100, 600, 700)
TINY = [(40, 40, 56), (1240, 400, 56), (1008, 1264, 56), (1240, 1240, 56), (2240, 1470, 56)]
"""Left, top and side, in a photo of 2304×1536; the three in the middle lie where one or two of its four parts end."""


@pytest.mark.parametrize("has_small", [True, False])
def test_a_small_face_leads_to_a_closer_look(has_small: bool) -> None:
    """The detector sees squares of 16 pixels and more: in the whole photo one large and perhaps a small one.

    In its four parts there are the tiny ones too: each once, whichever parts show it, and the large one once as well.
    """
    squares = [LARGE, *([SMALL] if has_small else []), *TINY]
    pixels = np.zeros((1536, 2304, 3), np.uint8)
    for number, (left, top, side) in enumerate(squares, 1):
        pixels[top : top + side, left : left + side] = (0, 255, 20 * number)
    looks = []

    def detect(pixels: NDArray[np.float32]) -> Outputs:
        looks.append(pixels)
        found: list[Found] = []
        for number in range(1, len(squares) + 1):
            # Its own blue; green, so that no edge between black and a brighter blue is taken for it.
            rows, columns = np.nonzero((abs(pixels[0, 0] - 20 * number) < 5) & (pixels[0, 1] > 240))
            if len(rows) and min(np.ptp(rows), np.ptp(columns)) >= 16:
                found.append(((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), 0.9))
        return outputs(found, stride=8)

    faces = find_faces(Image.fromarray(pixels), (2304, 1536), detect)
    expected = sorted(squares if has_small else [LARGE])
    assert len(looks) == (5 if has_small else 1)
    assert len(faces) == len(expected)
    for face, (left, top, side) in zip(faces, expected, strict=True):
        assert (face.x, face.y, face.w, face.h) == pytest.approx((left, top, side, side), abs=8)


def test_each_face_is_found_once() -> None:
    """Of boxes that overlap by more than 0.3 the surest stays; neighbours that overlap less are two faces."""
    same, sure, beside = ((100, 100, 180, 200), 0.7), ((104, 130, 184, 230), 0.9), ((162, 130, 242, 230), 0.8)
    found = find_faces(grey(640, 640), (640, 640), seeing(same, sure, beside))
    assert found == [Face(104, 130, 80, 100, 0.9), Face(162, 130, 80, 100, 0.8)]


@pytest.mark.parametrize(("score", "count"), [(0.59, 0), (0.61, 1)])
def test_an_unlikely_face_is_none(score: float, count: int) -> None:
    """The score is the geometric mean of the two that the detector gives; 0.6 is the least."""
    assert len(find_faces(grey(640, 640), (640, 640), seeing(((100, 100, 200, 200), score)))) == count


FOUND = st.tuples(
    st.tuples(*[st.integers(0, 630)] * 2, *[st.integers(4, 640)] * 2), st.sampled_from([0.65, 0.75, 0.85, 0.95])
)


@given(st.lists(FOUND, max_size=12), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_are_whole_sorted_and_within_the_photo(found: list[Found], width: int, height: int) -> None:
    """'Boxes are whole pixels of the upright photo, clipped to it', however long and thin it is."""
    boxes = [
        ((x, y, x + w, y + h), score) for (x, y, w, h), score in found if (x + w / 2) < SIDE and (y + h / 2) < SIDE
    ]
    decoded = grey(max(1, width // 4), max(1, height // 4))
    faces = find_faces(decoded, (width, height), seeing(*boxes))
    places = [(face.x, face.y, face.w, face.h) for face in faces]
    assert places == sorted(places)
    assert all(x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height for x, y, w, h in places)
    assert all(0.6 <= face.confidence <= 1 for face in faces)


# --- cropping ---------------------------------------------------------------------------------------------------


@pytest.fixture
def chequered() -> Image.Image:
    """A photo of 400×300 whose every pixel says where it is: red its column, green its row, halved."""
    rows, columns = np.mgrid[0:300, 0:400]
    return Image.fromarray(np.stack([columns // 2, rows // 2, rows * 0], axis=2).astype(np.uint8))


def pre(**changes: object) -> Preprocessing:
    """How a model wants its photos."""
    values = {"fit": "squash", "height": 100, "width": 100, "resampling": "bilinear", "face_margin": 0.25, **changes}
    return Preprocessing(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_crop_is_the_widened_box_in_the_models_shape(chequered: Image.Image, fit: str) -> None:
    """A box of 80×100 at (160, 100) with a quarter on each side: 150 high, as wide, around its centre (200, 150)."""
    crop = face_crop(chequered, (400, 300), Face(160, 100, 80, 100, 0.9), pre(fit=fit, height=150, width=150))
    assert np.array_equal(crop, np.asarray(chequered.crop((125, 75, 275, 225))))


def test_a_model_that_is_no_square_gets_its_own_shape(chequered: Image.Image) -> None:
    """Width to height as the model has it, no pixel stretched."""
    crop = face_crop(chequered, (400, 300), Face(180, 120, 40, 60, 0.9), pre(height=90, width=180))
    assert np.array_equal(crop, np.asarray(chequered.crop((110, 105, 290, 195))))


def test_beyond_the_photo_there_is_grey(chequered: Image.Image) -> None:
    """A face cut by the border keeps its scale and its place in the crop."""
    crop = face_crop(chequered, (400, 300), Face(0, 0, 100, 100, 0.9), pre(face_margin=0.5, height=200, width=200))
    assert np.array_equal(crop[50:, 50:], np.asarray(chequered.crop((0, 0, 150, 150))))
    assert (crop[:50] == 128).all()
    assert (crop[:, :50] == 128).all()


def test_a_reduced_photo_gives_the_same_crop(chequered: Image.Image) -> None:
    """The box is in pixels of the whole photo, whatever was decoded of it."""
    face = Face(100, 80, 120, 120, 0.9)
    whole = face_crop(chequered, (400, 300), face, pre()).astype(int)
    halved = face_crop(chequered.reduce(2), (400, 300), face, pre()).astype(int)
    assert np.abs(whole - halved).max() <= 1


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(0, 59), st.integers(0, 59), st.sampled_from([0.0, 0.25, 4.0])
)
def test_any_box_gives_a_crop(width: int, height: int, x: int, y: int, margin: float) -> None:
    """A face of one pixel, or one as large as the photo."""
    x, y = min(x, width - 1), min(y, height - 1)
    crop = face_crop(
        grey(width, height), (width, height), Face(x, y, width - x, height - y, 0.9), pre(face_margin=margin)
    )
    assert (crop.shape, crop.dtype) == ((100, 100, 3), np.uint8)
