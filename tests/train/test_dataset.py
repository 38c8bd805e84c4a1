"""Photos as tensors: what a view depends on, which photos an epoch has, and photos that are lost meanwhile."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gendercls.errors import PhotoError
from gendercls.images import to_array
from gendercls.train.cache import Form, fill_cache, open_cache
from gendercls.train.dataset import (
    EpochBatches,
    PhotoSet,
    TrainingViews,
    evaluation_loader,
    training_loader,
)
from gendercls.train.recipe import load_recipe

RECIPE = load_recipe("default", ["size=75", "jpeg=0.5", "blur=0.5", "erasing=0.5", "grey=0.5", "low_resolution=0.5"])


@pytest.fixture(scope="module")
def photos(celeba: Path, fairface: Path) -> PhotoSet:
    """Twelve real photos, and targets of three attributes, some of them unknown."""
    faces = sorted((fairface / "train").iterdir())
    paths = sorted((celeba / "img_align_celeba").iterdir())[:8] + faces[:2] + faces[-2:]
    return PhotoSet(paths, np.arange(36, dtype=np.int8).reshape(12, 3) % 4 % 3 - 1)


def with_cache(photos: PhotoSet, folder: Path, form: Form) -> PhotoSet:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.paths]
    fill_cache(folder, photos.paths, digests, RECIPE, form, lambda line: None)
    return PhotoSet(photos.paths, photos.targets, open_cache(folder, digests, RECIPE, form))


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
    """A view is uint8 [H, W, 3] of the recipe's size, with the photo's targets, int8 [K]."""
    for size in (75, 96):
        for number in range(len(photos)):
            pixels, targets = TrainingViews(photos, load_recipe("default", [f"size={size}"]), 1)[0, number]
            assert (pixels.shape, pixels.dtype) == ((size, size, 3), torch.uint8)
            assert targets.dtype == torch.int8
            assert targets.tolist() == photos.targets[number].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_same_with_and_without_a_cache(photos: PhotoSet, tmp_path: Path, workers: int) -> None:
    """A cache changes no bit of any batch of views, in one process or several."""
    batches = EpochBatches(len(photos), 4, seed=3)
    recipe = load_recipe("default", ["size=75", f"workers={workers}"])
    plain = list(training_loader(photos, recipe, 3, batches))
    cached = list(training_loader(with_cache(photos, tmp_path, "views"), recipe, 3, batches))
    assert len(plain) == 3
    for (pixels, targets), (from_cache, same_targets) in zip(plain, cached, strict=True):
        assert (pixels.shape, targets.shape, targets.dtype) == ((4, 75, 75, 3), (4, 3), torch.int8)
        assert torch.equal(pixels, from_cache)
        assert torch.equal(targets, same_targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_the_same_with_and_without_a_cache(photos: PhotoSet, tmp_path: Path, workers: int) -> None:
    """Evaluation from a cache has the pixels of classify, bit for bit, and needs the files no more."""
    cached = with_cache(photos, tmp_path, "evaluation")
    gone = PhotoSet([Path("gone") / path.name for path in photos.paths], photos.targets, cached.cached)
    pixels, targets = next(iter(evaluation_loader(gone, RECIPE.preprocessing(), workers)))
    np.testing.assert_array_equal(targets, photos.targets)
    for path, row in zip(photos.paths, pixels.numpy(), strict=True):
        np.testing.assert_array_equal(row, to_array(path.read_bytes(), RECIPE.preprocessing()))


def test_a_cache_reaches_workers_that_are_no_copies(
    photos: PhotoSet, tmp_path: Path, expected: dict[int, bytes]
) -> None:
    """Workers that begin as new processes open the cache's files themselves, also after this process opened them."""
    cached = with_cache(photos, tmp_path, "views")
    order = list(range(len(photos)))
    assert views(cached, 0, order) == expected
    loader = DataLoader(
        TrainingViews(cached, RECIPE, 1),
        batch_sampler=[[(0, n)] for n in order],
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert {n: pixels.numpy().tobytes() for n, (pixels, _) in zip(order, loader, strict=True)} == expected


def test_there_are_no_more_workers_than_cores(photos: PhotoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that asks for more workers than the machine has cores gets one for each core."""
    monkeypatch.setattr("gendercls.train.dataset.available_cores", lambda: 1)
    recipe = load_recipe("default", ["workers=7"])
    assert training_loader(photos, recipe, 1, EpochBatches(12, 4, 1)).num_workers == 1
    assert evaluation_loader(photos, recipe.preprocessing(), 7).num_workers == 1


@pytest.mark.parametrize("cache", [False, True])
def test_processes_share_the_photos(photos: PhotoSet, tmp_path: Path, cache: bool) -> None:
    """The shares of several processes are every photo once, with its targets and pixels."""
    whole = with_cache(photos, tmp_path, "evaluation") if cache else photos
    for rank in range(2):
        share = whole.share(rank, 2)
        pixels, targets = next(iter(evaluation_loader(share, RECIPE.preprocessing(), 0)))
        assert share.paths == photos.paths[rank::2]
        np.testing.assert_array_equal(targets, photos.targets[rank::2])
        for path, row in zip(share.paths, pixels.numpy(), strict=True):
            np.testing.assert_array_equal(row, to_array(path.read_bytes(), RECIPE.preprocessing()))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_is_lost_meanwhile_is_named(celeba: Path, tmp_path: Path, workers: int) -> None:
    """A photo that vanishes or is damaged while the network trains is an error that names it, from any process."""
    source = celeba / "img_align_celeba" / "000001.jpg"
    paths = [tmp_path / f"{n}.jpg" for n in range(4)]
    for path in paths:
        path.write_bytes(source.read_bytes())
    photos = PhotoSet(paths, np.zeros((4, 2), np.int8))
    recipe = load_recipe("default", ["size=75", f"workers={workers}"])
    for spoil, reason in (
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_bytes(b""), "empty file"),
    ):
        spoil(paths[2])
        for loader in (
            training_loader(photos, recipe, 1, EpochBatches(4, 2, 1)),
            evaluation_loader(photos, recipe.preprocessing(), workers),
        ):
            with pytest.raises(PhotoError) as caught:
                list(loader)
            assert str(caught.value) == (
                f"a photo can no longer be read: {reason}\n"
                f"  where: {paths[2]}\n"
                "  do:    put it back and continue with --resume, or begin anew without it"
            )


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_evaluation_pixels_are_those_of_classify(photos: PhotoSet, workers: int, fit: str) -> None:
    """Validation and test see `images.to_array` of each photo, in order, and nothing else."""
    pre = load_recipe("default", ["size=80", f"fit={fit}"]).preprocessing()
    pixels, targets = next(iter(evaluation_loader(photos, pre, workers)))
    np.testing.assert_array_equal(targets, photos.targets)
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


@settings(deadline=None)
@given(photos=st.integers(4, 60), share=st.integers(1, 6), world=st.integers(1, 4), seed=st.integers(0, 9))
def test_several_processes_have_the_batches_of_one(photos: int, share: int, world: int, seed: int) -> None:
    """Batches do not depend on the number of processes; each has every world-th photo of each."""
    together = [EpochBatches(photos, share * world, seed, rank, world) for rank in range(world)]
    whole = list(EpochBatches(photos, together[0].batch_size, seed))
    assert {len(batches) for batches in together} == {len(whole)}
    for batch, *shares in zip(whole, *together, strict=True):
        assert shares == [batch[rank::world] for rank in range(world)]
        assert len({len(part) for part in shares}) == 1


def test_epochs_are_shuffled_each_for_itself() -> None:
    """Two epochs, and two seeds, have different orders."""

    def order(seed: int, epoch: int) -> list[int]:
        batches = EpochBatches(64, 8, seed)
        batches.epoch = epoch
        return [number for chosen in batches for _, number in chosen]

    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
