"""An ONNX model on a device: open it, prove which device runs it, run a batch."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gendercls.classify.provider import CUDA, SILENT, free_memory, silence, why_no_cuda
from gendercls.errors import DeviceError, ModelError, UsageError
from gendercls.machine import available_cores
from gendercls.modelfile import ModelFile, OnnxFile

CPU_BATCH = 8
CUDA_BATCH = 64

_CUDA_RUNS = 2
"""At once: one's photos go to the GPU while another's are computed. More would only take its memory."""

_CUDA_BYTES_PER_PIXEL = 1024
"""More than a pixel of the input takes in Inception-v3: its widest maps are 64 floats for each 4 pixels, and a few
such maps and cuDNN's workspace are alive at once. Where it is not enough, the first run shows it."""

_WHERE_IN_IT = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+:\d+ [^()]*\([^()]*\)(?: const)? ")
"""What onnxruntime says before it comes to the point: a number, a line of its own source, a function."""

# How onnxruntime and the libraries below it say that memory is short: BFCArena, the CUDA runtime, cuDNN and cuBLAS.
_MEMORY_IS_SHORT = re.compile(r"failed to allocate|out of memory|alloc_failed|bad_alloc", re.IGNORECASE)


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
        model: the file, already read. The contract of an `OnnxFile` is read when it has been opened.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: the most photos in a run. On CUDA every run has exactly this shape, since another may give other
            bits (and is tuned anew); on a CPU no bit depends on it. None takes what the device's memory is sure to
            hold, and half of it for as long as it does not.

    Raises:
        DeviceError: the asked device does not work, or its memory is too small; says what is missing.
        ModelError: onnxruntime cannot open the model, its shapes are not the contract's, or the self-test fails.
    """

    def __init__(self, model: ModelFile | OnnxFile, *, device: str = "auto", batch_size: int | None = None) -> None:
        self._session, self.device = _open(model.data, str(model.path), device)
        self.model = model if isinstance(model, ModelFile) else model.with_contract()
        is_cuda = self.device.is_cuda
        self._turns: AbstractContextManager[object] = threading.Semaphore(_CUDA_RUNS) if is_cuda else nullcontext()
        self.batch_size = batch_size or self._default_batch()
        self._check_shapes()
        self.self_test_difference = self._first_run(may_shrink=batch_size is None)
        self.model = replace(self.model, data=b"")  # onnxruntime has its own copy

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
            with self._turns:
                found: list[NDArray[np.float32]] = self._session.run(outputs, {"images": images})
        except Exception as error:  # onnxruntime raises a dozen kinds with no common base
            if _MEMORY_IS_SHORT.search(str(error)):
                raise self._memory_is_short(len(images)) from None
            raise ModelError(
                f"onnxruntime cannot run the model: {first_line(error)}",
                where=f"{self.model.path} on {self.device.name}, {len(images)} photos at once",
                do="choose a smaller --batch-size; if that changes nothing, export the model again",
            ) from None
        # What a file says of its outputs need not be so.
        shapes = [list(part.shape) for part in found]
        rows = [len(images)]
        if shapes[0] != [*rows, len(self.model.spec.classes)] or any(shape[:-1] != rows for shape in shapes):
            raise ModelError(
                f"the model does not answer with one row for each photo: {shapes}",
                where=f"{self.model.path} on {self.device.name}, {len(images)} photos at once",
                do="export it again",
            )
        return [part[:count] for part in found]

    def _memory_is_short(self, count: int) -> DeviceError:
        anew = " --restart" if self.device.is_cuda else ""
        smaller = f"a smaller batch: --batch-size {self.batch_size // 2}{anew}"
        photos = f"{count} photos at once" if count > 1 else "a photo"
        return DeviceError(
            f"the memory of {self.device.name} is too small for {photos}",
            where=f"{self.model.path}, {self.model.spec.preprocessing.width}×{self.model.spec.preprocessing.height}",
            do="free some of it and repeat the command, which continues, or take "
            + (smaller if self.batch_size > 1 else "another model"),
        )

    def _default_batch(self) -> int:
        """The batch that is fastest; on a GPU, of what takes no more than half of its free memory."""
        if not self.device.is_cuda:
            return CPU_BATCH
        pre, free = self.model.spec.preprocessing, free_memory(self.device.number)
        batch = CUDA_BATCH
        needed = _CUDA_RUNS * pre.width * pre.height * _CUDA_BYTES_PER_PIXEL
        while batch > 1 and free is not None and batch * needed > free // 2:
            batch //= 2
        return batch

    def _first_run(self, *, may_shrink: bool) -> float:
        """The self-test, with the batch halved until the memory holds it; its difference, as `self_test` gives it."""
        while True:
            try:
                if not self.device.is_cuda:
                    return self.self_test()
                with ThreadPoolExecutor(_CUDA_RUNS) as pool:  # as much memory as the work will take
                    return max(pool.map(lambda _: self.self_test(), range(_CUDA_RUNS)))
            except DeviceError:
                if not may_shrink or self.batch_size == 1:
                    raise
            self.batch_size //= 2
            self._session = None  # first, for its arena gives nothing back while it lives
            self._session = create(self.model.data, str(self.model.path), self.device)

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

    def self_test(self) -> float:
        """The largest difference from what the spec promises. Raises ModelError above the spec's tolerance."""
        test = self.model.spec.self_test
        images = test.images(self.model.spec.preprocessing)
        # On a CPU two at once, so that two cores have some; no bit depends on it, and a command starts the sooner.
        size, cores = (self.batch_size, 1) if self.device.is_cuda else (min(2, self.batch_size), available_cores())
        batches = [images[n : n + size] for n in range(0, len(images), size)]
        with ThreadPoolExecutor(cores) as pool:
            answer = np.concatenate(list(pool.map(self.run, batches)))
        difference = test.difference(answer)
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


def _open(data: bytes, where: str, asked: str) -> tuple[Any, Device]:
    kind, _, number = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise UsageError(f"no device {asked!r}", where="--device", do="use auto, cpu, cuda or cuda:N")
    problem = "" if kind == "cpu" else why_no_cuda()
    if kind != "cpu" and not problem:
        device = Device(f"cuda:{int(number or 0)}")
        session = create(data, where, device)
        if session.get_providers()[0] == CUDA:
            return session, device
        problem = "onnxruntime could not start its CUDA provider: see gendercls doctor"
    if kind == "cuda":
        raise DeviceError(
            f"CUDA does not work here: {problem}", where=f"--device {asked}", do="mend that, or use --device cpu"
        )
    device = Device("cpu", problem)
    return create(data, where, device), device


def create(data: bytes, where: str, device: Device) -> Any:
    """An onnxruntime session of a model's bytes. Raises ModelError, naming ``where``."""
    # HEURISTIC picks a convolution's algorithm by rule. The default picks by measuring, so that two runs may differ in
    # the sixth decimal (onnxruntime#19822) and each new shape costs seconds. TF32 has 10 bits of mantissa.
    cuda = (CUDA, {"device_id": device.number, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    # One thread: cores are filled by chunks that run side by side, not by splitting one convolution.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        with silence():
            providers = [*([cuda] if device.is_cuda else []), "CPUExecutionProvider"]
            return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen kinds with no common base
        raise ModelError(
            f"onnxruntime cannot open the model: {first_line(error)}", where=where, do="fetch or export it again"
        ) from None


def first_line(error: Exception) -> str:
    """What onnxruntime says of itself, for a message."""
    return _WHERE_IN_IT.sub("", str(error).partition("\n")[0])[:200]
