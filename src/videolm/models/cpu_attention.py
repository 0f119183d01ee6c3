"""Attention of many queries in bfloat16 on a CPU, as products of blocks of few heads and rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["attend_in_blocks", "suits_blocks"]

# Heads and rows of one block, by the most keys: its scores stay in the processor's cache. Of 577 keys 1.4 to 1.75 times
# as fast as the fused kernel, of 4,644 1.7 times, of 18,000 1.7 times, of 36,884 1.1 times; four heads and 256 rows
# would take twice as long at 18,000.
_BLOCKS = ((2048, 4, 256), (20_000, 1, 512))
_LARGEST = 1, 256
_FEWEST_QUERIES = 64


def suits_blocks(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether ``attend_in_blocks`` is the fast way for queries ``[..., S, A, head]``: no gradients, bfloat16, and
    a CPU that multiplies it."""
    return (
        queries.dtype == torch.bfloat16
        and queries.device.type == "cpu"
        and queries.shape[-3] >= _FEWEST_QUERIES
        and not (torch.is_grad_enabled() and any(rows.requires_grad for rows in (queries, keys, values)))
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def attend_in_blocks(queries: Tensor, keys: Tensor, values: Tensor, *, is_causal: bool) -> Tensor:
    """Attend within one sequence.

    Args:
        queries: ``[A, S, head]``.
        keys: ``[K, L, head]`` in any dtype.
        values: ``[K, L, head]``.
        is_causal: Whether the queries belong to the last ``S`` keys and see none that comes later; else they see all.

    Returns:
        ``[A, S, head]``.
    """
    groups, num_queries, num_keys = len(queries) // len(keys), queries.shape[1], keys.shape[1]
    num_heads, num_rows = next((block for most, *block in _BLOCKS if num_keys <= most), _LARGEST)
    columns, contents = (_for_heads(rows, groups, queries.dtype) for rows in (keys, values))
    hidden = torch.ones(num_rows, num_rows, dtype=torch.bool).triu_(1)
    rows = num_rows if is_causal else num_queries
    scale, none, out = queries.shape[-1] ** -0.5, queries.new_zeros(()), torch.empty_like(queries)
    for first in range(0, len(queries), num_heads):
        heads = slice(first, first + num_heads)
        for start in range(0, num_queries, rows):
            stop = min(start + rows, num_queries)
            seen = num_keys - num_queries + stop if is_causal else num_keys
            scores = torch.baddbmm(
                none, queries[heads, start:stop], columns[heads, :seen].transpose(1, 2), beta=0, alpha=scale
            )
            if is_causal:
                count = stop - start
                scores[..., seen - count :].masked_fill_(hidden[:count, :count], -torch.inf)
            out[heads, start:stop] = torch.bmm(scores.softmax(-1), contents[heads, :seen])
    return out


def _for_heads(rows: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Keys or values ``[A, L, head]``, one for each query head."""
    rows = rows.to(dtype)
    return rows if groups == 1 else rows.repeat_interleave(groups, dim=0)
