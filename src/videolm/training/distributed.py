"""One process or several: which of them this one is, and what they tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes", "start_processes"]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of one run."""

    rank: int = 0
    count: int = 1
    ends_with_run: bool = False
    """Whether the group was made for the run, rather than by whoever called."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        return [float(value) for value in _reduced(sums, dist.ReduceOp.SUM)]

    def largest(self, value: float) -> float:
        """The largest value over all processes."""
        if self.count == 1:
            return value
        return float(_reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX))

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        if self.ends_with_run:
            dist.destroy_process_group()


def _reduced(values: Tensor, operation: Any) -> Tensor:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    values = values.to(device)
    dist.all_reduce(values, operation)
    return values.cpu()


def start_processes(device: torch.device) -> Processes:
    """The processes that ``torchrun`` started, the group that is there already, or this process alone."""
    if dist.is_initialized():
        return Processes(rank=dist.get_rank(), count=dist.get_world_size())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(rank=dist.get_rank(), count=dist.get_world_size(), ends_with_run=True)
