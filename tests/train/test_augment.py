"""Random views: what a recipe's numbers do to a photo, and that without them a view is what evaluation sees."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from gendercls.images import decode, to_array
from gendercls.train.augment import (
    RandomView,
    _rotated_crop,
    decode_for_views,
    jpeg_again,
    low_resolution,
    random_crop,
    recoloured,
)
from gendercls.train.recipe import Recipe, load_recipe

NOTHING = dict.fromkeys(
    ("rotation", "zoom_out_probability", "flip", "brightness", "contrast", "saturation", "hue", "grey", "blur"), 0
) | {"low_resolution": 0, "jpeg": 0, "erasing": 0, "crop_min": 1, "aspect": 1}


def recipe(**changes: object) -> Recipe:
    """The recipe `default` with all augmentation off, but for the changes."""
    return load_recipe("default", [f"{key}={value}" for key, value in (NOTHING | changes).items()])


def view(image: Image.Image, *, seed: int = 0, **changes: object) -> NDArray[np.uint8]:
    return RandomView(recipe(**changes))(image, np.random.default_rng(seed))


def difference(one: NDArray[np.uint8] | Image.Image, other: NDArray[np.uint8] | Image.Image) -> NDArray[np.int64]:
    return np.abs(np.asarray(one, np.int64) - np.asarray(other, np.int64))


@pytest.fixture(scope="module")
def face(celeba: Path) -> Image.Image:
    """A real photo of 89×109 pixels."""
    return decode((celeba / "img_align_celeba" / "000001.jpg").read_bytes())


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_without_augmentation_a_view_is_what_evaluation_sees(celeba: Path, fit: str) -> None:
    """With all augmentation off a training photo is framed as a validation photo is, to within a pixel."""
    plain, other = recipe(fit=fit), recipe(fit="squash" if fit != "squash" else "pad")
    for number in range(1, 21):
        data = (celeba / "img_align_celeba" / f"{number:06}.jpg").read_bytes()
        shown = RandomView(plain)(decode_for_views(data, plain.size), np.random.default_rng(number))
        expected = to_array(data, plain.preprocessing())
        a_pixel = difference(expected[:, 1:], expected[:, :-1]).mean()
        assert difference(shown, expected).mean() < a_pixel
        assert difference(shown, to_array(data, other.preprocessing())).mean() > 2 * a_pixel


@pytest.mark.parametrize(("size", "squared"), [((300, 200), (128, 128)), ((30, 20), (30, 30)), ((20, 20), (20, 20))])
def test_a_squashed_photo_is_no_larger_than_views_need(
    size: tuple[int, int], squared: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `squash` views are drawn from a square of the photo's longer side, of twice the model's size at most."""
    frames = []
    monkeypatch.setattr(
        RandomView, "_geometry", lambda self, image, random: frames.append(image.size) or image.resize((64, 64))
    )
    RandomView(recipe(fit="squash", size=75))(Image.new("RGB", size), np.random.default_rng(1))
    assert frames == [squared if max(size) < 150 else (150, 150)]


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    least=st.floats(0.05, 1),
    aspect=st.floats(1, 2),
    seed=st.integers(0, 2**32),
)
def test_a_crop_is_within_the_photo_and_the_recipes_bounds(
    size: tuple[int, int], least: float, aspect: float, seed: int
) -> None:
    """A crop lies in the photo; its area and shape are what the recipe allows, within the rounding to pixels."""
    left, top, width, height = random_crop(size, least, aspect, np.random.default_rng(seed))
    assert min(left, top) >= 0
    assert min(width, height) >= 1
    assert left + width <= size[0]
    assert top + height <= size[1]
    if (left, top) != ((size[0] - width) // 2, (size[1] - height) // 2):  # drawn, not the centre that is left
        assert (width + 0.5) * (height + 0.5) >= least * size[0] * size[1]
        assert (width - 0.5) / (height + 0.5) <= aspect * (1 + 1e-9)
        assert (height - 0.5) / (width + 0.5) <= aspect * (1 + 1e-9)


def test_crops_are_distributed_as_torchvisions() -> None:
    """Over many draws place and size have torchvision's quantiles."""
    random, image = np.random.default_rng(1), Image.new("RGB", (178, 218))
    theirs = v2.RandomResizedCrop(128, (0.3, 1.0), (1 / 1.3, 1.3))
    drawn = [theirs.make_params([image]) for _ in range(3000)]
    expected = np.array([[d["left"], d["top"], d["width"], d["height"]] for d in drawn])
    got = np.array([random_crop(image.size, 0.3, 1.3, random) for _ in range(3000)])
    for column in range(4):
        marks = np.quantile(expected[:, column], [0.1, 0.3, 0.5, 0.7, 0.9])
        shares = (got[:, column, None] <= marks).mean(axis=0)
        assert np.abs(shares - [0.1, 0.3, 0.5, 0.7, 0.9]).max() < 0.06  # five standard errors of the two together


@pytest.mark.parametrize("angle", [-12.0, 0.5, 7.0])
def test_a_rotated_crop_is_the_crop_of_the_rotated_photo(face: Image.Image, angle: float) -> None:
    """One pass gives what padding, rotating and cropping one after another give: no corner of the photo is lost."""
    canvas = Image.new("RGB", (89 + 60, 109 + 60), (128, 128, 128))
    canvas.paste(face, (30, 30))
    turned = canvas.rotate(angle, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    got = _rotated_crop(face, angle, (-15, -21, 100, 120))
    expected = turned.crop((15, 9, 115, 129))
    assert (difference(got, expected).max(axis=2) > 2).mean() < 0.05  # the seam, which is blended with the grey or not
    np.testing.assert_array_equal(_rotated_crop(face, 0.0, (5, 9, 70, 80)), face.crop((5, 9, 75, 89)))


def test_rotation_turns_half_of_the_photos(face: Image.Image) -> None:
    """Half of the views are turned, by an angle that differs; their corners are grey."""
    plain = view(face)
    views = [view(face, seed=seed, rotation=12) for seed in range(60)]
    turned = [v for v in views if difference(v, plain).mean() > 1]
    assert 18 <= len(turned) <= 42
    assert len({v.tobytes() for v in turned}) == len(turned)


def test_zooming_out_pads_with_grey() -> None:
    """A photo that is zoomed out keeps its place on grey, up to the recipe's factor."""
    white = Image.new("RGB", (100, 100), "white")
    views = [view(white, seed=seed, zoom_out_probability=1, zoom_out=1.5) for seed in range(100)]
    assert min(v.min() for v in views) > 110  # grey, less what the resize rings beside white
    shares = [(v == 255).mean() for v in views]
    assert 1 / 1.5**2 - 0.02 < min(shares) < 0.55
    assert 0.85 < max(shares) <= 1
    assert (view(white, zoom_out_probability=0, zoom_out=1.5) == 255).all()


def test_a_flipped_view_is_the_mirror_image(face: Image.Image) -> None:
    """Where the recipe always flips, a view is the mirror image of the plain one."""
    np.testing.assert_array_equal(view(face, flip=1), view(face)[:, ::-1])


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation"])
def test_a_factor_means_what_it_means_in_torchvision(face: Image.Image, change: str, factor: float) -> None:
    """Brightness, contrast and saturation by a factor are torchvision's, within rounding."""
    factors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, change: factor}
    expected = getattr(functional, f"adjust_{change}")(face, factor)
    assert difference(recoloured(face, **factors, hue=0.0), expected).max() <= 2


def test_hue_turns_around_grey(face: Image.Image) -> None:
    """A turn of the hue keeps luma, a whole turn changes nothing, and a third sends red to near green."""
    turned = recoloured(face, 1, 1, 1, 0.03)
    assert 0.5 < difference(turned, face).mean() < 8
    assert abs(np.asarray(turned.convert("L"), float).mean() - np.asarray(face.convert("L"), float).mean()) < 0.6
    assert difference(recoloured(face, 1, 1, 1, 1.0), face).max() <= 1
    dull_red = Image.new("RGB", (1, 1), (140, 100, 100))
    hues = [recoloured(dull_red, 1, 1, 1, share).convert("HSV").getpixel((0, 0))[0] for share in (1 / 3, -1 / 3)]
    assert {round(hue / 85) for hue in hues} == {1, 2}  # Pillow's circle has 255 steps


def test_colours_vary_as_the_recipe_says(face: Image.Image) -> None:
    """Brightness and contrast of views vary, and grey views have three equal channels."""
    assert len({view(face, seed=seed, brightness=0.3).mean().round(3) for seed in range(20)}) == 20
    assert len({view(face, seed=seed, contrast=0.3).std().round(3) for seed in range(20)}) == 20
    grey = view(face, grey=1, hue=0.03, saturation=0.3)
    assert (grey == grey[:, :, :1]).all()
    greys = [view(face, seed=seed, grey=0.25) for seed in range(200)]
    assert 30 <= sum(bool((g == g[:, :, :1]).all()) for g in greys) <= 70


def test_erasing_covers_2_to_15_percent() -> None:
    """An erased view has one grey box of 2 to 15 % of its area, at any place."""
    white = Image.new("RGB", (64, 64), "white")
    boxes = []
    for seed in range(200):
        erased = (view(white, seed=seed, erasing=1) == 128).all(axis=2)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)
        assert 0.018 < erased.mean() < 0.155
        assert 0.28 < len(rows) / len(columns) < 3.5
        boxes.append((rows[0], columns[0], rows[-1], columns[-1]))
    assert np.min(boxes, axis=0)[:2].max() <= 4
    assert np.max(boxes, axis=0)[2:].min() >= 123


def test_jpeg_again_loses_a_little(face: Image.Image) -> None:
    """A photo that was saved as a JPEG again has its size, mode and look, and other bytes; worse ones lose more."""
    good, bad = jpeg_again(face, 90), jpeg_again(face, 30)
    assert (good.size, good.mode) == (face.size, "RGB")
    assert 0 < difference(good, face).mean() < difference(bad, face).mean() < 12


def test_low_resolution_blurs_and_keeps_the_size() -> None:
    """A photo that was made small and large again has its size and less detail."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 60, 3)).astype(np.uint8))
    blurred = low_resolution(noise, 40)
    assert blurred.size == (60, 90)
    assert np.asarray(blurred).std() < 0.8 * np.asarray(noise).std()


@pytest.mark.parametrize("change", ["blur", "low_resolution", "jpeg"])
def test_quality_is_lost_as_often_as_the_recipe_says(face: Image.Image, change: str) -> None:
    """A probability of a quarter touches a quarter of the views and leaves the others alone."""
    plain = view(face)
    touched = sum(bool((view(face, seed=seed, **{change: 0.25}) != plain).any()) for seed in range(200))
    assert 30 <= touched <= 70


def test_views_are_made_from_few_pixels(tmp_path: Path, celeba: Path) -> None:
    """A large photo of any format is reduced before views are drawn from it, to twice the model's size at least."""
    large = Image.fromarray(np.random.default_rng(1).integers(0, 256, (1100, 900, 3)).astype(np.uint8))
    for suffix in ("png", "jpg"):
        large.save(tmp_path / f"large.{suffix}")
        reduced = decode_for_views((tmp_path / f"large.{suffix}").read_bytes(), 128)
        assert 256 <= min(reduced.size) < 512
        assert math.isclose(reduced.width / reduced.height, 900 / 1100, rel_tol=0.01)
    data = (celeba / "img_align_celeba" / "000001.jpg").read_bytes()
    assert decode_for_views(data, 128).tobytes() == decode(data).tobytes()
