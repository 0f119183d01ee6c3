"""What training minimises: a model and a packed row in, the summed loss of the learned tokens out."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from videolm.contracts import PackedBatch
from videolm.training.packing import IGNORED

__all__ = ["LossFunction", "count_learned", "next_token_loss", "next_token_targets"]


class LossFunction(Protocol):
    """A loss that is a sum, so that rows of different sizes add up to the mean over a whole step."""

    def __call__(self, model: Any, batch: PackedBatch) -> Tensor: ...


def next_token_targets(batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Positions ``[L]`` whose next token is learned, and these tokens ``[L]``; never across the end of a sequence."""
    assert batch.labels is not None
    targets = torch.full_like(batch.labels, IGNORED)
    targets[:-1] = batch.labels[1:]
    ends = torch.tensor(batch.sequence_lengths, device=targets.device).cumsum(0) - 1
    targets[ends] = IGNORED
    positions = (targets != IGNORED).nonzero().squeeze(1)
    return positions, targets[positions]


def count_learned(batch: PackedBatch) -> int:
    """How many tokens of the row are learned."""
    return int(next_token_targets(batch)[0].numel())


def next_token_loss(model: Any, batch: PackedBatch) -> Tensor:
    """Summed cross-entropy of the learned tokens, in float32; logits are made at their positions alone."""
    positions, targets = next_token_targets(batch)
    logits = model.forward_packed(batch, logits_positions=positions)  # [L, V]
    return functional.cross_entropy(logits.float(), targets, reduction="sum")
