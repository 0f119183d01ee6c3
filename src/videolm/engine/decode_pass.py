"""Sequences that compute one token each in, their logits out: by a pass whose tensors keep their place and shape.

What is padding reads and writes slots that no sequence has, so it changes nothing and is always numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videolm.engine.batch import Row, media_between, positions_of
from videolm.engine.paged_cache import PagedCache
from videolm.engine.paged_plan import PagedPlan
from videolm.models.attention import AttentionPlan
from videolm.models.video_lm import VideoLM

__all__ = ["NUM_SPARE_SLOTS", "DecodePass", "DecodeSize", "decodes"]

NUM_SPARE_SLOTS = 2
"""Slots behind those of the blocks: one of zeros that is read for padding, and one that padding writes to."""

# Below this many blocks, and up to this many sequences, finer sizes would save next to nothing.
_FEWEST_BLOCKS = 8
_ROWS_STEP = 8


def decodes(rows: Sequence[Row]) -> bool:
    """Whether each sequence computes one token that is none of a medium, and wants its logits."""
    return all(
        len(row.ids) == 1 and row.num_logits == 1 and not media_between(row.inputs, row.start, row.end) for row in rows
    )


@dataclass(frozen=True, kw_only=True)
class DecodeSize:
    """How large a pass is: one of few sizes, so that the same ones come again."""

    num_rows: int
    """1, 2, 4, 8, 16, 24 and so on."""
    num_blocks: int
    """Those of the longest sequence, in steps of 8 or of an eighth of the next power of two, whichever is more."""

    @classmethod
    def of(cls, rows: Sequence[Row], block_size: int) -> DecodeSize:
        """The least that holds these sequences."""
        count, longest = len(rows), max(-(-row.end // block_size) for row in rows)
        small = count <= _ROWS_STEP
        step = max(_power_from(longest) // 8, _FEWEST_BLOCKS)
        return cls(
            num_rows=_power_from(count) if small else _rounded(count, _ROWS_STEP), num_blocks=_rounded(longest, step)
        )


class DecodePass:
    """One size of it: ``fill`` puts a step into the static tensors, a call computes what they hold."""

    def __init__(
        self,
        model: VideoLM,
        storage: PagedCache,
        size: DecodeSize,
        *,
        block_size: int,
        num_slots: int,
        uses_kernel: bool = False,
    ) -> None:
        """Make the static tensors, for a pass of padding alone.

        Args:
            num_slots: Those of all blocks; ``storage`` has ``NUM_SPARE_SLOTS`` more.
            uses_kernel: Whether Triton reads keys and values where they lie; else they are gathered.
        """
        self._model, self._storage = model, storage
        self._block_size, self._blank_slot, self._waste_slot = block_size, num_slots, num_slots + 1
        storage.clear(self._blank_slot)
        device = model.device
        self.ids = torch.zeros(size.num_rows, dtype=torch.int64, device=device)
        """``[N]``"""
        self.position_ids = torch.zeros(size.num_rows, dtype=torch.float32, device=device)
        """``[N]``: as each sequence stretches them."""
        self.lengths = torch.zeros(size.num_rows, dtype=torch.int64, device=device)
        """``[N]``: tokens of each sequence, the new one included; 0 for padding."""
        self.blocks = torch.zeros(size.num_rows, size.num_blocks, dtype=torch.int64, device=device)
        """``[N, num_blocks]``: those of each sequence, and anything behind its last one."""
        self._plan: AttentionPlan | None = None
        if uses_kernel:
            from videolm.engine.paged_kernel import KernelPlan  # Triton is not everywhere.

            self._plan = KernelPlan(blocks=self.blocks, lengths=self.lengths, block_size=block_size)

    def fill(self, rows: Sequence[Row]) -> None:
        """Put the tokens of a step in, as many sequences as there is room for or fewer."""
        blocks = torch.zeros(self.blocks.shape, dtype=torch.int64)
        for line, row in zip(blocks, rows, strict=False):
            used = row.blocks[: -(-row.end // self._block_size)]
            line[: len(used)] = torch.tensor(used)
        for static, values in (
            (self.ids, torch.tensor([row.ids[0] for row in rows])),
            (self.position_ids, positions_of(rows).float()),
            (self.lengths, torch.tensor([row.end for row in rows])),
        ):
            padded = torch.zeros(static.shape, dtype=static.dtype)
            padded[: len(rows)] = values
            _send(padded, static)
        _send(blocks, self.blocks)

    def __call__(self) -> Tensor:
        """Compute; gives logits ``[N, V]``, of which those of padding mean nothing.

        Nothing here may depend on what the tensors hold, since a graph of it is replayed for others.
        """
        last = (self.lengths - 1).clamp(min=0)
        blocks = self.blocks.gather(1, (last // self._block_size)[:, None])[:, 0]
        slots = blocks * self._block_size + last % self._block_size
        cache, _ = self._storage.open(slots.masked_fill(self.lengths == 0, self._waste_slot), ())
        model, plan = self._model, self._plan or self._gathering()
        embeds = model.model.language_model.embed_tokens(self.ids)  # [N, D]
        hidden = model.decode(embeds[None], position_ids=self.position_ids[None], plan=plan, cache=cache)[0]
        return model.logits(hidden)

    def _gathering(self) -> PagedPlan:
        places = torch.arange(self._block_size, device=self.blocks.device)
        slots = (self.blocks[:, :, None] * self._block_size + places).flatten(1)  # [N, longest]
        columns, lengths = torch.arange(slots.shape[1], device=slots.device), self.lengths[:, None]
        is_own = columns < lengths
        # Padding sees one slot, of zeros: a mask without any would give what is no number.
        return PagedPlan.gathered(slots.masked_fill(~is_own, self._blank_slot), columns < lengths.clamp(min=1))


def _send(values: Tensor, static: Tensor) -> None:
    # From pinned memory, which is not reused before it is read, the copy is not waited for.
    static.copy_(values.pin_memory() if static.is_cuda else values, non_blocking=True)


def _power_from(count: int) -> int:
    """The least power of two that is not below ``count``."""
    return 1 << (count - 1).bit_length()


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step
