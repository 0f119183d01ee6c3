"""Numbers of four bits as they are stored in, as torch's kernel for this processor wants them out, and back."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from videolm.weights.quantize import from_nibbles, row_blocks, to_nibbles

__all__ = ["BLOCK_ROWS", "has_kernel", "numbers_of", "pack", "unpack"]

BLOCK_ROWS = 64
"""The kernel's layout treats so many rows at a time."""


def has_kernel() -> bool:
    """Whether this torch has the kernel, in a layout that can be read back."""
    return _row_order() is not None


def pack(stored: Tensor) -> Tensor:
    """``[out, in / 2]`` as stored to the same shape as the kernel wants it; ``out`` is a multiple of ``BLOCK_ROWS``."""
    packed = torch.empty_like(stored)
    step = BLOCK_ROWS * 8
    for start in range(0, len(stored), step):
        numbers = from_nibbles(stored[start : start + step]).int()  # [rows, in]
        packed[start : start + step] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
    return packed


def unpack(packed: Tensor) -> Tensor:
    """The inverse of ``pack``."""
    stored = torch.empty_like(packed)
    for rows in row_blocks(len(packed) // BLOCK_ROWS, BLOCK_ROWS * packed.shape[1] * 2):
        whole = slice(rows.start * BLOCK_ROWS, rows.stop * BLOCK_ROWS)
        stored[whole] = to_nibbles(numbers_of(packed[whole]))
    return stored


def numbers_of(packed: Tensor) -> Tensor:
    """The numbers ``[rows, in]`` of some blocks of the kernel's layout."""
    order = _row_order()
    assert order is not None, "weights packed without a layout"
    block, num_columns = len(order), packed.shape[1] * 2
    halves = packed.view(-1, num_columns, block // 2)  # [blocks, in, rows / 2]
    numbers = torch.cat([halves & 15, halves >> 4], dim=-1).transpose(1, 2)  # [blocks, rows, in]
    if not torch.equal(order, torch.arange(block)):
        numbers = numbers.index_select(1, order.argsort())
    return numbers.reshape(len(packed), num_columns)


@functools.cache
def _row_order() -> Tensor | None:
    """The rows of one block as the low halves and then the high halves of a column's bytes hold them.

    The layout depends on the processor's instructions, so the kernel is asked: rows and columns are packed in the place
    of numbers. None: there is no kernel, or its layout is not made of blocks of rows whose columns follow one another.
    """
    if not hasattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu"):
        return None
    num_columns = 32
    rows = torch.arange(BLOCK_ROWS)[:, None].expand(BLOCK_ROWS, num_columns)
    low_row, high_row = _packed_halves(rows)
    column = _packed_halves(torch.arange(num_columns).expand(BLOCK_ROWS, num_columns))[0]
    half = int((column != 0).nonzero()[0])
    if not half or BLOCK_ROWS % (2 * half):
        return None
    order = torch.cat([low_row[:half], high_row[:half]])
    blocks = torch.cat([low_row.view(-1, num_columns, half), high_row.view(-1, num_columns, half)], dim=-1)
    first = torch.arange(0, BLOCK_ROWS, 2 * half)[:, None, None]
    return order if torch.equal(blocks - first, order.expand_as(blocks)) else None


def _packed_halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """What the low and the high halves of the packed bytes hold, for values from 0 to 255."""
    convert = torch.ops.aten._convert_weight_to_int4pack_for_cpu
    units, sixteens = (convert(digit.int().contiguous(), 1).flatten().long() for digit in (values & 15, values >> 4))
    return (units & 15) + 16 * (sixteens & 15), (units >> 4) + 16 * (sixteens >> 4)
