"""A prompt in, what room there is for its answer out: in the model's context and in the cache."""

from __future__ import annotations

from dataclasses import replace

from videolm.contracts import ModelInputs
from videolm.errors import CapacityError, ProcessingError
from videolm.generation.params import SamplingParams
from videolm.models.config import DecoderConfig

__all__ = ["check_capacity", "fit_to_context"]


def fit_to_context(inputs: ModelInputs, params: SamplingParams, decoder: DecoderConfig) -> SamplingParams:
    """Generate no further than the context reaches."""
    num_tokens, context_len = len(inputs.input_ids), decoder.context_len(inputs.media)
    if not num_tokens:
        raise ProcessingError("The prompt has no tokens: a model needs at least one. Write a question.")
    if num_tokens >= context_len:
        visual = sum(medium.num_tokens for medium in inputs.media)
        raise ProcessingError(
            f"The prompt has {num_tokens} tokens, {visual} of them visual, and the model's context holds "
            f"{context_len}: at least one must remain for the answer. Take fewer frames or media, or write less."
        )
    room = context_len - num_tokens
    return replace(
        params, max_new_tokens=min(params.max_new_tokens, room), min_new_tokens=min(params.min_new_tokens, room)
    )


def num_stored(inputs: ModelInputs, params: SamplingParams) -> int:
    """The most tokens whose keys and values a request may need: the last new one is never read."""
    return len(inputs.input_ids) + params.max_new_tokens - 1


def check_capacity(request_id: str, num_tokens: int, capacity: int) -> None:
    """Refuse a request that the whole cache cannot hold."""
    if num_tokens > capacity:
        raise CapacityError(
            f"Request {request_id} may need {num_tokens} tokens in the cache, prompt and answer, and it holds "
            f"{capacity}: no more are expected. Take fewer frames or a smaller max_new_tokens, or make the cache "
            "larger (num_blocks, cache_bytes)."
        )
