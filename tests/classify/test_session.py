"""The model on a GPU, as far as that can be seen without one: a session that fails on purpose stands in for it."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from gendercls import Classifier
from gendercls.classify import provider, session
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.run import classify
from gendercls.classify.session import CUDA_BATCH, Device, Session
from gendercls.classify.summary import Summary
from gendercls.errors import DeviceError, ModelError, OutputError
from gendercls.modelfile import read_model_file

Take = Callable[..., list[Path]]
GIB = 1024**3
# As onnxruntime words it; see its issues 16307 and 22702.
NO_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Status "
    "Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate "
    "memory for requested buffer of size 939524096"
)


@dataclass
class Gpu:
    """A GPU whose memory holds ``photos`` at once, on which ``free`` bytes are said to be free.

    runs: how many photos each run had; went_well: how many of the runs did; sessions: how many were opened; at_once:
    the most runs at one time; fails_after: runs that go well before all fail with ``failure``; poison: a red of the
    upper left pixel at which each fails.
    """

    photos: int = 1024
    free: int | None = 80 * GIB
    fails_after: int = 1_000_000
    failure: str = NO_MEMORY
    poison: int | None = None
    runs: list[int] = field(default_factory=list)
    went_well: int = 0
    sessions: int = 0
    at_once: int = 0
    running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class GpuSession:
    """An onnxruntime session on the CPU that behaves as if it were on that GPU."""

    def __init__(self, gpu: Gpu, data: bytes) -> None:
        self.gpu, self.real = gpu, ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        gpu.sessions += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_providers(self) -> list[str]:
        return [provider.CUDA]

    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.uint8]]) -> Any:
        gpu = self.gpu
        with gpu.lock:
            gpu.running += 1
            gpu.at_once = max(gpu.at_once, gpu.running)
            gpu.runs.append(len(inputs["images"]))
            fails = gpu.went_well >= gpu.fails_after or len(inputs["images"]) > gpu.photos
            fails |= bool((inputs["images"][:, 0, 0, 0] == gpu.poison).any())
            gpu.went_well += not fails
        time.sleep(0.001)  # gives up the interpreter, as a run does
        with gpu.lock:
            gpu.running -= 1
        if fails:
            raise RuntimeError(gpu.failure)
        return self.real.run(outputs, inputs)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """This machine's GPU from now on; change it as the test wants it."""
    it = Gpu()
    real = session.create
    monkeypatch.setattr(session, "why_no_cuda", lambda: "")
    monkeypatch.setattr(session, "free_memory", lambda number: it.free)
    monkeypatch.setattr(
        session,
        "create",
        lambda data, where, device: GpuSession(it, data) if device.is_cuda else real(data, where, device),
    )
    return it


def refusal(act: Callable[[], object]) -> str:
    """What is said about memory that is short."""
    with pytest.raises(DeviceError) as caught:
        act()
    return str(caught.value)


# --- the batch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "least", "most"), [(80 * GIB, CUDA_BATCH, CUDA_BATCH), (None, CUDA_BATCH, CUDA_BATCH), (GIB // 4, 1, 8)]
)
def test_the_batch_is_what_the_free_memory_is_sure_to_hold(
    gpu: Gpu, null_model: Path, free: int | None, least: int, most: int
) -> None:
    """And the default where the driver does not tell."""
    gpu.free = free
    assert least <= Session(read_model_file(null_model)).batch_size <= most


def test_a_gpu_without_any_memory_gets_one_photo_at_once(gpu: Gpu, null_model: Path) -> None:
    """The first run, not the estimate, says that it does not work."""
    gpu.free = 0
    assert Session(read_model_file(null_model)).batch_size == 1


def test_the_batch_is_halved_until_the_first_run_fits(gpu: Gpu, null_model: Path) -> None:
    """Each time in a new session, since the old one keeps what it took."""
    gpu.photos = 20
    assert Session(read_model_file(null_model)).batch_size == 16
    assert (list(dict.fromkeys(gpu.runs)), gpu.sessions) == ([64, 32, 16], 3)


def test_not_even_one_photo_fits(gpu: Gpu, null_model: Path) -> None:
    """The error does not advise a smaller batch."""
    gpu.photos = 0
    message = refusal(lambda: Session(read_model_file(null_model)))
    pre = read_model_file(null_model).spec.preprocessing
    assert message == (
        "the memory of cuda:0 is too small for a photo\n"
        f"  where: {null_model}, {pre.width}×{pre.height}\n"
        "  do:    free some of it and repeat the command, which continues, or take another model"
    )


def test_a_batch_that_was_asked_for_is_not_halved(gpu: Gpu, null_model: Path) -> None:
    """Who names one gets it or an error."""
    gpu.photos = 20
    message = refusal(lambda: Session(read_model_file(null_model), batch_size=48))
    assert message.startswith("the memory of cuda:0 is too small for 48 photos at once\n")
    assert message.endswith("which continues, or take a smaller batch: --batch-size 24 --restart")
    assert set(gpu.runs) == {48}


def test_another_failure_is_not_taken_for_short_memory(gpu: Gpu, null_model: Path) -> None:
    """It is said as onnxruntime says it, at once."""
    gpu.fails_after, gpu.failure = 0, "CUDA failure 700: an illegal memory access was encountered"
    with pytest.raises(ModelError, match="onnxruntime cannot run the model: CUDA failure 700"):
        Session(read_model_file(null_model))
    assert set(gpu.runs) == {64}


def test_two_runs_at_a_time_share_the_memory(gpu: Gpu, null_model: Path) -> None:
    """However many threads ask: one's photos travel while another's are computed."""
    opened = Session(read_model_file(null_model), batch_size=4)
    images = np.zeros((4, *opened.model.spec.self_test.images(opened.model.spec.preprocessing).shape[1:]), np.uint8)
    threads = [threading.Thread(target=opened.run, args=(images,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (gpu.at_once, len(gpu.runs)) == (2, 14)


# --- a run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(take: Take, null_model: Path, tmp_path: Path) -> Callable[..., Summary]:
    """``run(**options)``: 150 photos through the null model, to ``o.csv``."""
    take(tmp_path / "photos", 150)
    fixed = {"photos": (str(tmp_path / "photos"),), "out": tmp_path / "o.csv", "model": null_model, "jobs": 1}
    return lambda **options: classify(ClassifyOptions(**fixed, **options), lambda progress: None)


def test_every_run_has_one_shape(gpu: Gpu, run: Callable[..., Summary], tmp_path: Path) -> None:
    """The last photos too, whose batch is filled up; the record says which shape."""
    assert run(batch_size=32).device == "cuda:0"
    assert set(gpu.runs) == {32}
    shape = json.loads((tmp_path / "o.csv.run.json").read_text(encoding="utf-8"))["options"]["batch_shape"]
    assert shape[0] == 32


def test_memory_that_gets_short_later_loses_nothing(gpu: Gpu, run: Callable[..., Summary], tmp_path: Path) -> None:
    """The error says how to go on; the same command does, in the same shape, whatever memory is free by then."""
    run(batch_size=16)
    whole = (tmp_path / "o.csv").read_bytes()
    (tmp_path / "o.csv").unlink()
    gpu.photos, gpu.fails_after = 20, gpu.went_well + 2 + 5  # two try whether the batch fits
    message = refusal(run)
    assert message.startswith("the memory of cuda:0 is too small for 16 photos at once\n")
    assert message.endswith("which continues, or take a smaller batch: --batch-size 8 --restart")
    assert (tmp_path / "o.csv.part").read_bytes() == b"".join(whole.splitlines(keepends=True)[: 1 + 5 * 16])
    gpu.photos, gpu.fails_after = 1024, 1_000_000
    began = len(gpu.runs)
    assert run().kept == 5 * 16 - 1
    assert set(gpu.runs[began:]) == {16}
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_another_shape_is_another_run(gpu: Gpu, run: Callable[..., Summary], tmp_path: Path) -> None:
    """One that is asked for does not go on with the rows of the first, which stay."""
    gpu.fails_after = 4
    refusal(lambda: run(batch_size=32))
    gpu.fails_after = 1_000_000
    with pytest.raises(OutputError, match="batch shape"):
        run(batch_size=16)
    run(batch_size=16, restart=True)
    assert gpu.runs[-1] == 16


def test_one_photo_cannot_fail_its_neighbours(gpu: Gpu, null_model: Path) -> None:
    """A batch that fails is run photo by photo: all others have their own answers, in their own places."""
    gpu.poison, gpu.failure = 200, "CUDA failure 700: an illegal memory access was encountered"
    pre = read_model_file(null_model).spec.preprocessing
    reds = np.random.default_rng(4).permutation(201).astype(np.uint8)
    photos = [np.full((pre.height, pre.width, 3), [red, 100, 0], np.uint8) for red in reds]
    found = list(Classifier(null_model, device="cuda", batch_size=16, jobs=3).predict(photos))
    assert [prediction.error for prediction in found if prediction.error] == ["the model fails on it"]
    assert found[int(np.argmax(reds))].error == "the model fails on it"
    for red, prediction in zip(reds.tolist(), found, strict=True):
        if not prediction.error:
            expected = 1 / (1 + np.exp((100 - red) / 255))
            assert abs(prediction.probabilities[0] - expected) < 1e-5


def test_a_device_that_is_broken_is_no_photos_fault(gpu: Gpu, null_model: Path) -> None:
    """Nothing gets an answer any more, so the run ends with what onnxruntime says."""
    classifier = Classifier(null_model, device="cuda", batch_size=4)
    gpu.fails_after, gpu.failure = gpu.went_well, "CUDA failure 700: an illegal memory access was encountered"
    pre = classifier.spec.preprocessing
    with pytest.raises(ModelError, match="onnxruntime cannot run the model: CUDA failure 700"):
        list(classifier.predict([np.zeros((pre.height, pre.width, 3), np.uint8)] * 6))


# --- the driver -------------------------------------------------------------------------------------------------


class Driver:
    """libcuda as far as `free_memory` uses it. fails: the call that gives an error; calls: their names."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = 5 * GIB, 8 * GIB
            return 2 if name == self.fails else 0

        return call


def test_free_memory_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the GPU is let go of again."""
    driver = Driver()
    monkeypatch.setattr(provider, "nvidia_driver", lambda: driver)
    assert provider.free_memory(1) == 5 * GIB
    assert driver.calls[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


@pytest.mark.parametrize(
    "fails", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
)
def test_a_driver_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """The batch is then chosen without knowing; what was taken is given back."""
    driver = Driver(fails)
    monkeypatch.setattr(provider, "nvidia_driver", lambda: driver)
    assert provider.free_memory(0) is None
    took, gave = driver.calls.count("cuDevicePrimaryCtxRetain"), driver.calls.count("cuDevicePrimaryCtxRelease_v2")
    assert gave == (took if fails != "cuDevicePrimaryCtxRetain" else 0)


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU."""
    monkeypatch.setattr(provider, "nvidia_driver", lambda: ctypes.CDLL("libno-such-driver.so.1"))
    assert provider.free_memory(0) is None
    monkeypatch.setattr(ort, "get_available_providers", lambda: [provider.CUDA])
    assert provider.why_no_cuda() == "the NVIDIA driver is not installed (libcuda.so.1)"


def test_cuda_is_asked_for_what_gives_the_same_answer_twice(monkeypatch: pytest.MonkeyPatch, null_model: Path) -> None:
    """No TF32, and algorithms chosen by rule and not by the clock."""
    asked = []
    monkeypatch.setattr(ort, "InferenceSession", lambda data, options, providers: asked.append(providers))
    session.create(null_model.read_bytes(), "null", Device("cuda:1"))
    options = {"device_id": 1, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
    assert asked == [[(provider.CUDA, options), "CPUExecutionProvider"]]
