"""Labelled photos as tensors, one by one and in batches.

A photo's random view depends on (seed, epoch, photo) alone, so neither workers nor a resumed run change it; nor does
a cache, which holds what decoding gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing, to_array
from gendercls.machine import available_cores
from gendercls.train.augment import RandomView, decode_for_views
from gendercls.train.cache import CachedPhotos
from gendercls.train.recipe import Recipe
from gendercls.train.workers import begun_deaf, leave_requests_to_main

View = tuple[int, int]
"""(epoch, number of the photo): what a training photo's augmentation is drawn from."""

Example = tuple[torch.Tensor, torch.Tensor]
"""Pixels, uint8 ``[H, W, 3]``, and targets, int8 ``[K]``; a batch has both with ``B`` before."""


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """N photos and what is asked of them.

    paths: ``[N]``. targets: int8 ``[N, K]``, a column per class: 1 yes, 0 no, -1 unknown (independent attributes
    alone); of exclusive classes exactly one is 1. cached: the decoded photos, for views or for evaluation, as the set
    is used; None decodes the files.
    """

    paths: list[Path]
    targets: NDArray[np.int8]
    cached: CachedPhotos | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def share(self, rank: int, world: int) -> PhotoSet:
        """The photos that one of several processes has: every ``world``-th, from number ``rank``."""
        cached = None if self.cached is None else self.cached.share(rank, world)
        return PhotoSet(self.paths[rank::world], self.targets[rank::world], cached)


class TrainingViews(Dataset[Example]):
    """Random views, by `View`. Raises PhotoError for a photo that cannot be read any more."""

    def __init__(self, photos: PhotoSet, recipe: Recipe, seed: int) -> None:
        self.photos = photos
        self.size = recipe.size
        self.random_view = RandomView(recipe)
        self.seed = seed

    def __getitem__(self, view: View) -> Example:
        epoch, number = view
        pixels = self.random_view(self._decoded(number), np.random.default_rng((self.seed, epoch, number)))
        return torch.from_numpy(pixels), torch.from_numpy(self.photos.targets[number])

    def _decoded(self, number: int) -> Image.Image:
        if self.photos.cached is not None:
            return Image.fromarray(self.photos.cached.pixels(number))
        path = self.photos.paths[number]
        with _naming(path):
            return decode_for_views(path.read_bytes(), self.size, name=path.name)


class EvaluationPhotos(Dataset[Example]):
    """Photos as `gendercls.images` gives them to the model. Raises PhotoError for one that cannot be read any more."""

    def __init__(self, photos: PhotoSet, preprocessing: Preprocessing) -> None:
        self.photos = photos
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, number: int) -> Example:
        return torch.from_numpy(self._pixels(number)), torch.from_numpy(self.photos.targets[number])

    def _pixels(self, number: int) -> NDArray[np.uint8]:
        if self.photos.cached is not None:
            return self.photos.cached.pixels(number)
        path = self.photos.paths[number]
        with _naming(path):
            return np.array(to_array(path.read_bytes(), self.preprocessing, name=path.name))


class EpochBatches(Sampler[list[View]]):
    """The batches of one epoch, shuffled by (seed, epoch), from a step onwards; the last short one is dropped.

    Of several processes (``world``) that train one network, each has its rank's share of every batch: the whole
    run's batches are the same for any number of processes, which must divide ``batch_size``.
    """

    def __init__(self, photos: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.photos = photos
        # Fewer photos than one batch: the largest batch that they fill and that divides among the processes.
        self.batch_size = min(batch_size, photos - photos % world)
        self.seed = seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        return self.photos // self.batch_size

    def __iter__(self) -> Iterator[list[View]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.photos)
        for step in range(self.first_step, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(number)) for number in chosen[self.rank :: self.world]]


class PhotoLoader(DataLoader[Any]):
    """Batches of (uint8 ``[B, H, W, 3]``, int8 ``[B, K]``). Raises PhotoError, which names the photo that was lost."""

    def __init__(self, photos: Dataset[Example], workers: int, **arguments: Any) -> None:
        workers = min(workers, available_cores())  # more would only take turns, and torch warns of them
        super().__init__(
            _Outcomes(photos),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            collate_fn=_collate,
            worker_init_fn=_begin_worker,
            # A loader draws a number for its workers; drawn from the network's own random state, a run that continues
            # within an epoch, and so opens its loader once more, would go on with other dropouts.
            generator=torch.Generator(),
            **arguments,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises its own class; a loop needs none
        with begun_deaf():
            batches = super().__iter__()
        for batch in batches:
            if isinstance(batch, PhotoError):
                raise batch
            yield batch


def training_loader(photos: PhotoSet, recipe: Recipe, seed: int, batches: EpochBatches) -> PhotoLoader:
    """Random views in batches; the epoch and its first step are those of ``batches`` when an iteration begins."""
    return PhotoLoader(TrainingViews(photos, recipe, seed), recipe.workers, batch_sampler=batches)


def evaluation_loader(photos: PhotoSet, preprocessing: Preprocessing, workers: int) -> PhotoLoader:
    """The photos in their order, in batches of 64, without augmentation."""
    return PhotoLoader(EvaluationPhotos(photos, preprocessing), workers, batch_size=64)


class _Outcomes(Dataset[Example | PhotoError]):
    """A photo, or its error as a value: an exception in a worker would arrive as a traceback."""

    def __init__(self, photos: Dataset[Example]) -> None:
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)  # type: ignore[arg-type]  # asked only where it has a length

    def __getitem__(self, index: Any) -> Example | PhotoError:
        try:
            return self.photos[index]
        except PhotoError as error:
            return error


def _collate(outcomes: list[Example | PhotoError]) -> Any:
    for outcome in outcomes:
        if isinstance(outcome, PhotoError):
            return outcome
    return default_collate(outcomes)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what reading a photo raises into an error that says which one."""
    try:
        yield
    except (OSError, PhotoError) as error:
        reason = error.what if isinstance(error, PhotoError) else error.strerror or str(error)
        raise PhotoError(
            f"a photo can no longer be read: {reason}",
            where=str(path),
            do="put it back and continue with --resume, or begin anew without it",
        ) from None


def _begin_worker(_: int) -> None:
    leave_requests_to_main()
    torch.set_num_threads(1)
