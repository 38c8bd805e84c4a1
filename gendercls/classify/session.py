"""An ONNX model on a device: open it, prove which device runs it, run a batch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gendercls.errors import DeviceError, ModelError, UsageError
from gendercls.modelfile import ModelFile

CPU_BATCH = 8
CUDA_BATCH = 64
_CUDA = "CUDAExecutionProvider"
_SILENT = 4  # onnxruntime writes to stderr by itself; what it says is in the exception too


@dataclass(frozen=True, slots=True)
class Device:
    """Where the session really runs: ``cpu`` or ``cuda:N``. why_not_cuda: said when ``auto`` fell back."""

    name: str
    why_not_cuda: str = ""

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def number(self) -> int:
        """Which of several GPUs; 0 on a CPU."""
        return int(self.name.partition(":")[2] or 0)


class Session:
    """A model that has been opened and has passed its own self-test; safe to call from several threads.

    Args:
        model: the file, already read.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: the most photos in a run. On CUDA every run has exactly this shape, since another may give other
            bits (and is tuned anew); on a CPU no bit depends on it.

    Raises:
        DeviceError: the asked device does not work; says what is missing.
        ModelError: onnxruntime cannot open the model, its shapes are not the contract's, or the self-test fails.
    """

    def __init__(self, model: ModelFile, *, device: str = "auto", batch_size: int | None = None) -> None:
        self.model = model
        self._session, self.device = _open(model, device)
        self.batch_size = batch_size or (CUDA_BATCH if self.device.is_cuda else CPU_BATCH)
        self._check_shapes()
        self.self_test_difference = self._self_test()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 ``[N, K]`` of uint8 ``[N, H, W, 3]`` RGB, N at most the batch size."""
        return self._run(images, ["probabilities"])[0]

    def run_with_embedding(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """As `run`, and the embedding float32 ``[N, D]``, of a model that has it."""
        return self._run(images, ["probabilities", "embedding"])

    def _run(self, images: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        count = len(images)
        if self.device.is_cuda and count < self.batch_size:
            padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
            padded[:count] = images
            images = padded
        try:
            return [output[:count] for output in self._session.run(outputs, {"images": images})]
        except Exception as error:  # onnxruntime raises a dozen kinds with no common base
            raise ModelError(
                f"onnxruntime cannot run the model: {_first_line(error)}",
                where=f"{self.model.path} on {self.device.name}, {len(images)} photos at once",
                do="choose a smaller --batch-size; if that changes nothing, export the model again",
            ) from None

    def _check_shapes(self) -> None:
        spec, path = self.model.spec, str(self.model.path)
        inputs, outputs = self._session.get_inputs(), {o.name: o for o in self._session.get_outputs()}
        wanted = [spec.preprocessing.height, spec.preprocessing.width, 3]
        sound = len(inputs) == 1 and inputs[0].name == "images" and inputs[0].type == "tensor(uint8)"
        if not sound or list(inputs[0].shape[1:]) != wanted:
            raise ModelError(
                f"the model's input is not 'images', uint8 [N, {wanted[0]}, {wanted[1]}, 3]",
                where=path,
                do="export it again",
            )
        embedding = outputs.get("embedding")
        if spec.familiar_norm is not None and (embedding is None or embedding.type != "tensor(float)"):
            raise ModelError("the model has no output 'embedding', float32 [N, D]", where=path, do="export it again")
        output = outputs.get("probabilities")
        if output is None or output.type != "tensor(float)" or list(output.shape[1:]) != [len(spec.classes)]:
            raise ModelError(
                f"the model's output is not 'probabilities', float32 [N, {len(spec.classes)}]",
                where=path,
                do="export it again",
            )

    def _self_test(self) -> float:
        """The largest difference from what the spec promises. Raises ModelError above the spec's tolerance."""
        test = self.model.spec.self_test
        images = test.images(self.model.spec.preprocessing)
        batches = [images[n : n + self.batch_size] for n in range(0, len(images), self.batch_size)]
        answer = np.concatenate([self.run(batch) for batch in batches])
        difference = float(np.abs(answer - np.array(test.probabilities)).max())
        if not difference <= test.tolerance:  # also when the answer is no number
            raise ModelError(
                f"the model fails its self-test: it is off by {difference:.2g}, {test.tolerance:g} is allowed",
                where=f"{self.model.path} on {self.device.name}",
                do="the file may be damaged: fetch or export it again",
            )
        return difference


def runs_on_cuda(asked: str) -> bool:
    """Whether a session that is asked for that device would run on CUDA, as far as is known without opening one."""
    return asked.startswith("cuda") or (asked == "auto" and not why_no_cuda())


def why_no_cuda() -> str:
    """What is missing for CUDA, in a line; empty when nothing is known to be missing."""
    if _CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA: pip install onnxruntime-gpu"
    try:
        driver = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return "the NVIDIA driver is not installed (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver sees no GPU"
    if problem := _driver_too_old(driver):
        return problem
    preload_cuda()
    return _missing_library()


def preload_cuda() -> None:
    """Load the CUDA and cuDNN libraries that pip brings, so that onnxruntime finds them."""
    with _silence():
        ort.preload_dlls()


def _driver_too_old(driver: ctypes.CDLL) -> str:
    """A driver runs all that is built for its own major version of CUDA, and for those before it.

    Source: NVIDIA, CUDA Compatibility, "Minor version compatibility".
    """
    version, needed = ctypes.c_int(0), str(getattr(ort, "cuda_version", ""))
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or not needed.partition(".")[0].isdigit():
        return ""
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major >= int(needed.partition(".")[0]):
        return ""
    return f"the NVIDIA driver is for CUDA {major}.{minor}, this onnxruntime needs {needed}: install a newer driver"


def _missing_library() -> str:
    """The first library that onnxruntime's CUDA provider lacks, by loading the provider as the linker would."""
    folder = Path(ort.__file__).parent / "capi"
    provider = folder / "libonnxruntime_providers_cuda.so"
    if not provider.exists():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        library = str(error).partition(":")[0]
        return f"{library} is not installed: pip install 'gendercls[cuda]'"
    return ""


def _open(model: ModelFile, asked: str) -> tuple[Any, Device]:
    kind, _, number = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise UsageError(f"no device {asked!r}", where="--device", do="use auto, cpu, cuda or cuda:N")
    problem = "" if kind == "cpu" else why_no_cuda()
    if kind != "cpu" and not problem:
        device = Device(f"cuda:{int(number or 0)}")
        session = create(model.data, str(model.path), device)
        if session.get_providers()[0] == _CUDA:
            return session, device
        problem = "onnxruntime could not start its CUDA provider: see gendercls doctor"
    if kind == "cuda":
        raise DeviceError(
            f"CUDA does not work here: {problem}", where=f"--device {asked}", do="mend that, or use --device cpu"
        )
    device = Device("cpu", problem)
    return create(model.data, str(model.path), device), device


def create(data: bytes, where: str, device: Device) -> Any:
    """An onnxruntime session of a model's bytes. Raises ModelError, naming ``where``."""
    cuda = (_CUDA, {"device_id": device.number, "use_tf32": 0})
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # One thread: cores are filled by chunks that run side by side, not by splitting one convolution.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        with _silence():
            providers = [*([cuda] if device.is_cuda else []), "CPUExecutionProvider"]
            return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen kinds with no common base
        raise ModelError(
            f"onnxruntime cannot open the model: {_first_line(error)}", where=where, do="fetch or export it again"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


@contextmanager
def _silence() -> Iterator[None]:
    """onnxruntime's loader writes to stderr whatever the session's own level is."""
    ort.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)
