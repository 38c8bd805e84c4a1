"""Photos as tensors: what a view depends on, which photos an epoch has, and photos that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from gendercls.images import decode, to_array
from gendercls.train.dataset import (
    EpochBatches,
    JpegAgain,
    LowResolution,
    PhotoSet,
    TrainingViews,
    augmentation,
    check_photos,
    evaluation_loader,
)
from gendercls.train.recipe import Recipe, load_recipe

RECIPE = load_recipe("default", ["size=75", "jpeg=0.5", "blur=0.5", "erasing=0.5", "grey=0.5", "low_resolution=0.5"])


@pytest.fixture(scope="module")
def photos(small_data: Path) -> PhotoSet:
    paths = sorted(small_data.glob("*.jpg"))[:12]
    return PhotoSet(paths, np.arange(len(paths)) % 2)


def views(photos: PhotoSet, workers: int, order: list[int], *, epoch: int = 0, seed: int = 1) -> dict[int, bytes]:
    """Each photo's view as a loader of that many workers gives it."""
    loader = DataLoader(
        TrainingViews(photos, RECIPE, seed), batch_sampler=[[(epoch, n)] for n in order], num_workers=workers
    )
    return {n: pixels.numpy().tobytes() for n, (pixels, _) in zip(order, loader, strict=True)}


@pytest.fixture(scope="module")
def expected(photos: PhotoSet) -> dict[int, bytes]:
    return views(photos, 0, list(range(len(photos))))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_view_does_not_depend_on_workers_or_order(photos: PhotoSet, expected: dict[int, bytes], workers: int) -> None:
    """A photo's random view is the same in any process and after any other photo."""
    assert views(photos, workers, list(range(len(photos)))[::-1]) == expected


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 2}])
def test_a_view_depends_on_epoch_and_seed(photos: PhotoSet, expected: dict[int, bytes], change: dict[str, int]) -> None:
    """Another epoch and another seed give other views."""
    other = views(photos, 0, list(range(len(photos))), **change)
    assert all(other[number] != expected[number] for number in expected)


def test_views_leave_the_random_state_alone(photos: PhotoSet) -> None:
    """Decoding photos in the training process draws nothing from the network's own random numbers."""
    before = torch.get_rng_state()
    TrainingViews(photos, RECIPE, 1)[0, 3]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_view_is_a_photo_of_the_models_size(photos: PhotoSet) -> None:
    """A view is uint8 [H, W, 3] of the recipe's size, with the photo's class."""
    for number in range(len(photos)):
        pixels, target = TrainingViews(photos, RECIPE, 1)[0, number]
        assert (pixels.shape, pixels.dtype) == ((75, 75, 3), torch.uint8)
        assert target == number % 2


def test_without_augmentation_a_view_is_the_whole_photo(small_data: Path) -> None:
    """A recipe whose augmentation is all off squashes the whole photo to the model's size and changes nothing else."""
    off = dict.fromkeys(
        ("rotation", "zoom_out_probability", "flip", "brightness", "contrast", "saturation", "hue", "grey", "blur"), 0
    )
    off |= {"low_resolution": 0, "jpeg": 0, "erasing": 0, "crop_min": 1, "aspect": 1.25}
    recipe = load_recipe("default", ["size=75", "fit=squash", *(f"{key}={value}" for key, value in off.items())])
    path = small_data / "00.jpg"
    torch.manual_seed(0)
    view = augmentation(recipe)(decode(path.read_bytes())).permute(1, 2, 0).numpy()
    plain = to_array(path.read_bytes(), recipe.preprocessing())
    assert np.abs(view.astype(int) - plain).mean() < 12  # a crop may be a little smaller than the photo


def test_jpeg_again_loses_a_little(small_data: Path) -> None:
    """A photo that was saved as a JPEG again has its size, mode and look, and other bytes."""
    photo = decode((small_data / "00.jpg").read_bytes())
    again = JpegAgain(30, 31)(photo)
    assert (again.size, again.mode) == (photo.size, "RGB")
    difference = np.abs(np.asarray(again, int) - np.asarray(photo, int))
    assert 0 < difference.mean() < 12


def test_low_resolution_blurs_and_keeps_the_size(small_data: Path) -> None:
    """A photo that was made small and large again has its size and less detail."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 60, 3)).astype(np.uint8))
    blurred = LowResolution(75)(noise)
    assert blurred.size == (60, 90)
    assert np.asarray(blurred).std() < 0.8 * np.asarray(noise).std()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_evaluation_pixels_are_those_of_classify(photos: PhotoSet, workers: int, fit: str) -> None:
    """Validation and test see `images.to_array` of each photo, in order, and nothing else."""
    pre = load_recipe("default", ["size=80", f"fit={fit}"]).preprocessing()
    pixels, targets = next(iter(evaluation_loader(photos, pre, workers)))
    assert targets.tolist() == photos.targets.tolist()
    for path, row in zip(photos.paths, pixels.numpy(), strict=True):
        np.testing.assert_array_equal(row, to_array(path.read_bytes(), pre, name=path.name))


@settings(deadline=None)
@given(
    photos=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 3), data=st.data()
)
def test_an_epoch_has_each_photo_at_most_once(
    photos: int, batch: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    """An epoch's batches are full and share no photo; from a step onwards they are the rest of the same batches."""
    batches = EpochBatches(photos, batch, seed)
    batches.epoch = epoch
    whole = list(batches)
    used = [number for chosen in whole for _, number in chosen]
    assert len(set(used)) == len(used) > photos - batch
    assert set(used) <= set(range(photos))
    assert {len(chosen) for chosen in whole} == {min(batch, photos)}
    assert len(whole) == len(batches)
    batches.first_step = data.draw(st.integers(0, len(whole)))
    assert list(batches) == whole[batches.first_step :]


def test_epochs_are_shuffled_each_for_itself() -> None:
    """Two epochs, and two seeds, have different orders."""

    def order(seed: int, epoch: int) -> list[int]:
        batches = EpochBatches(64, 8, seed)
        batches.epoch = epoch
        return [number for chosen in batches for _, number in chosen]

    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path, good: None, "No such file or directory"),
        (lambda path, good: path.write_bytes(b""), "empty file"),
        (lambda path, good: path.write_text("hello"), "no photo inside: named .jpg"),
        (lambda path, good: path.mkdir(), "Is a directory"),
        (lambda path, good: path.write_bytes(good[: len(good) // 2]), "damaged photo: "),
    ],
)
def test_a_photo_that_cannot_be_used_is_known_before_training(
    photos: PhotoSet, tmp_path: Path, make: Callable[[Path, bytes], object], reason: str
) -> None:
    """Of each photo it is said why it cannot be used, or the hash of its bytes; one does not change the others."""
    good = photos.paths[0].read_bytes()
    make(tmp_path / "bad.jpg", good)
    checks = check_photos([photos.paths[0], tmp_path / "bad.jpg", photos.paths[1]], RECIPE.preprocessing())
    assert [check.reason for check in checks][::2] == ["", ""]
    assert checks[1].reason.startswith(reason)
    assert checks[1].digest == ""
    assert checks[0].digest != checks[2].digest
    assert [len(check.digest) for check in checks] == [64, 0, 64]


def test_the_recipe_decides_the_size(photos: PhotoSet) -> None:
    """Views have the size of their recipe."""
    recipe: Recipe = load_recipe("default", ["size=96"])
    assert TrainingViews(photos, recipe, 1)[0, 0][0].shape == (96, 96, 3)
