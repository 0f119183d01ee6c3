"""Activations in floating point and weights in int8 in, their product by int8 arithmetic out."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["multiply_int8"]

# So many rows at a time that sums in int32 stay in a processor's cache until they are scaled.
_ROWS_AT_ONCE = 128


def multiply_int8(rows: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
    """Multiply with activations rounded to int8 too, one scale a row.

    Args:
        rows: ``[N, in]`` in floating point.
        weight: ``[out, in]`` int8.
        weight_scale: ``[out]``.

    Returns:
        ``[N, out]`` in the dtype of ``rows``.
    """
    product = rows.new_empty(len(rows), len(weight))
    columns, scales = weight.t(), weight_scale.float()
    smallest = torch.finfo(torch.float32).tiny * 127  # A row of zeros has a scale too.
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE].float()
        row_scales = part.abs().amax(1, keepdim=True).clamp_(min=smallest).div_(127)
        numbers = part.div_(row_scales).round_().to(torch.int8)
        sums = torch._int_mm(numbers, columns) * scales
        product[start : start + _ROWS_AT_ONCE] = sums.mul_(row_scales)
    return product
