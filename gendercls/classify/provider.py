"""onnxruntime's CUDA provider: what it lacks here, how much memory it finds, and how to load it in silence."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnxruntime as ort

from gendercls.machine import nvidia_driver

CUDA = "CUDAExecutionProvider"
SILENT = 4  # onnxruntime writes to stderr by itself; what it says is in the exception too


def why_no_cuda() -> str:
    """What is missing for CUDA, in a line; empty when nothing is known to be missing."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA: pip install onnxruntime-gpu"
    try:
        driver = nvidia_driver()
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
    with silence(), redirect_stdout(None):  # it prints what it misses, where others may be reading JSON
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


def free_memory(gpu: int) -> int | None:
    """Bytes that are free on a GPU; None where the driver does not tell.

    Source: NVIDIA, CUDA Driver API, primary context management and cuMemGetInfo.
    """
    try:
        driver = nvidia_driver()
    except OSError:
        return None
    device, context, free, total = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), gpu) != 0:
        return None
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context) != 0:
            return None
        found = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value if found else None


@contextmanager
def silence() -> Iterator[None]:
    """onnxruntime's loader writes to stderr whatever the session's own level is."""
    ort.set_default_logger_severity(SILENT)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)
