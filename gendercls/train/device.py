"""Which device torch runs on."""

from __future__ import annotations

import torch

from gendercls.errors import DeviceError, UsageError


def choose_device(asked: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` takes a GPU where torch finds one.

    Raises:
        UsageError: another word.
        DeviceError: torch finds no such device.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"no device {asked!r}", where="--device", do="use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"torch finds {'no such' if torch.cuda.is_available() else 'no'} CUDA device",
            where=f"--device {asked}",
            do="use --device cpu, or mend the GPU's driver",
        )
    return torch.device(asked)
