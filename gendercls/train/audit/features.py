"""What a frozen backbone sees in each photo: the features that the judge of labels works on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendercls.errors import PhotoError
from gendercls.images import Preprocessing, centre_box, decode, fit
from gendercls.machine import available_cores
from gendercls.train.network import Network
from gendercls.train.optimize import autocast
from gendercls.train.recipe import Recipe

ZOOM = 0.75
"""Of each side of the photo's central region, for the second view."""

_BATCH = 64

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureProgress:
    """How far it is: photos done, of how many, and photos per second so far."""

    done: int
    total: int
    photos_per_second: float


def pooled_features(
    network: Network,
    paths: Sequence[Path],
    recipe: Recipe,
    device: torch.device,
    report: Callable[[FeatureProgress], None],
) -> Features:
    """Float32 ``[N, 2816]``: the last block's 2,048 channels and a middle block's 768, each averaged over the photo.

    Each is the mean over two views: the whole photo, and its central part, mirrored. The middle block helps where
    the last one was trained for another task. Chosen on flipped labels of CelebA, see docs/audit.md.

    Raises:
        PhotoError: a photo can no longer be read.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    extract = _Extractor(network)
    parts: list[Tensor] = []
    began, done = time.monotonic(), 0
    with torch.inference_mode(), autocast(device, recipe):
        for views in _batches(paths, recipe.preprocessing()):
            images = torch.from_numpy(views).to(device)  # [B, 2, H, W, 3]
            parts.append((extract(images[:, 0]) + extract(images[:, 1])) / 2)
            done += len(views)
            report(FeatureProgress(done, len(paths), done / (time.monotonic() - began)))
    return torch.cat(parts).numpy()


class _Extractor:
    """The network up to its head, and what one of its middle blocks gives on the way."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.pooled: dict[str, Tensor] = {}
        network.backbone.Mixed_6e.register_forward_hook(self._keep_middle)
        network.head.register_forward_pre_hook(self._keep_last)

    def __call__(self, images: Tensor) -> Tensor:
        """Uint8 ``[B, H, W, 3]`` → float ``[B, 2816]`` on the CPU."""
        self.network(images)
        return torch.cat([self.pooled["last"], self.pooled["middle"]], dim=1).float().cpu()

    def _keep_middle(self, module: object, inputs: object, output: Tensor) -> None:
        self.pooled["middle"] = output.float().mean((2, 3))

    def _keep_last(self, module: object, inputs: tuple[Tensor]) -> None:
        self.pooled["last"] = inputs[0].float()


def _batches(paths: Sequence[Path], preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    """Uint8 ``[B, 2, H, W, 3]`` in the order of the paths; one batch is decoded while another is computed."""
    chunks = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(available_cores()) as pool:  # Pillow's decoders release the interpreter's lock

        def begin(chunk: Sequence[Path]) -> list[Future[NDArray[np.uint8]]]:
            return [pool.submit(two_views, path, preprocessing) for path in chunk]

        waiting = begin(chunks[0])
        for number in range(len(chunks)):
            ready = waiting
            waiting = begin(chunks[number + 1]) if number + 1 < len(chunks) else []
            yield np.stack([future.result() for future in ready])


def two_views(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A photo as the model gets it, and its central part, enlarged and mirrored: uint8 ``[2, H, W, 3]``."""
    size = preprocessing.width, preprocessing.height
    try:
        # Twice the model's size, also of the central part.
        image = decode(
            path.read_bytes(), name=path.name, at_least=(round(2 * size[0] / ZOOM), round(2 * size[1] / ZOOM))
        )
    except (OSError, PhotoError) as error:
        reason = error.what if isinstance(error, PhotoError) else error.strerror or str(error)
        raise PhotoError(
            f"a photo can no longer be read: {reason}", where=str(path), do="put it back and repeat the command"
        ) from None
    left, top, right, bottom = centre_box(image.size, size)
    width, height = ZOOM * (right - left), ZOOM * (bottom - top)
    across, down = (image.width - width) / 2, (image.height - height) / 2
    central = image.crop(
        (
            round(across),
            round(down),
            max(round(across + width), round(across) + 1),
            max(round(down + height), round(down) + 1),
        )
    )
    return np.stack([fit(image, preprocessing), fit(central, preprocessing)[:, ::-1]])
