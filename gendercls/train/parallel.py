"""Several processes train one network: torchrun starts them, and together they do what one would do.

Every process has the whole network and its share of each batch. Statistics of a batch, dropout and gradients are those
of the whole batch, so that the losses are those of one process with the same batch, within rounding.
"""

from __future__ import annotations

import gc
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gendercls.errors import DeviceError, GenderclsError

T = TypeVar("T")

_PATIENCE = timedelta(hours=12)
"""How long one process waits for another, which may be opening a million photos."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is (rank, from 0) of how many (world). A process that was started alone is 0 of 1."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the leading process, in all of them. Its GenderclsError is raised in all of them."""
        if self.world == 1:
            return make()
        outcome: list[Any] = [None]
        if self.leads:
            try:
                outcome = [make()]
            except GenderclsError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], GenderclsError):
            raise outcome[0]
        result: T = outcome[0]
        return result

    def gather(self, part: T) -> list[T]:
        """The parts of all processes, by rank, in all of them."""
        if self.world == 1:
            return [part]
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, part)
        return parts

    def mean_and_any(self, number: float, flag: bool) -> tuple[float, bool]:
        """The mean of a number over all processes, and whether any of them says yes."""
        if self.world == 1:
            return number, flag
        both = torch.tensor([number / self.world, float(flag)], dtype=torch.float64, device=_collective_device())
        dist.all_reduce(both)
        return both[0].item(), bool(both[1].item())


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """The processes that torchrun started, and the device of this one; alone without torchrun.

    Args: device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Several processes on GPUs take one each.

    Raises:
        DeviceError: one GPU was named for several processes, or there are fewer GPUs than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield ALONE, device
        return
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if device == "auto":
        device = "cuda" if torch.cuda.device_count() >= here else "cpu"
    if device.startswith("cuda"):
        if device != "cuda" or torch.cuda.device_count() < here:
            raise DeviceError(
                f"{here} processes need a GPU each, and torch finds {torch.cuda.device_count()}",
                where=f"--device {device}",
                do="use --device cuda with at most as many processes as GPUs, or --device cpu",
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), device
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # a network that outlived the group it was spread over would abort the process at its end
        dist.destroy_process_group()


def spread(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The module to call in training: with several processes its batch norms and gradients are the whole batch's."""
    if ranks.world == 1:
        return network
    is_cuda = next(network.parameters()).is_cuda
    if is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    else:
        _replace_batch_norms(network)
    with warnings.catch_warnings():
        # torch 2.14 deprecates broadcast_buffers; its successor is not in the versions before it.
        warnings.simplefilter("ignore", FutureWarning)
        # Batch statistics are equal in every process, so they need not be sent.
        return DistributedDataParallel(network, broadcast_buffers=False)


class WholeBatchDropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch, by every process alike, from the CPU's random state.

    So it depends neither on the number of processes nor on the device, and a run that continues draws the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.ranks = ALONE

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        whole = torch.rand(x.shape[0] * self.ranks.world, *x.shape[1:])
        kept = (whole[self.ranks.rank :: self.ranks.world] >= self.p).to(x.device, x.dtype)
        return x * kept / (1 - self.p)


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm over the photos of all processes, on a CPU: torch's SyncBatchNorm computes on GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = _sum_over_processes(values.sum(dim=(0, 2, 3))) / count  # [C]
        centred = values - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / count  # [C]
        with torch.no_grad():
            for running, seen in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
                if running is not None:
                    running.lerp_(seen, self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(x: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x)
    return total


def _replace_batch_norms(module: nn.Module) -> None:
    """In place and with the same parameters, so that names in checkpoints stay and optimizers keep what they hold."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = WholeBatchNorm


def _collective_device() -> torch.device:
    return torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
