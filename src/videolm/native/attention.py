"""Attention of few queries to keys that lie in spans, on a CPU, by a kernel that is compiled where a compiler is."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videolm.native.build import load_library

__all__ = ["DTYPES", "WIDEST_HEAD", "FewQueries", "has_attention"]

WIDEST_HEAD = 256
"""Numbers in one head, at most, as in attention.c."""
_NAMES = {torch.float32: "attend_float32", torch.bfloat16: "attend_bfloat16"}
DTYPES = frozenset(_NAMES)
"""Of keys and values."""
_POINTER, _WHOLE = ctypes.c_void_p, ctypes.c_int64
_LEAST_PIECE = 256
"""Keys in a piece of a sequence, at least: fewer are read sooner than their sums are brought together."""


def has_attention() -> bool:
    """Whether the kernel is there; the first call of all may compile it, which takes about a second."""
    return load_library("attention") is not None


@dataclass(frozen=True, kw_only=True)
class FewQueries:
    """Some of the sequences of a packed row: their last tokens see what lies in their spans up to themselves."""

    sequences: Tensor
    """``[N, 6]`` int64: first query, number of queries, first span, number of spans, tokens in all, and queries of the
    sequences before."""
    spans: Tensor
    """``[M, 2]`` int64: first slot and the one after the last."""
    num_queries: int
    """Of the packed row, at least."""
    num_slots: int
    """Of keys and values, at least."""
    num_own: int
    """Queries of all these sequences."""
    longest: int
    """Tokens of the longest of them."""

    @classmethod
    def of(cls, firsts: Sequence[int], counts: Sequence[int], spans: Sequence[Sequence[tuple[int, int]]]) -> FewQueries:
        """Sequences by their first query, their number of queries, and where they lie, the queries' own included."""
        lines, first_span, before = [], 0, 0
        for first, count, own in zip(firsts, counts, spans, strict=True):
            lines.append((first, count, first_span, len(own), sum(stop - start for start, stop in own), before))
            first_span += len(own)
            before += count
        flat = [span for own in spans for span in own]
        return cls(
            sequences=torch.tensor(lines, dtype=torch.int64).view(-1, 6),
            spans=torch.tensor(flat, dtype=torch.int64).view(-1, 2),
            num_queries=max(first + count for first, count in zip(firsts, counts, strict=True)),
            num_slots=max(stop for _, stop in flat),
            num_own=before,
            longest=max(line[4] for line in lines),
        )

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
        """Compute the rows of these sequences.

        Args:
            queries: ``[T, A, head]`` float32, contiguous.
            keys: ``[K, slots, head]`` float32 or bfloat16, each head in one piece.
            values: The same.
            out: ``[T, A, head]`` float32, contiguous; other rows stay as they are.
        """
        num_rows, num_heads, width = queries.shape
        # Of what the kernel reads and writes nothing may lie outside: it does not look itself.
        for name, rows in (("queries", queries), ("out", out)):
            assert rows.is_contiguous(), f"{name} in one piece"
            assert rows.dtype == torch.float32, f"{name} in {rows.dtype}"
        assert out.shape == queries.shape, (out.shape, queries.shape)
        assert keys.shape == values.shape, (keys.shape, values.shape)
        assert keys.dtype == values.dtype, (keys.dtype, values.dtype)
        assert keys.stride()[1:] == values.stride()[1:] == (width, 1), (keys.stride(), values.stride())
        assert num_heads % len(keys) == 0, (num_heads, len(keys))
        assert width <= WIDEST_HEAD, width
        assert self.num_queries <= num_rows, (self.num_queries, num_rows)
        assert self.num_slots <= keys.shape[1], (self.num_slots, keys.shape)
        threads = torch.get_num_threads()
        pieces = self._num_pieces(len(keys), threads)
        num_places = self.num_own * num_heads
        partial = out.new_empty(pieces, num_places, width + 2) if pieces > 1 else out
        _kernels()[keys.dtype](
            queries.data_ptr(), keys.data_ptr(), values.data_ptr(), out.data_ptr(), self.sequences.data_ptr(),
            len(self.sequences), self.spans.data_ptr(), num_heads, len(keys), width, keys.stride(0), values.stride(0),
            width**-0.5, threads, pieces, partial.data_ptr(), num_places,
        )  # fmt: skip

    def _num_pieces(self, num_key_heads: int, num_threads: int) -> int:
        """Into how many pieces sequences are cut so that all threads have work."""
        num_items = len(self.sequences) * num_key_heads
        if num_items >= num_threads:
            return 1
        return max(1, min(-(-2 * num_threads // num_items), self.longest // _LEAST_PIECE))


@functools.cache
def _kernels() -> dict[torch.dtype, Callable[..., Any]]:
    library = load_library("attention")
    assert library is not None, "no kernel: ask has_attention first"
    kernels = {}
    for dtype, name in _NAMES.items():
        function = getattr(library, name)
        function.restype = None
        function.argtypes = [
            *[_POINTER] * 5, _WHOLE, _POINTER, *[_WHOLE] * 5, ctypes.c_float, ctypes.c_int32, _WHOLE, _POINTER, _WHOLE,
        ]  # fmt: skip
        kernels[dtype] = function
    return kernels
