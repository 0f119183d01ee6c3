"""Activations in floating point and weights in int8 in, their product by int8 arithmetic out."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["can_multiply_int8", "lay_out_int8", "multiply_int8"]

# So many rows at a time that they stay in a processor's cache while they are rounded.
_ROWS_AT_ONCE = 256
# oneDNN multiplies unsigned activations with signed weights fast, and signed ones only where the processor has AMX.
_ZERO = 128


def can_multiply_int8() -> bool:
    """Whether this torch has oneDNN's products, and the processor instructions for them."""
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and bool(torch.cpu._is_vnni_supported())


def lay_out_int8(weight: Tensor) -> Tensor:
    """A weight ``[out, in]`` int8 as ``multiply_int8`` takes it: an opaque copy."""
    laid_out: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return laid_out


def multiply_int8(rows: Tensor, laid_out: Tensor, weight_scale: Tensor) -> Tensor:
    """Multiply with activations rounded to 253 numbers, one scale a row.

    Args:
        rows: ``[N, in]`` bfloat16.
        laid_out: The weight, of ``lay_out_int8``.
        weight_scale: ``[out]`` float32.

    Returns:
        ``[N, out]`` bfloat16.
    """
    numbers = torch.empty(rows.shape, dtype=torch.uint8)
    # A scale in bfloat16 may be too small by 2**-9 of it, and 126.5 still is within a byte. Rows of zeros have one too.
    row_scales = rows.abs().amax(1, keepdim=True).div_(126).clamp_(min=torch.finfo(torch.bfloat16).tiny)
    factors = row_scales.float().reciprocal_()
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        # Raised by a half and cut off is rounded. A product of two dtypes would take several times as long.
        # By way of int32, since torch goes from floating point to bytes one number at a time.
        numbers[part] = rows[part].float().mul_(factors[part]).add_(_ZERO + 0.5).int()
    no_points = torch.zeros(len(weight_scale), dtype=torch.int32)
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        numbers, 1.0, _ZERO, laid_out, weight_scale, no_points, None, 1.0, 0, torch.bfloat16, "none", [], ""
    )
    return product.mul_(row_scales)
