"""Attention of several sequences of different lengths in one packed row, over keys and values that lie in spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from videolm.engine.paged_cache import Spans
from videolm.models.cpu_attention import attend_in_blocks, suits_blocks
from videolm.native.attention import FewQueries

__all__ = ["PagedPlan"]

# Up to so many queries, products over each span beat bringing the spans together first.
_FEW_QUERIES = 16
# Up to so many rows a key head, keys times rows stream memory 1.1 to 3 times as fast as rows times keys (2 cores,
# float32, 4 to 32 heads of 64 and 128; of 7 rows as fast or slower).
_FEW_ROWS = 4
# Of more than two sequences with up to so many numbers in the keys of each, one call over copies beats calls for each
# (2 cores, 4 heads of 16 and 64: twice as fast at a quarter of it, as fast at twice of it).
_SMALL_KEYS = 1 << 15


@dataclass(frozen=True, kw_only=True)
class PagedPlan:
    """Each sequence's queries are its last tokens and see what lies in its spans up to themselves."""

    counts: tuple[int, ...]
    """Queries of each sequence, one sequence after the other."""
    spans: tuple[Spans, ...]
    """Where the keys and values of each sequence lie, those of its queries included."""
    masks: tuple[Tensor | None, ...]
    """For each sequence ``[S, S]`` bool of who sees whom among the queries, or ``[S, L]`` where they are many and
    something comes before them; None where all see all, or each only those before it and nothing else is there."""
    padded: Tensor | None = None
    """``[N, longest]`` slots to gather where all sequences attend in one call."""
    is_real: Tensor | None = None
    """``[N, 1, 1, longest]`` bool: which of them are the sequence's own."""
    few: FewQueries | None = None
    """The sequences with few queries, where the compiled kernel computes them."""

    @classmethod
    def of(
        cls,
        counts: Sequence[int],
        spans: Sequence[Spans],
        *,
        device: torch.device | None = None,
        row_width: int | None = None,
        pads: bool | None = None,
        has_kernel: bool = False,
    ) -> PagedPlan:
        """The plan for so many queries in each sequence.

        Args:
            counts: Queries of each sequence.
            spans: Where each sequence lies.
            device: Where attention is computed; None: a CPU.
            row_width: Numbers in the keys of one token in one layer; None: many.
            pads: Whether sequences with one query each attend in one call, their keys gathered and padded; None: where
                keys are few, and on anything but a CPU, where a few large calls are faster than many small ones.
            has_kernel: Whether sequences with few queries go to the compiled kernel, on a CPU.
        """
        lengths = [sum(end - start for start, end in sequence) for sequence in spans]
        if pads is None:
            is_small = row_width is not None and len(counts) > 2 and max(lengths) * row_width <= _SMALL_KEYS
            pads = is_small or (device is not None and device.type != "cpu")
        masks = tuple(_mask(count, length, device) for count, length in zip(counts, lengths, strict=True))
        if has_kernel and min(counts) <= _FEW_QUERIES:
            return cls(counts=tuple(counts), spans=tuple(spans), masks=masks, few=_few(counts, spans))
        padded, is_real = None, None
        if pads and len(counts) > 1 and max(counts) == 1:
            longest = max(lengths)
            rows = [torch.cat([torch.arange(*span) for span in sequence]) for sequence in spans]
            # With a slot of its own: one that was never written to may hold no number, which a mask lets through.
            padded = torch.stack([functional.pad(row, (0, longest - len(row)), value=int(row[0])) for row in rows])
            padded = padded.to(device)
            is_real = (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None].to(device)
        return cls(counts=tuple(counts), spans=tuple(spans), masks=masks, padded=padded, is_real=is_real)

    @classmethod
    def gathered(cls, slots: Tensor, is_real: Tensor) -> PagedPlan:
        """The plan for one query in each sequence, of slots that are known as tensors alone.

        Args:
            slots: ``[N, longest]``, each with numbers in it.
            is_real: ``[N, longest]`` bool: which of them are the sequence's own, at least one of each.
        """
        return cls(counts=(1,) * len(slots), spans=(), masks=(), padded=slots, is_real=is_real[:, None, None])

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries ``[1, T, A, head]``, keys and values ``[1, slots, K, head]`` to ``[1, T, A, head]``."""
        columns, contents = keys[0].transpose(0, 1), values[0].transpose(0, 1)  # [K, slots, head]
        if self.padded is not None:
            return self._attend_padded(queries[0].to(keys.dtype), columns, contents).to(queries.dtype)
        if self.few is not None:
            return self._attend_by_kernel(self.few, queries[0], columns, contents)
        parts = []
        for row, spans, mask in zip(torch.split(queries[0], list(self.counts)), self.spans, self.masks, strict=True):
            attend = _attend_few if len(row) <= _FEW_QUERIES else _attend_many
            parts.append(attend(row, _views(columns, spans), _views(contents, spans), mask).to(queries.dtype))
        return torch.cat(parts)[None]

    def _attend_by_kernel(self, few: FewQueries, rows: Tensor, columns: Tensor, contents: Tensor) -> Tensor:
        wide = rows.float().contiguous()
        out = torch.empty_like(wide)
        few.attend(wide, columns, contents, out)
        first = 0
        for count, spans, mask in zip(self.counts, self.spans, self.masks, strict=True):
            if count > _FEW_QUERIES:
                own = _views(columns, spans), _views(contents, spans)
                out[first : first + count] = _attend_many(rows[first : first + count], *own, mask)
            first += count
        return out[None].to(rows.dtype)

    def _attend_padded(self, rows: Tensor, columns: Tensor, contents: Tensor) -> Tensor:
        assert self.padded is not None
        num_heads, width = rows.shape[1:]
        shape = (len(columns), *self.padded.shape, width)
        own_keys = columns.index_select(1, self.padded.flatten()).view(shape).transpose(0, 1)  # [N, K, longest, head]
        own_values = contents.index_select(1, self.padded.flatten()).view(shape).transpose(0, 1)
        grouped = rows.view(len(rows), len(columns), -1, width)  # [N, K, A / K, head]
        mixed = functional.scaled_dot_product_attention(grouped, own_keys, own_values, attn_mask=self.is_real)
        return mixed.reshape(1, len(rows), num_heads, width)


def _few(counts: Sequence[int], spans: Sequence[Spans]) -> FewQueries:
    """The sequences with few queries."""
    firsts = list(accumulate(counts, initial=0))
    few = [index for index, count in enumerate(counts) if count <= _FEW_QUERIES]
    return FewQueries.of([firsts[i] for i in few], [counts[i] for i in few], [spans[i] for i in few])


def _mask(count: int, length: int, device: torch.device | None) -> Tensor | None:
    if count == 1 or (count == length and count > _FEW_QUERIES):
        return None
    num_keys = count if count <= _FEW_QUERIES else length
    return torch.ones(count, num_keys, dtype=torch.bool, device=device).tril_(num_keys - count)


def _views(rows: Tensor, spans: Spans) -> list[Tensor]:
    return [rows[:, start:end] for start, end in spans]


def _attend_few(rows: Tensor, keys: list[Tensor], values: list[Tensor], mask: Tensor | None) -> Tensor:
    """Attend with the scores written out, span by span, without moving a key.

    The query heads that share a key head stand in for several queries of that head.
    """
    count, num_heads, width = rows.shape
    num_key_heads = len(keys[0])
    grouped = (
        rows.to(keys[0].dtype).view(count, num_key_heads, -1, width).transpose(0, 1).reshape(num_key_heads, -1, width)
    )
    scores = torch.cat([_scores(grouped, part) for part in keys], dim=-1).mul_(width**-0.5)
    if mask is not None:
        new = scores.view(num_key_heads, count, -1, scores.shape[-1])[..., -count:]  # [K, S, A / K, S]
        new.masked_fill_(~mask[:, None], -torch.inf)
    weights = torch.split(scores.softmax(-1), [part.shape[1] for part in values], dim=-1)
    mixed = torch.bmm(weights[0], values[0])
    for weight, part in zip(weights[1:], values[1:], strict=True):
        mixed = mixed.baddbmm_(weight, part)
    return mixed.view(num_key_heads, count, -1, width).transpose(0, 1).reshape(count, num_heads, width)


def _scores(rows: Tensor, keys: Tensor) -> Tensor:
    """Products of ``[K, M, head]`` with ``[K, L, head]``: ``[K, M, L]``."""
    if rows.shape[1] > _FEW_ROWS:
        return torch.bmm(rows, keys.transpose(1, 2))
    return torch.bmm(keys, rows.transpose(1, 2)).transpose(1, 2)


def _attend_many(rows: Tensor, keys: list[Tensor], values: list[Tensor], mask: Tensor | None) -> Tensor:
    """Attend in one kernel; bringing several spans together costs little beside it."""
    columns, contents = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in (keys, values))
    if suits_blocks(rows, columns, contents):
        return attend_in_blocks(rows.transpose(0, 1), columns, contents, is_causal=True).transpose(0, 1)
    mixed = functional.scaled_dot_product_attention(
        rows.transpose(0, 1)[None].to(columns.dtype),
        columns[None],
        contents[None],
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=rows.shape[1] != len(columns),
    )
    return mixed[0].transpose(0, 1)  # [S, A, head]
