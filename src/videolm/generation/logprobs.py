"""Logits and the token drawn from them in, its log probability and those of the likeliest tokens out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TokenLogprobs", "token_logprobs"]


@dataclass(frozen=True, kw_only=True)
class TokenLogprobs:
    """How likely the model held a generated token, and what it held most likely in its place."""

    token_id: int
    logprob: float
    """Natural logarithm of the probability, before anything shaped the distribution to draw from."""
    top: tuple[tuple[int, float], ...] = ()
    """Ids and log probabilities of the likeliest tokens, the likeliest first."""


def token_logprobs(logits: Tensor, token_id: int, num_top: int) -> TokenLogprobs:
    """Log probabilities in float32.

    Args:
        logits: ``[V]``, as the model gives them.
        num_top: How many of the likeliest tokens to tell.
    """
    scores = logits.float().log_softmax(-1)
    top = scores.topk(min(num_top, len(scores)))
    return TokenLogprobs(
        token_id=token_id,
        logprob=float(scores[token_id]),
        top=tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)),
    )
