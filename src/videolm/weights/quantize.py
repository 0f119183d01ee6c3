"""A weight matrix in, small whole numbers and their scales out, and back: int8 by rows, int4 by groups of columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from videolm.errors import ArgumentError

__all__ = [
    "GROUP_SIZES",
    "PARTS",
    "SCALE_DTYPE",
    "SCHEMES",
    "WeightQuantization",
    "from_nibbles",
    "quantize_int4",
    "quantize_int8",
    "row_blocks",
    "to_nibbles",
]

SCHEMES = ("int8", "int4")
GROUP_SIZES = (32, 64, 128)
PARTS = ("decoder", "head", "projector", "vision")
SCALE_DTYPE = torch.bfloat16
"""What torch's packed kernels take beside bfloat16 activations: so every device and dtype computes with one value."""

_BLOCK_NUMEL = 1_000_000


@dataclass(frozen=True, kw_only=True)
class WeightQuantization:
    """How the weights of linear layers are kept in fewer bits."""

    scheme: str
    """``int8``: one scale for each output channel; ``int4``: one for each group of inputs of a channel."""
    group_size: int | None = None
    """Inputs that share a scale in ``int4``: 32 (the default), 64 or 128."""
    parts: tuple[str, ...] = ("decoder",)
    """Whose linear layers: of decoder, head, projector and vision."""
    activations: str | None = None
    """None: as they are. ``int8``, for weights in int8: a CPU rounds them too where there are many rows, one scale a
    row, and multiplies small whole numbers, which is faster and less exact."""

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            near = difflib.get_close_matches(str(self.scheme), SCHEMES, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else "Choose one of these, or leave quantize out."
            raise ArgumentError(f"quantize is {self.scheme!r}: expected {' or '.join(SCHEMES)}. {hint}")
        if self.scheme == "int4" and self.group_size is None:
            object.__setattr__(self, "group_size", GROUP_SIZES[0])
        if self.group_size not in (GROUP_SIZES if self.scheme == "int4" else (None,)):
            expected = "32, 64 or 128" if self.scheme == "int4" else "none, since int8 has one scale a channel"
            raise ArgumentError(
                f"group_size is {self.group_size!r} for {self.scheme}: expected {expected}. Correct it."
            )
        if self.activations not in (("int8", None) if self.scheme == "int8" else (None,)):
            expected = "int8 or none" if self.scheme == "int8" else "none, since only int8 is multiplied as such"
            raise ArgumentError(
                f"activations is {self.activations!r} for {self.scheme}: expected {expected}. Correct it."
            )
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ArgumentError(
                f"parts is {list(self.parts)!r}: expected some of {', '.join(PARTS)}. Name those to quantise."
            )

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | WeightQuantization) -> WeightQuantization:
        """From a scheme's name, from what a ``config.json`` holds, or as it is."""
        if isinstance(value, WeightQuantization):
            return value
        if not isinstance(value, Mapping):
            return cls(scheme=value)
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(value) - known - {"quant_method"})
        if unknown or "scheme" not in value:
            problem = f"holds {', '.join(unknown)}" if unknown else "names no scheme"
            raise ArgumentError(
                f"The quantisation of the weights {problem}: expected {', '.join(sorted(known))}. Correct these keys."
            )
        return cls(**{name: entry for name, entry in value.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``config.json``."""
        values = {"quant_method": "videolm", **asdict(self), "parts": list(self.parts)}
        return {name: value for name, value in values.items() if value is not None}

    def check_width(self, name: str, in_features: int) -> None:
        """Refuse a layer that cannot be divided into groups."""
        if self.group_size is not None and in_features % self.group_size:
            fitting = [str(size) for size in GROUP_SIZES if not in_features % size]
            advice = f"Use a group size of {' or '.join(fitting)}" if fitting else "Use int8"
            raise ArgumentError(
                f"{name} has {in_features} inputs, which the group size {self.group_size} of int4 does not divide: "
                f"expected a multiple of it. {advice}, or leave that part of the model as it is."
            )


def row_blocks(num_rows: int, row_len: int) -> Iterator[slice]:
    """Slices of rows, each small enough that working copies of it cost little."""
    step = max(1, _BLOCK_NUMEL // max(row_len, 1))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise ``[out, in]``.

    Returns:
        Numbers ``[out, in]`` int8 from -127 to 127, and scales ``[out]``.
    """
    numbers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(weight), dtype=SCALE_DTYPE, device=weight.device)
    for rows in row_blocks(*weight.shape):
        wide = weight[rows].float()
        scales[rows] = _stored(wide.abs().amax(1) / 127)
        # The scale that is stored decides, so that its rounding costs nothing.
        numbers[rows] = (wide / scales[rows, None].float()).round_().clamp_(-127, 127).to(torch.int8)
    return numbers, scales


def quantize_int4(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Quantise ``[out, in]``.

    A number n stands for (n - 8) * scale. The scale has the sign that lets -8 stand for the entry farthest from zero: a
    symmetric range would leave one of the sixteen numbers unused.

    Returns:
        Numbers ``[out, in / 2]`` uint8, two in a byte, and scales ``[out, in / group_size]``.
    """
    num_groups = weight.shape[1] // group_size
    numbers = torch.empty(len(weight), weight.shape[1] // 2, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(len(weight), num_groups, dtype=SCALE_DTYPE, device=weight.device)
    for rows in row_blocks(*weight.shape):
        groups = weight[rows].float().view(-1, num_groups, group_size)
        farthest = groups.gather(2, groups.abs().argmax(2, keepdim=True))[..., 0]
        scales[rows] = _stored(farthest / -8)
        whole = (groups / scales[rows, :, None].float()).round_().add_(8).clamp_(0, 15)
        numbers[rows] = to_nibbles(whole.to(torch.uint8).flatten(1))
    return numbers, scales


def to_nibbles(numbers: Tensor) -> Tensor:
    """Two columns of numbers from 0 to 15 into each byte, the first in its low half."""
    return numbers[:, ::2] | numbers[:, 1::2] << 4


def from_nibbles(packed: Tensor) -> Tensor:
    """The numbers ``[out, in]`` of ``[out, in / 2]`` bytes."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)


def _stored(scales: Tensor) -> Tensor:
    """Rounded as they are stored; where everything is zero, any scale will do but zero."""
    rounded = scales.to(SCALE_DTYPE)
    return torch.where(rounded == 0, torch.ones_like(rounded), rounded)
