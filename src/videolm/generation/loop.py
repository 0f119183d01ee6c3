"""A prompt in, token ids out: prefill, then sample and step until a stop token or the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videolm.contracts import Features, ModelInputs
from videolm.generation.params import SamplingParams
from videolm.generation.sampling import make_sampler
from videolm.generation.streaming import IdGenerator

if TYPE_CHECKING:
    from videolm.models.cache import KVCache
    from videolm.models.video_lm import VideoLM

__all__ = ["generate_ids"]


def generate_ids(
    model: VideoLM,
    inputs: ModelInputs,
    params: SamplingParams,
    *,
    cache: KVCache,
    features: Sequence[Features] | None = None,
    cached_ids: Sequence[int] = (),
) -> IdGenerator:
    """Generate ids one by one, a stop token included; returns why it ended.

    Args:
        inputs: What follows the cached ids.
        cache: Holds the keys and values of ``cached_ids``. Afterwards it holds those of everything but the last id
            generated, which was not read by the model yet.
        features: Of the media in ``inputs``, where they are known already.
        cached_ids: The prompt's beginning, if the cache already holds it.
    """
    sample = make_sampler(params)
    ids = [*cached_ids, *inputs.input_ids]
    with torch.inference_mode():
        logits = model.prefill(inputs, cache, features=features)
    for num_tokens in range(1, params.max_new_tokens + 1):
        if num_tokens <= params.min_new_tokens:
            logits = _without(logits, params.stop_token_ids)
        token_id = sample(logits, ids)
        ids.append(token_id)
        yield token_id
        if token_id in params.stop_token_ids:
            return "stop"
        if num_tokens < params.max_new_tokens:
            with torch.inference_mode():
                logits = model.step(token_id, cache)
    return "length"


def _without(logits: Tensor, token_ids: Sequence[int]) -> Tensor:
    index = torch.tensor([i for i in token_ids if i < logits.shape[-1]], dtype=torch.int64, device=logits.device)
    return logits.index_fill(0, index, -math.inf)
