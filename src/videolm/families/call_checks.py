"""The tensors that callers pass to ``forward``, each checked against the model before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from videolm.errors import ArgumentError
from videolm.models.cache import KVCache
from videolm.models.config import DecoderConfig

__all__ = ["check_cache", "check_embeds", "check_ids", "check_pixels", "check_positions"]


def check_ids(ids: Any, decoder: DecoderConfig, placeholders: Sequence[int] = ()) -> None:
    """Refuse what is no batch of ids, and ids that are neither words nor placeholders."""
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point():
        raise ArgumentError(
            f"input_ids is {_described(ids)}: expected whole numbers [B, S]. Pass what the processor returned, or "
            "torch.tensor([ids])."
        )
    strange = (ids < 0) | (ids >= decoder.vocab_size)
    for placeholder in placeholders:
        strange = strange & (ids != placeholder)
    if bool(strange.any()):
        known = f", and the placeholders {' and '.join(map(str, placeholders))}" if placeholders else ""
        raise ArgumentError(
            f"input_ids hold {int(ids[strange][0])}, but the vocabulary has ids from 0 to {decoder.vocab_size - 1}"
            f"{known}: expected one of these. Prepare prompts with this model's processor."
        )


def check_embeds(embeds: Any, decoder: DecoderConfig) -> None:
    """Refuse embeddings of another width."""
    if not isinstance(embeds, Tensor) or embeds.dim() != 3 or embeds.shape[-1] != decoder.hidden_size:
        raise ArgumentError(
            f"inputs_embeds is {_described(embeds)}: expected [B, S, {decoder.hidden_size}]. Take them from this "
            "model's get_input_embeddings()."
        )


def check_positions(position_ids: Any, batch: int, length: int) -> None:
    """Refuse positions that are not those of the new tokens."""
    if not isinstance(position_ids, Tensor) or tuple(position_ids.shape) not in ((batch, length), (1, length)):
        raise ArgumentError(
            f"position_ids is {_described(position_ids)}: expected [{batch}, {length}], one for each new token. "
            "Leave it out to count them from attention_mask."
        )


def check_cache(cache: KVCache, decoder: DecoderConfig, batch: int) -> None:
    """Refuse keys and values of another model, or of another batch."""
    found = (cache.num_layers, *cache[0][0].shape[:2], cache[0][0].shape[3])
    expected = (decoder.num_hidden_layers, batch, decoder.num_key_value_heads, decoder.head_width)
    if found != expected:
        names = ("layers", "rows", "key and value heads", "numbers a head")
        wrong = [
            f"{have} {name} instead of {want}"
            for name, have, want in zip(names, found, expected, strict=True)
            if have != want
        ]
        raise ArgumentError(
            f"past_key_values holds {', '.join(wrong)}: expected what this model returned for the same batch. Pass "
            "output.past_key_values of the call before."
        )


def check_pixels(name: str, value: Any) -> None:
    """Refuse pixels that are no tensors."""
    several = value if isinstance(value, list | tuple) else [value]
    wrong = next((each for each in several if each is not None and not isinstance(each, Tensor)), None)
    if wrong is not None:
        raise ArgumentError(
            f"{name} is {_described(wrong)}: expected a torch tensor, or a list of them. Call the processor with "
            "return_tensors='pt'."
        )


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
