"""Opening a run's model: which one, and in threads while the rest of the program is loaded.

Nothing heavy is loaded with this file, so that a model can be read while onnxruntime is.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from gendercls.address import part_of
from gendercls.classify.options import ClassifyOptions
from gendercls.guard import Watch
from gendercls.machine import begun, has_fast_int8, has_nvidia_driver
from gendercls.modelfile import OnnxFile, Precision, read_onnx, shipped_model, shipped_models

if TYPE_CHECKING:
    from gendercls.classify.session import Session


def chosen_model(path: str | os.PathLike[str] | None, precision: Precision | None, device: str) -> OnnxFile:
    """The model file at that path; without one the shipped one of that precision, or of the fastest here.

    Raises ModelError as `read_onnx` and `shipped_model` do.
    """
    return read_onnx(Path(path) if path else shipped_model(precision or _fastest_precision(device)))


def open_ahead(options: ClassifyOptions, watch: Watch) -> Future[Session] | None:
    """Begin to open the model of a run on this machine; None of one that may have to take what a run before it took."""
    if options.ray is not None or options.retry_failed or not isinstance(options.out, Path):
        return None
    begins_anew = options.restart and not watch.is_again  # what there is now is this run's own
    if os.path.exists(part_of(options.out)) and not begins_anew:
        return None

    watch.open()
    model = begun(lambda: chosen_model(options.model, options.precision, options.device), "reading")

    from gendercls.classify.session import Session  # onnxruntime, which takes longer than to read the file

    def opened() -> Session:
        try:
            return Session(model.result(), device=options.device, batch_size=options.batch_size)
        finally:
            watch.rest()

    return begun(opened, "opening")


def _fastest_precision(device: str) -> Precision:
    """int8 where there is such a model and a processor made for it; a GPU computes in floats."""
    if not has_fast_int8() or "int8" not in shipped_models():
        return "fp32"
    if device == "cpu" or (device == "auto" and not has_nvidia_driver()):
        return "int8"

    from gendercls.classify.session import runs_on_cuda

    return "fp32" if runs_on_cuda(device) else "int8"
