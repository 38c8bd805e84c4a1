"""What this machine has, what it lacks, and whether the shipped model answers as it should."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gendercls.classify.provider import why_no_cuda
from gendercls.classify.session import Session
from gendercls.errors import GenderclsError
from gendercls.machine import available_cores
from gendercls.modelfile import read_model_file, shipped_model

_PACKAGES = ("gendercls", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "click", "rich", "torch", "torchvision")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. is_good: None where it is a plain fact."""

    what: str
    value: str
    is_good: bool | None = None


def examine() -> list[Finding]:
    """Versions, processor, providers, CUDA, and the shipped model's self-test. Raises nothing."""
    findings = [
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("Python", f"{platform.python_version()} at {sys.executable}"),
        Finding("processor", processor()),
        Finding("cores", _cores(available_cores(), os.cpu_count() or 1)),
    ]
    installed = {name: _version(name) for name in _PACKAGES}
    findings += [Finding(name, number) for name, number in installed.items() if number]
    findings.append(_onnxruntime_twice(installed))
    findings.append(_cuda())
    findings.append(_self_test())
    return findings


def _onnxruntime_twice(installed: dict[str, str]) -> Finding:
    """Both packages write into one folder, so the later one decides at random what runs (onnxruntime#26996)."""
    if installed["onnxruntime"] and installed["onnxruntime-gpu"]:
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        return Finding("onnxruntime packages", f"two are installed on top of each other: {mend}", False)
    return Finding("onnxruntime packages", "one", True)


def _cores(available: int, there: int) -> str:
    fewer = ": the container or the affinity gives no more, and all that runs on the CPU is slower by as much"
    return f"{available} for this process, {there} in the machine" + (fewer if available < there else "")


def _cuda() -> Finding:
    problem = why_no_cuda()
    return Finding("CUDA", problem or "the driver and all libraries are there", not problem or None)


def _self_test() -> Finding:
    try:
        session = Session(read_model_file(shipped_model()))
    except GenderclsError as error:
        return Finding("shipped model", str(error), False)
    spec = session.model.spec
    return Finding(
        "shipped model",
        f"{session.model.label} on {session.device.name}: self-test within {session.self_test_difference:.1e} "
        f"({spec.self_test.tolerance:g} allowed)",
        True,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def processor() -> str:
    """The processor's name and the instructions that matter for speed, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return platform.processor() or "unknown"
    cleaned = {key.strip(): value.strip() for key, value in facts.items()}
    flags = set(cleaned.get("flags", "").split())
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_int8": "AMX"}
    has = [name for flag, name in known.items() if flag in flags]
    return f"{cleaned.get('model name', platform.processor())} ({', '.join(has) or 'no vector extensions known here'})"
