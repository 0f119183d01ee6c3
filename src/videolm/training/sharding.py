"""A model in several processes: spread with FSDP2 and made whole again for checkpoints, or a copy in each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from videolm.errors import ConfigError
from videolm.training.distributed import Processes

__all__ = ["average_gradients", "place_like", "shard", "whole"]


def shard(model: Any, processes: Processes, *, optimizer: str) -> None:
    """Spread weights, gradients and moments over all processes, block by block; nothing in a single process."""
    if processes.count == 1:
        return
    if optimizer == "muon":
        raise ConfigError(
            f"optimizer.name is muon in {processes.count} processes, expected adamw: Muon needs whole matrices and "
            "these are spread over the processes. Set optimizer.name to adamw, or parallel to replicate."
        )
    mesh = init_device_mesh(next(model.parameters()).device.type, (processes.count,))
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # Gradients are exchanged for the parameters that have one, so all processes need the same, whatever their media.
    model.always_encode_media = True
    register_fsdp_forward_method(model, "forward_packed")


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Make the gradients of copies of one model their mean over all processes, in one exchange."""
    if processes.count == 1:
        return
    trained = list(parameters)
    for parameter in trained:
        if parameter.grad is None:  # Its part saw no medium in this process, but perhaps in another.
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes.count
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of one that is spread over processes (which all have to ask for it)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """A whole tensor on the device of ``reference``, and spread as it is."""
    placed = tensor.to(reference.device)
    if isinstance(reference, DTensor):
        return distribute_tensor(placed, reference.device_mesh, reference.placements)
    return placed
