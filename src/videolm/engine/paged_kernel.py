"""One query of each sequence in, what it attends to out: by a Triton kernel that reads keys and values where they lie.

To be imported where Triton is installed. Each program reads one piece of one sequence for one key head, and adds up in
float32; the pieces are then put together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from videolm.engine.paged_plan import PagedPlan
from videolm.errors import EngineError
from videolm.models.config import DecoderConfig

__all__ = ["KernelPlan", "check_kernel"]

_PIECE = 256
"""Tokens of one program."""
_TILE = 32
"""Tokens of one product."""
_FEWEST_ROWS = 16
"""Rows of the smallest product on tensor cores; query heads that share a key head are padded to it."""
_NONE = -1e30


# The compiler reads the types that are written here, and takes none but its own.
@triton.jit  # type: ignore[untyped-decorator]
def _attend_to_piece(  # type: ignore[no-untyped-def]
    queries,
    keys,
    values,
    blocks,
    lengths,
    mixed,
    tops,
    sums,
    scale,
    head_stride,
    slot_stride,
    num_blocks,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    PIECE: tl.constexpr,
    TILE: tl.constexpr,
):
    sequence, key_head, piece = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_key_heads, num_pieces = tl.num_programs(1), tl.num_programs(2)
    rows, columns, places = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, TILE)
    is_row, is_column = rows[:, None] < GROUP, columns[None, :] < WIDTH
    own = sequence * num_key_heads + key_head
    query = tl.load(
        queries + (own * GROUP + rows[:, None]) * WIDTH + columns[None, :], mask=is_row & is_column, other=0.0
    )
    length = tl.load(lengths + sequence)
    top = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, COLUMNS], tl.float32)
    first = piece * PIECE
    for start in range(first, tl.minimum(first + PIECE, length), TILE):
        tokens = start + places
        is_own = tokens < length
        block = tl.load(blocks + sequence * num_blocks + tokens // BLOCK, mask=is_own, other=0)
        slots = block * BLOCK + tokens % BLOCK
        where = key_head.to(tl.int64) * head_stride + slots[:, None] * slot_stride + columns[None, :]
        is_there = is_own[:, None] & is_column
        key = tl.load(keys + where, mask=is_there, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(is_own[None, :], scores, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - new_top[:, None])
        kept = tl.exp(top - new_top)
        value = tl.load(values + where, mask=is_there, other=0.0)
        total = total * kept + tl.sum(weights, 1)
        result = result * kept[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        top = new_top
    line = (own * num_pieces + piece) * GROUP + rows
    tl.store(mixed + line[:, None] * WIDTH + columns[None, :], result, mask=is_row & is_column)
    tl.store(tops + line, top, mask=rows < GROUP)
    tl.store(sums + line, total, mask=rows < GROUP)


@dataclass(frozen=True, kw_only=True)
class KernelPlan:
    """One query in each sequence, which sees all of its tokens; one of length 0 gets zeros."""

    blocks: Tensor
    """``[N, num_blocks]`` int64: those of each sequence, and anything behind its last one."""
    lengths: Tensor
    """``[N]`` int64: tokens of each sequence."""
    block_size: int

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries ``[1, N, A, head]``, keys and values ``[1, slots, K, head]`` to ``[1, N, A, head]``."""
        _, count, num_heads, width = queries.shape
        columns, contents = keys[0].transpose(0, 1), values[0].transpose(0, 1)  # [K, slots, head]
        assert columns.stride() == contents.stride()
        num_key_heads, group = len(columns), num_heads // len(columns)
        num_pieces = triton.cdiv(self.blocks.shape[1] * self.block_size, _PIECE)
        mixed = torch.empty(count, num_key_heads, num_pieces, group, width, device=queries.device)
        tops = torch.empty(mixed.shape[:-1], device=queries.device)
        sums = torch.empty_like(tops)
        _attend_to_piece[(count, num_key_heads, num_pieces)](
            queries[0].to(columns.dtype).contiguous(),
            columns,
            contents,
            self.blocks,
            self.lengths,
            mixed,
            tops,
            sums,
            width**-0.5,
            columns.stride(0),
            columns.stride(1),
            self.blocks.shape[1],
            GROUP=group,
            ROWS=max(triton.next_power_of_2(group), _FEWEST_ROWS),
            WIDTH=width,
            COLUMNS=max(triton.next_power_of_2(width), _FEWEST_ROWS),
            BLOCK=self.block_size,
            PIECE=_PIECE,
            TILE=_TILE,
        )
        return _together(mixed, tops, sums).view(1, count, num_heads, width).to(queries.dtype)


def _together(mixed: Tensor, tops: Tensor, sums: Tensor) -> Tensor:
    """``[N, K, pieces, G, head]`` and, for each, the greatest score and the sum of weights, to ``[N, K, G, head]``."""
    weights = (tops - tops.amax(2, keepdim=True).clamp(min=_NONE)).exp()
    totals = (weights * sums).sum(2).clamp(min=torch.finfo(torch.float32).tiny)
    return (weights[..., None] * mixed).sum(2) / totals[..., None]


def check_kernel(decoder: DecoderConfig, block_size: int, *, dtype: torch.dtype, device: torch.device) -> None:
    """Raise unless the kernel can be compiled for this device, and gives there what gathering gives."""
    num_blocks = -(-(_PIECE + _TILE) // block_size)
    shape = (decoder.num_key_value_heads, 2 * num_blocks * block_size, decoder.head_width)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(1, 2, decoder.num_attention_heads, decoder.head_width, generator=generator).to(device, dtype)
    # [1, slots, K, head]
    keys, values = (torch.randn(shape, generator=generator).to(device, dtype).transpose(0, 1)[None] for _ in range(2))
    blocks = torch.randperm(2 * num_blocks, generator=generator).view(2, num_blocks)
    lengths = torch.tensor([3, num_blocks * block_size - 1])
    slots = (blocks[:, :, None] * block_size + torch.arange(block_size)).flatten(1)
    is_real = torch.arange(slots.shape[1]) < lengths[:, None]
    expected = PagedPlan.gathered(slots.to(device), is_real.to(device)).attend(queries, keys, values)
    plan = KernelPlan(blocks=blocks.to(device), lengths=lengths.to(device), block_size=block_size)
    error = float((plan.attend(queries, keys, values).double() - expected.double()).abs().max())
    if not error <= torch.finfo(dtype).eps ** 0.5:
        raise EngineError(f"The attention kernel is off by {error}: at most rounding was expected. Gather instead.")
