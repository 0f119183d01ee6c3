"""Keys and values of tokens already seen: preallocated, written in place, grown in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import torch
from torch import Tensor

__all__ = ["Cache", "KVCache"]


class Cache(Protocol):
    """Where a decoder puts keys and values, and where what its plan attends to comes from."""

    def extend(self, layer_index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new rows ``[B, S, K, head]``; gives the rows ``[B, L, K, head]`` that the plan picks from."""
        ...

    def advance(self, num_tokens: int) -> None:
        """All layers have stored so many rows."""
        ...


class KVCache:
    """The cache of one decoder.

    ``extend`` writes a layer's new rows after ``length``; ``advance`` moves ``length`` once all layers have done so.
    By index it gives, layer by layer, the pairs ``[B, K, length, head]`` of keys and values that libraries pass around.
    """

    def __init__(self, num_layers: int, *, dtype: torch.dtype | None = None, block: int = 256) -> None:
        """Make an empty cache.

        Args:
            num_layers: Layers of the decoder.
            dtype: How rows are stored; None keeps the dtype they come in.
            block: Rows are allocated in multiples of this.
        """
        self.length = 0
        """Tokens held."""
        self.rope_factors: Tensor | None = None
        """``[B]``, what the positions of the rows are divided by beyond the decoder's own factor; None: nothing."""
        self._dtype = dtype
        self._block = block
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers

    @classmethod
    def from_layers(cls, layers: Sequence[tuple[Tensor, Tensor]], *, dtype: torch.dtype | None = None) -> KVCache:
        """The cache that holds these pairs ``[B, K, length, head]``, one a layer; they are copied."""
        cache = cls(len(layers), dtype=dtype)
        for index, (keys, values) in enumerate(layers):
            cache.extend(index, keys.transpose(1, 2), values.transpose(1, 2))
        cache.advance(layers[0][0].shape[2] if layers else 0)
        return cache

    def __len__(self) -> int:
        return self.num_layers

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, layer_index: int) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, layer_index: slice) -> tuple[tuple[Tensor, Tensor], ...]: ...
    def __getitem__(self, layer_index: int | slice) -> Any:
        if isinstance(layer_index, slice):
            return tuple(self)[layer_index]
        if not -len(self) <= layer_index < len(self):
            raise IndexError(layer_index)
        keys, values = self.layer(layer_index)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(len(self)))

    def get_seq_length(self, layer_index: int = 0) -> int:
        """Tokens held; the same in all layers."""
        return self.length

    @property
    def num_layers(self) -> int:
        """Layers of the decoder it belongs to."""
        return len(self._keys)

    @property
    def capacity(self) -> int:
        """Tokens it can hold before it grows."""
        first = self._keys[0] if self._keys else None
        return 0 if first is None else first.shape[1]

    def stretched(self, position_ids: Tensor) -> Tensor:
        """Positions ``[B, S]`` as the rows of this cache count them."""
        return position_ids if self.rope_factors is None else position_ids / self.rope_factors[:, None]

    def extend(self, layer_index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new rows.

        Args:
            layer_index: Which layer.
            keys: ``[B, S, K, head]``.
            values: ``[B, S, K, head]``.

        Returns:
            Keys and values ``[B, length + S, K, head]`` of all tokens so far, to attend to.
        """
        end = self.length + keys.shape[1]
        stored_keys = self._room(self._keys, layer_index, keys, end)
        stored_values = self._room(self._values, layer_index, values, end)
        stored_keys[:, self.length : end] = keys
        stored_values[:, self.length : end] = values
        if not self.length:
            return keys, values  # Attending to what was just computed needs no conversion from the stored dtype.
        return stored_keys[:, :end], stored_values[:, :end]

    def advance(self, num_tokens: int) -> None:
        """Count ``num_tokens`` more tokens as held."""
        self.length += num_tokens

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first ``length``; the memory stays for what comes next."""
        assert 0 <= length <= self.length, (length, self.length)
        self.length = length

    def layer(self, layer_index: int) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, length, K, head]`` of one layer, as stored."""
        keys, values = self._keys[layer_index], self._values[layer_index]
        assert keys is not None, "nothing has been stored yet"
        assert values is not None
        return keys[:, : self.length], values[:, : self.length]

    def reorder(self, rows: Tensor) -> None:
        """Let batch row ``i`` continue what row ``rows[i]`` held (beam search, several answers to one prompt)."""
        if self.rope_factors is not None:
            self.rope_factors = self.rope_factors.index_select(0, rows.to(self.rope_factors.device))
        for tensors in (self._keys, self._values):
            for index, tensor in enumerate(tensors):
                if tensor is not None:
                    tensors[index] = tensor.index_select(0, rows.to(tensor.device))

    def _room(self, tensors: list[Tensor | None], layer_index: int, rows: Tensor, end: int) -> Tensor:
        old = tensors[layer_index]
        if old is not None and old.shape[1] >= end:
            return old
        wanted = max(end, self.length + self.length // 4)
        capacity = -(-wanted // self._block) * self._block
        batch, _, heads, width = rows.shape
        new = torch.empty(batch, capacity, heads, width, dtype=self._dtype or rows.dtype, device=rows.device)
        if old is not None:
            new[:, : self.length] = old[:, : self.length]
        tensors[layer_index] = new
        return new
