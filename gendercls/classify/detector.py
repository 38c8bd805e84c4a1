"""The face detector on a device: opened, checked, run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gendercls.classify.session import Device, create, first_line
from gendercls.detectorfile import SHA256, DetectorFile
from gendercls.errors import ModelError
from gendercls.faces import SIDE, STRIDES

_WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


class Detector:
    """YuNet, ready to run; safe to call from several threads.

    Args:
        file: the detector, already read.
        device: where the classifier runs, so that both run on one.

    Raises:
        ModelError: onnxruntime cannot open the file or run it, or its input and outputs are not YuNet's.
    """

    def __init__(self, file: DetectorFile, device: Device) -> None:
        self.file = file
        self._session = create(file.data, str(file.path), device)
        shapes = {put.name: put.shape for put in [*self._session.get_inputs(), *self._session.get_outputs()]}
        outputs = {
            f"{kind}_{stride}": [1, (SIDE // stride) ** 2, width]
            for stride in STRIDES
            for kind, width in _WIDTHS.items()
        }
        wanted = {"input": [1, 3, SIDE, SIDE], **outputs}
        if any(shapes.get(name) != shape for name, shape in wanted.items()):
            raise ModelError(
                f"the file is no YuNet face detector with an input of {SIDE}×{SIDE}",
                where=str(file.path),
                do="name one with --face-model, or get it: gendercls faces download",
            )
        # Nothing reads the landmarks.
        self._shapes = {name: tuple(shape) for name, shape in outputs.items() if not name.startswith("kps")}
        if file.sha256 != SHA256:  # a stranger's: that it runs and ends is seen before any photo could be blamed
            self.run(np.zeros((1, 3, SIDE, SIDE), np.float32))

    def run(self, pixels: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name, of float32 ``[1, 3, 640, 640]``, BGR, 0 to 255. Raises ModelError."""
        try:
            found = dict(zip(self._shapes, self._session.run([*self._shapes], {"input": pixels}), strict=True))
        except Exception as error:  # onnxruntime raises a dozen kinds with no common base
            reason = first_line(error)
        else:
            if all(found[name].shape == shape for name, shape in self._shapes.items()):
                return found
            reason = "its outputs are not as large as it says"
        raise ModelError(
            f"the face detector cannot be run: {reason}",
            where=str(self.file.path),
            do="name another with --face-model, or get it: gendercls faces download",
        )
