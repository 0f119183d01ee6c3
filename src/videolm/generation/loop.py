"""A prompt in, token ids out: prefill, then sample and step until a stop token or the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from videolm.contracts import Features, ModelInputs
from videolm.generation.params import SamplingParams
from videolm.generation.sampling import make_sampler, without
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
    features: Sequence[Features] | None = None,
    cache: KVCache | None = None,
) -> IdGenerator:
    """Generate ids one by one, a stop token included; returns why it ended.

    Args:
        inputs: The whole prompt.
        features: One for each medium, where they are known already.
        cache: Empty, or holding the first tokens of this very prompt, which are not run again. Afterwards it holds
            everything but the last id generated, which the model has not read yet.
    """
    sample = make_sampler(params, len(inputs.input_ids))
    ids = list(inputs.input_ids)
    cache = model.new_cache() if cache is None else cache
    logits = model.prefill(inputs, cache, features=features)
    for num_tokens in range(1, params.max_new_tokens + 1):
        if num_tokens <= params.min_new_tokens:
            logits = without(logits, params.stop_token_ids)
        token_id = sample(logits, ids)
        ids.append(token_id)
        yield token_id
        if token_id in params.stop_token_ids:
            return "stop"
        if num_tokens < params.max_new_tokens:
            logits = model.step(token_id, cache)
    return "length"
