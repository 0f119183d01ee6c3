"""Keys and values of many sequences in blocks of one memory: written by slot, read by spans of slots.

Block ``b`` holds the slots ``b * block_size`` to ``(b + 1) * block_size - 1`` of every layer, and a layer is one tensor
``[K, slots, head]``. A sequence whose blocks lie in a row is then a view of it in which each key head is one piece of
memory, so attention with a single query streams through it and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from videolm.models.cache import Cache

Spans = tuple[tuple[int, int], ...]
"""First slot and the one after the last of each piece of a sequence, in the order of its tokens."""

__all__ = ["Int8Cache", "PagedCache", "Spans", "Storage", "spans_of"]


class Storage(Protocol):
    """The memory of an engine's keys and values."""

    @property
    def num_bytes(self) -> int:
        """Memory taken, or to be taken as it is filled."""
        ...

    def copy(self, source: int, target: int, num_rows: int) -> None:
        """Copy rows from one slot on to those from another slot on, in all layers."""
        ...

    def open(self, slots: Tensor, spans: Sequence[Spans]) -> tuple[Cache, Sequence[Spans]]:
        """A cache for one pass of the decoder.

        Args:
            slots: ``[T]`` int64, where each new token's rows go.
            spans: Where each sequence lies, its new tokens included.

        Returns:
            The cache, and where each sequence lies in what it gives out.
        """
        ...


def spans_of(blocks: Sequence[int], block_size: int, num_tokens: int) -> Spans:
    """Where the first ``num_tokens`` tokens of a sequence lie; blocks in a row are one span."""
    spans: list[tuple[int, int]] = []
    for index in range(-(-num_tokens // block_size)):
        start = blocks[index] * block_size
        end = start + min(block_size, num_tokens - index * block_size)
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)


class PagedCache:
    """Rows as they are, in one dtype."""

    def __init__(
        self,
        num_layers: int,
        num_slots: int,
        num_heads: int,
        head_width: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, num_heads, num_slots, head_width)
        # Memory that nothing was written to is not taken from the system on a CPU.
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty(shape, dtype=dtype, device=device)

    @property
    def dtype(self) -> torch.dtype:
        """How rows are stored."""
        return self._keys.dtype

    @property
    def num_bytes(self) -> int:
        """Memory of keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def copy(self, source: int, target: int, num_rows: int) -> None:
        """Copy rows in all layers."""
        for rows in (self._keys, self._values):
            rows[:, :, target : target + num_rows] = rows[:, :, source : source + num_rows]

    def clear(self, slot: int) -> None:
        """Put zeros into a slot, in all layers."""
        for rows in (self._keys, self._values):
            rows[:, :, slot] = 0

    def open(self, slots: Tensor, spans: Sequence[Spans]) -> tuple[Cache, Sequence[Spans]]:
        """A cache for one pass: it gives out all slots as they lie."""
        return _OpenRows(self._keys, self._values, slots), spans


@dataclass(frozen=True)
class _OpenRows:
    keys: Tensor
    values: Tensor
    slots: Tensor

    def extend(self, layer_index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one packed row ``[1, T, K, head]``; gives ``[1, slots, K, head]``."""
        stored_keys, stored_values = self.keys[layer_index], self.values[layer_index]
        _write(stored_keys, self.slots, keys)
        _write(stored_values, self.slots, values)
        return stored_keys.transpose(0, 1)[None], stored_values.transpose(0, 1)[None]

    def advance(self, num_tokens: int) -> None:
        """The scheduler counts."""


class Int8Cache:
    """Rows as whole numbers from -127 to 127 and one scale for each row of a head; read as ``dtype``."""

    def __init__(
        self,
        num_layers: int,
        num_slots: int,
        num_heads: int,
        head_width: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (2, num_layers, num_heads, num_slots, head_width)
        self._rows = torch.empty(shape, dtype=torch.int8, device=device)
        self._scales = torch.empty((*shape[:-1], 1), dtype=torch.float32, device=device)
        self._dtype = dtype

    @property
    def num_bytes(self) -> int:
        """Memory of numbers and scales."""
        return self._rows.nbytes + self._scales.nbytes

    def copy(self, source: int, target: int, num_rows: int) -> None:
        """Copy rows in all layers."""
        for rows in (self._rows, self._scales):
            rows[:, :, :, target : target + num_rows] = rows[:, :, :, source : source + num_rows]

    def open(self, slots: Tensor, spans: Sequence[Spans]) -> tuple[Cache, Sequence[Spans]]:
        """A cache for one pass: it gives out the rows of these sequences alone, one sequence after the other."""
        pieces = [torch.arange(start, end) for sequence in spans for start, end in sequence]
        packed, first = list[Spans](), 0
        for sequence in spans:
            length = sum(end - start for start, end in sequence)
            packed.append(((first, first + length),))
            first += length
        return _OpenInt8(self._rows, self._scales, slots, torch.cat(pieces).to(slots.device), self._dtype), packed


@dataclass(frozen=True)
class _OpenInt8:
    rows: Tensor
    scales: Tensor
    slots: Tensor
    wanted: Tensor
    dtype: torch.dtype

    def extend(self, layer_index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one packed row ``[1, T, K, head]`` rounded; gives ``[1, L, K, head]``."""
        read = []
        for rows, scales, new in zip(
            self.rows[:, layer_index], self.scales[:, layer_index], (keys, values), strict=True
        ):
            scale = new.float().abs().amax(-1, keepdim=True).div_(127).clamp_(min=torch.finfo(torch.float32).tiny)
            _write(rows, self.slots, (new / scale).round_().to(torch.int8))
            _write(scales, self.slots, scale)
            whole = rows.index_select(1, self.wanted).to(self.dtype)  # [K, L, head]
            read.append((whole * scales.index_select(1, self.wanted).to(self.dtype)).transpose(0, 1)[None])
        return read[0], read[1]

    def advance(self, num_tokens: int) -> None:
        """The scheduler counts."""


def _write(stored: Tensor, slots: Tensor, rows: Tensor) -> None:
    """Put ``[1, T, K, head]`` into ``[K, slots, head]``."""
    stored.index_copy_(1, slots, rows[0].transpose(0, 1).to(stored.dtype))
