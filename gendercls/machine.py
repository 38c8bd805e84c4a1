"""What of the machine this process may use, and a thread for what need not be waited for."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def available_cores() -> int:
    """Cores that this process may use: its affinity, and its container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return cores


def begun(work: Callable[[], T], name: str) -> Future[T]:
    """What the function will give, or raise, called in a thread of that name and of its own."""
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


@cache
def has_fast_int8() -> bool:
    """Whether a network is faster in 8 bits here, where the system tells: 1.8 times with AVX2, more with VNNI."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in facts.splitlines() if line.startswith("flags")), "").split()
    return "avx2" in flags


@cache
def has_nvidia_driver() -> bool:
    """Whether the driver's library is here; without it there is no CUDA, and onnxruntime need not be asked."""
    try:
        nvidia_driver()
    except OSError:
        return False
    return True


def nvidia_driver() -> ctypes.CDLL:
    """The NVIDIA driver's library. Raises OSError where there is none."""
    return ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
