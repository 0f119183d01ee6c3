"""Scheduled work of several sequences in, the tensors of one pass through the model out: packed, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videolm.contracts import Features, ModelInputs
from videolm.engine.paged_cache import Spans, spans_of

__all__ = ["Row", "StepBatch", "media_between", "positions_of"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one sequence computes in a step."""

    inputs: ModelInputs
    """Its prompt."""
    ids: tuple[int, ...]
    """The tokens to compute."""
    start: int
    """Tokens of the sequence before them."""
    blocks: Sequence[int]
    num_logits: int = 0
    """The last so many tokens whose logits are wanted."""
    rope_factor: float = 1.0
    """What its positions are divided by."""
    features: Mapping[int, Features]
    """By the index of the medium; at least those that tokens to compute belong to."""

    @property
    def end(self) -> int:
        """Tokens of the sequence once these are computed."""
        return self.start + len(self.ids)


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """One pass through the model."""

    input_ids: Tensor
    """``[T]`` int64, one sequence after the other."""
    position_ids: Tensor
    """``[T]``, as each sequence stretches them."""
    slots: Tensor
    """``[T]`` int64: where each token's keys and values go."""
    counts: tuple[int, ...]
    """Tokens of each sequence."""
    spans: tuple[Spans, ...]
    """Where each sequence lies, its new tokens included."""
    visual_positions: Tensor
    """``[num visual tokens]`` int64, ascending."""
    features: tuple[Features, ...]
    logits_positions: Tensor
    """``[num logits]`` int64, ascending."""

    @classmethod
    def of(cls, rows: Sequence[Row], *, block_size: int, device: torch.device) -> StepBatch:
        """Put sequences side by side."""
        visual, features, wanted, slots = list[int](), list[Features](), list[int](), list[Tensor]()
        first = 0
        for row in rows:
            for index, start, end in media_between(row.inputs, row.start, row.end):
                visual += range(first + start - row.start, first + end - row.start)
                begin = row.inputs.media_starts[index]
                features.append(Features(tokens=row.features[index].tokens[start - begin : end - begin]))
            first += len(row.ids)
            wanted += range(first - row.num_logits, first)
            slots.append(_slots(row, block_size))
        return cls(
            input_ids=torch.tensor([token for row in rows for token in row.ids], device=device),
            position_ids=positions_of(rows).to(device),
            slots=torch.cat(slots).to(device),
            counts=tuple(len(row.ids) for row in rows),
            spans=tuple(spans_of(row.blocks, block_size, row.end) for row in rows),
            visual_positions=torch.tensor(visual, dtype=torch.int64, device=device),
            features=tuple(features),
            logits_positions=torch.tensor(wanted, dtype=torch.int64, device=device),
        )


def media_between(inputs: ModelInputs, start: int, end: int) -> list[tuple[int, int, int]]:
    """Media with tokens from ``start`` up to ``end``: the index of each, and its first token there and the one after
    its last, counted in the prompt."""
    found = []
    for index, (first, medium) in enumerate(zip(inputs.media_starts, inputs.media, strict=True)):
        begin, stop = max(first, start), min(first + medium.num_tokens, end)
        if begin < stop:
            found.append((index, begin, stop))
    return found


def positions_of(rows: Sequence[Row]) -> Tensor:
    """``[T]``: the positions of the tokens to compute, as each sequence stretches them."""
    positions = torch.cat([torch.arange(row.start, row.end) for row in rows])
    if all(row.rope_factor == 1 for row in rows):
        return positions
    factors = torch.tensor([row.rope_factor for row in rows])
    return positions / factors.repeat_interleave(torch.tensor([len(row.ids) for row in rows]))


def _slots(row: Row, block_size: int) -> Tensor:
    positions = torch.arange(row.start, row.end)
    first = row.start // block_size
    starts = torch.tensor(row.blocks[first : -(-row.end // block_size)]) * block_size
    return starts[positions // block_size - first] + positions % block_size
