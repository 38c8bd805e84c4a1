"""The same real photos through PyTorch and through onnxruntime: the file stays only if they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from gendercls.answers import Answers
from gendercls.classify.session import Session
from gendercls.errors import GateError, PhotoError
from gendercls.images import to_array
from gendercls.machine import available_cores
from gendercls.sources import Photo
from gendercls.spec import GateFigures
from gendercls.train.network import CalibratedNetwork

TOLERANCE = 1e-4
"""Of a probability, for fp32: the largest difference the gate lets pass."""

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Parity:
    """Both sides' probabilities float64 ``[N, K]`` for the photos that could be read; skipped: how many could not."""

    answers: Answers
    photos: list[Photo]
    by_torch: NDArray[np.float64]
    by_onnxruntime: NDArray[np.float64]
    skipped: int

    def figures(self, tolerance: float = TOLERANCE) -> GateFigures:
        """What is kept of the comparison in the file."""
        differences = np.abs(self.by_torch - self.by_onnxruntime).max(axis=1)
        worst = int(differences.argmax())
        changed = self.changed()
        return GateFigures(
            len(self.photos), float(differences[worst]), tolerance, int(changed.sum()), self.photos[worst].key
        )

    def changed(self) -> NDArray[np.bool_]:
        """Which photos' answers differ: ``[N]``."""
        return np.asarray(self._changed_classes().any(axis=1))

    def _changed_classes(self) -> NDArray[np.bool_]:
        """Where the two sides name another class, or one more or less: ``[N, K]``."""
        return np.not_equal(self.answers.decide(self.by_torch), self.answers.decide(self.by_onnxruntime))

    def check(self) -> GateFigures:
        """The figures, when they pass.

        Raises:
            GateError: a probability differs by more than the tolerance, or a decision that is no tie.
        """
        figures = self.figures()
        if not figures.largest_difference <= TOLERANCE:
            raise GateError(
                f"onnxruntime does not follow PyTorch: a probability differs by {figures.largest_difference:.2g}, "
                f"{TOLERANCE:g} is allowed; no file was written",
                where=figures.worst_photo,
                do="this is a fault of the exporter or of onnxruntime: try other versions of torch and onnxruntime",
            )
        wrong_classes = self._changed_classes() & self.answers.is_settled(self.by_torch, TOLERANCE)
        if wrong := np.flatnonzero(wrong_classes.any(axis=1)).tolist():
            raise GateError(
                f"onnxruntime decides {len(wrong)} photos otherwise than PyTorch; no file was written",
                where=self.photos[wrong[0]].key,
                do="this is a fault of the exporter or of onnxruntime: try other versions of torch and onnxruntime",
            )
        return figures


def run_both(
    calibrated: CalibratedNetwork, session: Session, photos: Iterable[Photo], report: Callable[[str], None]
) -> Parity:
    """Decode each photo once and give the same pixels to both sides. Raises GateError when no photo can be read."""
    pre = session.model.spec.preprocessing
    used: list[Photo] = []
    by_torch: list[NDArray[np.float32]] = []
    by_onnxruntime: list[NDArray[np.float32]] = []
    skipped = 0
    stream = iter(photos)
    with ThreadPoolExecutor(available_cores()) as pool:
        while chunk := list(islice(stream, _AT_ONCE)):
            arrays: list[NDArray[np.uint8]] = []
            for photo in chunk:
                try:
                    arrays.append(to_array(photo.read(), pre, name=photo.key))
                    used.append(photo)
                except PhotoError:
                    skipped += 1
            if not arrays:
                continue
            pixels = np.stack(arrays)
            with torch.inference_mode():
                by_torch.append(calibrated(torch.from_numpy(pixels)).numpy())
            by_onnxruntime.extend(pool.map(session.run, _slices(pixels, session.batch_size)))
            if len(used) % (16 * _AT_ONCE) == 0:
                report(f"gate: {len(used):,} photos")
    if not used:
        raise GateError(
            "the gate needs real photos, and none of those given can be read",
            where=f"{skipped:,} files tried",
            do="name photos with --check",
        )
    left, right = (np.concatenate(side).astype(np.float64) for side in (by_torch, by_onnxruntime))
    return Parity(session.model.spec.answers, used, left, right, skipped)


def _slices(pixels: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))
