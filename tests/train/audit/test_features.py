"""What the judge's network is given, and what it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing, to_array
from gendercls.train.audit.features import FeatureProgress, pooled_features, two_views
from gendercls.train.initial import build_network
from gendercls.train.recipe import load_recipe

PREPROCESSING = Preprocessing("crop", 128, 128, "bicubic", 0.25)


def test_the_first_view_is_what_the_model_gets(celeba: Path) -> None:
    """The first view is the photo as classify sees it; the second, mirrored back, is like its enlarged centre."""
    path = celeba / "img_align_celeba" / "000007.jpg"
    views = two_views(path, PREPROCESSING)
    whole = to_array(path.read_bytes(), PREPROCESSING)
    assert views.shape == (2, 128, 128, 3)
    assert np.array_equal(views[0], whole)
    centre = Image.fromarray(whole).crop((16, 16, 112, 112)).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.abs(views[1][:, ::-1].astype(int) - np.asarray(centre).astype(int)).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_a_photo_of_one_pixel_has_two_views(size: tuple[int, int], tmp_path: Path) -> None:
    """A photo too narrow to be cropped further still gives two views."""
    Image.new("RGB", size, "red").save(tmp_path / "narrow.png")
    assert two_views(tmp_path / "narrow.png", PREPROCESSING).shape == (2, 128, 128, 3)


def test_features_come_in_the_order_of_the_photos(celeba: Path, small_weights: Path) -> None:
    """2,816 numbers for each photo, the same whoever shares its batch within rounding, and progress is told."""
    recipe = load_recipe("default", ["autocast=off"])
    paths = [celeba / "img_align_celeba" / f"{number:06}.jpg" for number in range(1, 67)]
    told: list[FeatureProgress] = []
    torch.manual_seed(1)
    network, _ = build_network(2, init=str(small_weights), dropout=0.0, input_range=(0.0, 1.0))
    features = pooled_features(network, paths, recipe, torch.device("cpu"), told.append)
    assert (features.shape, features.dtype) == ((66, 2816), np.float32)
    assert [(progress.done, progress.total) for progress in told] == [(64, 66), (66, 66)]
    last = pooled_features(network, paths[65:], recipe, torch.device("cpu"), told.append)
    # Random weights make features small and alike: what another photo differs by is the measure.
    assert np.abs(features[65] - last[0]).max() < 0.01 * np.abs(features[64] - features[65]).max()


def test_a_photo_that_is_gone_is_named(tmp_path: Path) -> None:
    """A photo that vanished since it was opened is an error with its path."""
    with pytest.raises(PhotoError) as caught:
        two_views(tmp_path / "gone.jpg", PREPROCESSING)
    assert str(caught.value) == (
        "a photo can no longer be read: No such file or directory\n"
        f"  where: {tmp_path / 'gone.jpg'}\n  do:    put it back and repeat the command"
    )
