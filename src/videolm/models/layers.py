"""Norms and activations that tower, projector and decoder share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from videolm.models.config import Activation

__all__ = ["LayerNorm", "RMSNorm", "activation", "compute_dtype"]


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype a linear layer will use for ``tensor``: the autocast dtype where autocast is on."""
    kind = tensor.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return tensor.dtype
    return torch.get_autocast_dtype(kind)


class LayerNorm(nn.LayerNorm):
    """A layer norm whose output already has the dtype of the linear layers after it.

    Under autocast the residual stream is float32 and several linear layers read one norm: they share one cast.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return super().forward(input).to(compute_dtype(input))


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 and cast before the weight is applied."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the last dimension."""
        wide = hidden.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * normed.to(hidden.dtype)).to(compute_dtype(hidden))


def _quick_gelu(hidden: Tensor) -> Tensor:
    # x * sigmoid(1.702 x), as one fused silu that saves one tensor for the backward pass.
    return functional.silu(hidden * 1.702) * (1 / 1.702)


def _gelu_tanh(hidden: Tensor) -> Tensor:
    return functional.gelu(hidden, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": _quick_gelu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
    "silu": functional.silu,
}


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function called ``name`` in configuration files."""
    return _ACTIVATIONS[name]
