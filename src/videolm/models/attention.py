"""Which tokens see which: plans that a forward pass receives as an argument, each with its way to attend.

All plans take queries ``[B, S, A, head]`` and keys and values ``[B, L, K, head]`` and give ``[B, S, A, head]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from videolm.models.cpu_attention import attend_in_blocks, suits_blocks

__all__ = ["AttentionPlan", "CausalPlan", "FullPlan", "PackedPlan", "PaddedPlan"]

# Padding all sequences to the longest is worth it on a GPU while at most half of the padded rows are padding.
_MOST_PADDED_ROWS = 2.0
# Up to this many keys, training in bfloat16 on a CPU attends by plain products (see _attend_by_products).
_MOST_PRODUCT_KEYS = 512


class AttentionPlan(Protocol):
    """Knows which keys each query may see."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class FullPlan:
    """Every token sees every token of its row (a vision tower)."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend within rows."""
        if suits_blocks(queries, keys, values):
            return _attend_in_blocks(queries, keys, values, is_causal=False)
        return _attend(queries, keys, values)


@dataclass(frozen=True, kw_only=True)
class CausalPlan:
    """Each row is one sequence whose last tokens are the queries; the tokens before them come from a cache."""

    mask: Tensor | None = None
    """``[S, L]`` bool; None for a single query and where nothing is cached."""

    @classmethod
    def of(cls, num_queries: int, num_cached: int = 0, *, device: torch.device | None = None) -> CausalPlan:
        """The plan for ``num_queries`` new tokens after ``num_cached`` tokens."""
        if num_queries == 1 or num_cached == 0:
            return cls()
        mask = torch.ones(num_queries, num_cached + num_queries, dtype=torch.bool, device=device)
        return cls(mask=mask.tril_(num_cached))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the tokens up to each query."""
        if queries.shape[1] == 1:
            return _attend_one(queries, keys, values)
        if suits_blocks(queries, keys, values):
            return _attend_in_blocks(queries, keys, values, is_causal=True)
        return _attend(queries, keys, values, mask=self.mask, is_causal=self.mask is None)


@dataclass(frozen=True, kw_only=True)
class PaddedPlan:
    """Rows of different lengths, padded to one: a mask says which keys are real."""

    mask: Tensor
    """``[B, 1, S, L]`` bool; every row of it has at least one key, so a padded query gives numbers, never NaN."""

    @classmethod
    def of(cls, attention_mask: Tensor, num_queries: int) -> PaddedPlan:
        """The plan for the last ``num_queries`` columns of ``attention_mask``.

        Args:
            attention_mask: ``[B, L]``, non-zero at real tokens, cached ones included.
            num_queries: Columns that are new.
        """
        num_keys = attention_mask.shape[1]
        square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=attention_mask.device)
        causal = square.tril(num_keys - num_queries)
        own = causal & ~square.tril(num_keys - num_queries - 1)
        return cls(mask=(causal & attention_mask.bool()[:, None, None, :]) | own)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the real tokens up to each query."""
        return _attend(queries, keys, values, mask=self.mask)


@dataclass(frozen=True, kw_only=True)
class PackedPlan:
    """One row of several sequences side by side; attention never crosses a sequence's end."""

    lengths: tuple[int, ...]
    gather: Tensor | None = None
    """``[N * longest]`` rows to take so that all sequences are as long as the longest."""
    scatter: Tensor | None = None
    """``[T]`` rows to take back from the padded ones."""
    bias: Tensor | None = None
    """``[longest, longest]`` bfloat16, -inf where a token would see a later one; None where it is not needed."""

    @classmethod
    def of(
        cls, lengths: tuple[int, ...], *, device: torch.device | None = None, pads: bool | None = None
    ) -> PackedPlan:
        """The plan for sequences of these lengths.

        On a CPU one kernel call a sequence is faster than padding, whatever the lengths (measured for 16 sequences of
        about 300 tokens, forward and backward: 1.0 to 2.5 times); on a GPU few large calls are.

        Args:
            lengths: Tokens of each sequence.
            device: Where attention is computed; None: a CPU.
            pads: Whether all sequences are brought to the longest; None: as suits the device and the lengths.
        """
        longest, total = max(lengths, default=0), sum(lengths)
        on_cpu = device is None or device.type == "cpu"
        if pads is None:
            pads = not on_cpu and len(lengths) > 1 and len(lengths) * longest <= _MOST_PADDED_ROWS * total
        if not pads:
            return cls(lengths=lengths, bias=_causal_bias(longest) if on_cpu else None)
        sizes = torch.tensor(lengths)
        columns = torch.arange(longest)
        starts = sizes.cumsum(0) - sizes
        # Rows beyond a sequence's end repeat its last token: they come later, so no real token sees them.
        gather = (starts[:, None] + torch.minimum(columns, sizes[:, None] - 1)).flatten()
        scatter = (columns < sizes[:, None]).flatten().nonzero().flatten()
        return cls(lengths=lengths, gather=gather.to(device), scatter=scatter.to(device))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the tokens of the same sequence up to each query."""
        if self.gather is not None and self.scatter is not None:
            return self._attend_padded(queries, keys, values)
        sizes = list(self.lengths)
        parts = zip(*(torch.split(rows, sizes, dim=1) for rows in (queries, keys, values)), strict=True)
        return torch.cat([_attend(*part, is_causal=True, bias=self.bias) for part in parts], dim=1)

    def _attend_padded(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        assert self.gather is not None
        assert self.scatter is not None
        shape = (len(self.lengths), -1, *queries.shape[2:])
        key_shape = (len(self.lengths), -1, *keys.shape[2:])
        out = _attend(
            queries[0].index_select(0, self.gather).view(shape),  # [N, longest, A, head]
            keys[0].index_select(0, self.gather).view(key_shape),
            values[0].index_select(0, self.gather).view(key_shape),
            is_causal=True,
        )
        return out.reshape(-1, *queries.shape[2:]).index_select(0, self.scatter)[None]  # [1, T, A, head]


def _attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    if mask is None and is_causal == (bias is not None) and _suits_products(queries, keys):
        return _attend_by_products(queries, keys, values, bias)
    # A cache may store float32 for speed while the model computes in bfloat16.
    out = functional.scaled_dot_product_attention(
        queries.to(keys.dtype).transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=queries.shape[2] != keys.shape[2],
    )
    return out.transpose(1, 2).to(queries.dtype)  # [B, S, A, head]


def _attend_in_blocks(queries: Tensor, keys: Tensor, values: Tensor, *, is_causal: bool) -> Tensor:
    parts = [
        attend_in_blocks(*(heads.transpose(0, 1) for heads in row), is_causal=is_causal)
        for row in zip(queries, keys, values, strict=True)
    ]
    return torch.stack(parts).transpose(1, 2)  # [B, S, A, head]


def _attend_one(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    # One query a row: the query heads that share a key head stand in for several queries of that head.
    batch, _, num_heads, width = queries.shape
    num_key_heads = keys.shape[2]
    grouped = queries.to(keys.dtype).view(batch, num_key_heads, num_heads // num_key_heads, width)
    out = functional.scaled_dot_product_attention(grouped, keys.transpose(1, 2), values.transpose(1, 2))
    return out.reshape(batch, 1, num_heads, width).to(queries.dtype)


def _causal_bias(longest: int) -> Tensor | None:
    if longest > _MOST_PRODUCT_KEYS:
        return None
    return torch.full((longest, longest), float("-inf"), dtype=torch.bfloat16).triu_(1)


def _suits_products(queries: Tensor, keys: Tensor) -> bool:
    is_short = keys.shape[1] <= _MOST_PRODUCT_KEYS
    return queries.requires_grad and queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and is_short


def _attend_by_products(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Attend with the scores written out.

    The fused kernel of a CPU is slow backwards in bfloat16: for a few hundred keys this takes half its time.
    """
    batch, num_queries, num_heads, width = queries.shape
    groups = num_heads // keys.shape[2]
    if groups > 1:
        keys, values = keys.repeat_interleave(groups, dim=2), values.repeat_interleave(groups, dim=2)
    rows, columns, contents = (heads.transpose(1, 2).flatten(0, 1) for heads in (queries, keys, values))
    added = rows.new_zeros(()) if bias is None else bias[:num_queries, : keys.shape[1]]
    scores = torch.baddbmm(added, rows, columns.transpose(1, 2), alpha=width**-0.5)  # [B * A, S, L]
    mixed = torch.bmm(scores.softmax(-1), contents)  # [B * A, S, head]
    return mixed.view(batch, num_heads, num_queries, width).transpose(1, 2)
