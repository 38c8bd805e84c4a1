"""Labelled photos as tensors; augmentation.

A photo's random view depends on (seed, epoch, photo) alone, so neither workers nor a resumed run change it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import InterpolationMode, v2

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing, decode, to_array
from gendercls.machine import available_cores
from gendercls.train.recipe import Recipe

_GREY = (128, 128, 128)
_INTERPOLATION = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}

View = tuple[int, int]
"""(epoch, number of the photo): what a training photo's augmentation is drawn from."""


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """N photos and their classes. paths ``[N]``; targets int64 ``[N]``, indices of classes."""

    paths: list[Path]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)


class TrainingViews(Dataset[tuple[torch.Tensor, int]]):
    """Random views: uint8 ``[H, W, 3]`` and the class index, by `View`."""

    def __init__(self, photos: PhotoSet, recipe: Recipe, seed: int) -> None:
        self.photos = photos
        self.size = 2 * recipe.size
        self.augment = augmentation(recipe)
        self.seed = seed

    def __getitem__(self, view: View) -> tuple[torch.Tensor, int]:
        epoch, number = view
        path = self.photos.paths[number]
        image = decode(path.read_bytes(), name=path.name, at_least=(self.size, self.size))
        # Forked so that photos decoded in this process leave the network's own random state alone.
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: torch.manual_seed would also set a GPU's, which the fork does not put back.
            seed = np.random.SeedSequence((self.seed, epoch, number)).generate_state(1)[0]
            torch.default_generator.manual_seed(int(seed))
            pixels = self.augment(image)
        return pixels.permute(1, 2, 0), int(self.photos.targets[number])


class EvaluationPhotos(Dataset[tuple[torch.Tensor, int]]):
    """Photos as `gendercls.images` gives them to the model: uint8 ``[H, W, 3]`` and the class index."""

    def __init__(self, photos: PhotoSet, preprocessing: Preprocessing) -> None:
        self.photos = photos
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        path = self.photos.paths[number]
        pixels = to_array(path.read_bytes(), self.preprocessing, name=path.name)
        return torch.from_numpy(np.array(pixels)), int(self.photos.targets[number])


class EpochBatches(Sampler[list[View]]):
    """The batches of one epoch, shuffled by (seed, epoch), from a step onwards; the last short one is dropped."""

    def __init__(self, photos: int, batch_size: int, seed: int) -> None:
        self.photos = photos
        self.batch_size = min(batch_size, photos)
        self.seed = seed
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        return self.photos // self.batch_size

    def __iter__(self) -> Iterator[list[View]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.photos)
        for step in range(self.first_step, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(number)) for number in chosen]


def evaluation_loader(
    photos: PhotoSet, preprocessing: Preprocessing, workers: int
) -> DataLoader[tuple[torch.Tensor, int]]:
    """Batches of (uint8 ``[B, H, W, 3]``, int64 ``[B]``) in the order of the photos."""
    return DataLoader(EvaluationPhotos(photos, preprocessing), batch_size=64, num_workers=workers)


def augmentation(recipe: Recipe) -> v2.Compose:
    """A decoded photo → a random view of it, uint8 ``[3, H, W]``."""
    size = [recipe.size, recipe.size]
    interpolation = _INTERPOLATION[recipe.resampling]
    turned = v2.RandomRotation([-recipe.rotation, recipe.rotation], InterpolationMode.BILINEAR, fill=_GREY)
    return v2.Compose(
        [
            v2.RandomApply([turned], p=0.5),
            v2.RandomZoomOut(fill=_GREY, side_range=(1.0, recipe.zoom_out), p=recipe.zoom_out_probability),
            v2.RandomResizedCrop(size, (recipe.crop_min, 1.0), (1 / recipe.aspect, recipe.aspect), interpolation),
            v2.RandomHorizontalFlip(recipe.flip),
            v2.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue),
            v2.RandomGrayscale(recipe.grey),
            v2.RandomApply([LowResolution(recipe.size)], p=recipe.low_resolution),
            v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.5))], p=recipe.blur),
            v2.RandomApply([JpegAgain(30, 90)], p=recipe.jpeg),
            v2.PILToTensor(),
            v2.RandomErasing(p=recipe.erasing, scale=(0.02, 0.15), value=128),
        ]
    )


class LowResolution(torch.nn.Module):
    """Shrinks a photo to between a fifth and two thirds of the model's size and back: faces far from the camera."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.smallest, self.largest = size // 5, 2 * size // 3

    def forward(self, image: Image.Image) -> Image.Image:
        small = int(torch.randint(self.smallest, self.largest + 1, ()))
        return image.resize((small, small), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


class JpegAgain(torch.nn.Module):
    """Saves a photo as a JPEG of random quality and opens it again. torchvision's own is deprecated since 0.29."""

    def __init__(self, worst: int, best: int) -> None:
        super().__init__()
        self.worst, self.best = worst, best

    def forward(self, image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(torch.randint(self.worst, self.best + 1, ())))
        return Image.open(file).convert("RGB")


@dataclass(frozen=True, slots=True)
class PhotoCheck:
    """reason: why the photo cannot be used, empty where it can; digest: SHA-256 of its bytes."""

    reason: str
    digest: str


def check_photos(paths: Sequence[Path], preprocessing: Preprocessing) -> list[PhotoCheck]:
    """Decode every photo once, on all cores, so that training meets no surprise."""
    with ProcessPoolExecutor(available_cores()) as pool:
        return list(pool.map(_check_photo, paths, [preprocessing] * len(paths), chunksize=256))


def _check_photo(path: Path, preprocessing: Preprocessing) -> PhotoCheck:
    try:
        data = path.read_bytes()
        to_array(data, preprocessing, name=path.name)
    except PhotoError as error:
        return PhotoCheck(error.what, "")
    except OSError as error:
        return PhotoCheck(error.strerror or str(error), "")
    return PhotoCheck("", hashlib.sha256(data).hexdigest())
