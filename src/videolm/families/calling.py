"""The arguments of a Hugging Face ``forward`` in, hidden states out: media found in the batch, padding made a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from videolm.contracts import Features
from videolm.errors import ArgumentError
from videolm.families.call_checks import check_cache, check_embeds, check_ids, check_positions
from videolm.families.media_arguments import MediaArguments
from videolm.families.outputs import BackboneOutput
from videolm.families.placeholders import PlacedBatch, place_media
from videolm.families.placement import flash_attention
from videolm.models.attention import AttentionPlan, CausalPlan, PaddedPlan
from videolm.models.attention_kernels import EagerPlan, FlashPlan, FlexPlan, visible_keys
from videolm.models.cache import KVCache

if TYPE_CHECKING:
    from videolm.families.backbone import FamilyBackbone

__all__ = ["Prompt", "causal_loss", "read_cache", "read_prompt", "run_prompt"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A padded batch, ready for the decoder."""

    embeds: Tensor
    """``[B, S, D]``."""
    mask: Tensor | None = None
    """``[B, cached tokens + S]``, zero at padding; None where there is none."""
    labels: Tensor | None = None
    placed: PlacedBatch | None = None
    """Which media stand where; None for embeddings and for words after a cache."""
    rope_factors: Tensor | None = None
    """``[B]``, what the positions of each row are divided by; None: nothing."""
    image_features: tuple[Features, ...] = ()
    video_features: tuple[Features, ...] = ()


def read_prompt(
    backbone: FamilyBackbone,
    *,
    input_ids: Tensor | None,
    media: MediaArguments,
    attention_mask: Tensor | None,
    inputs_embeds: Tensor | None = None,
    labels: Tensor | None = None,
    num_past: int = 0,
) -> Prompt:
    """Embed ids and media.

    Args:
        num_past: Tokens in the cache, before these.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ArgumentError("forward takes either input_ids or inputs_embeds: pass exactly one of them.")
    if inputs_embeds is not None:
        if not media.is_empty:
            raise ArgumentError("Pixels came with inputs_embeds, which show no placeholders: pass input_ids instead.")
        check_embeds(inputs_embeds, backbone.config.decoder)
        embeds = inputs_embeds.to(backbone.device, backbone.dtype)
        return Prompt(embeds=embeds, mask=_checked_mask(attention_mask, embeds, num_past), labels=labels)
    is_written = bool(num_past) and media.is_empty
    config = backbone.family_config
    placeholders = () if is_written else (config.image_token_index, config.video_token_index)
    check_ids(input_ids, backbone.config.decoder, placeholders)
    assert input_ids is not None
    ids = input_ids.to(backbone.device)
    if is_written:
        # Tokens that the model wrote: it may write a placeholder's id, which then is a word like any other.
        embeds = backbone.embed(ids, ids.new_empty(0), ())
        return Prompt(embeds=embeds, mask=_checked_mask(attention_mask, embeds, num_past), labels=labels)
    tokens = backbone.config.tokens
    images, clips = media.images(tokens), media.clips(tokens)
    placed = place_media(config, ids, images, clips, attention_mask=attention_mask, labels=labels)
    features = backbone.encode_media(placed.media)
    embeds = backbone.embed(placed.input_ids, placed.positions, features)
    by_kind = {
        kind: tuple(each for each, medium in zip(features, placed.media, strict=True) if medium.kind == kind)
        for kind in ("image", "video")
    }
    return Prompt(
        embeds=embeds,
        mask=_checked_mask(placed.attention_mask, embeds, num_past),
        labels=placed.labels,
        placed=placed,
        rope_factors=_rope_factors(backbone, placed, embeds.device),
        image_features=by_kind["image"],
        video_features=by_kind["video"],
    )


def run_prompt(
    backbone: FamilyBackbone,
    prompt: Prompt,
    *,
    cache: KVCache | None = None,
    position_ids: Tensor | None = None,
    output_attentions: bool = False,
    output_hidden_states: bool = False,
) -> BackboneOutput:
    """One pass of the decoder over a padded batch."""
    embeds = prompt.embeds
    num_past, length = (cache.length if cache is not None else 0), embeds.shape[1]
    if position_ids is None:
        position_ids = _positions(prompt.mask, num_past, length, embeds.device)
    elif prompt.placed is not None and prompt.placed.was_expanded:
        raise ArgumentError(
            "position_ids came with prompts whose placeholders are still to be written out, which moves what follows: "
            "expected none. Leave position_ids out, or expand the prompts with this model's processor."
        )
    check_positions(position_ids, len(embeds), length)
    factors = prompt.rope_factors
    if cache is not None and num_past:
        check_cache(cache, backbone.config.decoder, len(embeds))
    if cache is not None:
        # Remembered with the keys that are turned so.
        factors = cache.rope_factors = cache.rope_factors if num_past else factors
    position_ids = position_ids.to(embeds.device)
    if factors is not None:
        position_ids = position_ids / factors[:, None]
    weights: list[Tensor] | None = [] if output_attentions else None
    states: list[Tensor] | None = [] if output_hidden_states else None
    hidden = backbone.language_model(
        embeds,
        position_ids=position_ids,
        plan=_plan(backbone, prompt.mask, num_past, length, weights),
        cache=cache,
        states=states,
    )
    return backbone.output_class(
        last_hidden_state=hidden,
        past_key_values=cache,
        hidden_states=None if states is None else tuple(states),
        attentions=None if weights is None else tuple(weights),
        image_hidden_states=backbone.joined("image", [feature.tokens for feature in prompt.image_features]),
        video_hidden_states=backbone.joined("video", [feature.tokens for feature in prompt.video_features]),
    )


def read_cache(value: Any, *, dtype: torch.dtype | None = None) -> KVCache:
    """A cache as callers pass it: what an earlier call returned, or a tuple of pairs of keys and values."""
    if isinstance(value, KVCache):
        return value
    is_layers = isinstance(value, tuple | list) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)
        for pair in value
    )
    if not is_layers:
        raise ArgumentError(
            f"past_key_values is a {type(value).__name__}: expected what an earlier call returned, or one pair of keys "
            "and values a layer. Pass output.past_key_values."
        )
    return KVCache.from_layers(value, dtype=dtype)


def causal_loss(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Mean cross entropy of each label under the logits of the position before it."""
    if logits.shape[1] != labels.shape[1]:
        raise ArgumentError(
            f"labels has {labels.shape[1]} columns but there are logits of {logits.shape[1]} positions: "
            "a loss needs all of them. Leave logits_to_keep out."
        )
    labels = labels.to(logits.device)
    learned = labels[labels != ignore_index]
    if len(learned) and not 0 <= int(learned.min()) <= int(learned.max()) < logits.shape[-1]:
        raise ArgumentError(
            f"labels hold ids from {int(learned.min())} to {int(learned.max())}, but the vocabulary ends at "
            f"{logits.shape[-1] - 1}: expected its ids, or {ignore_index} where nothing is learned. Put {ignore_index} "
            "where placeholders and padding stand."
        )
    return functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=ignore_index
    )


def _checked_mask(mask: Tensor | None, embeds: Tensor, num_past: int) -> Tensor | None:
    """The mask, or None when it hides nothing."""
    if mask is None:
        return None
    expected = (embeds.shape[0], num_past + embeds.shape[1])
    if tuple(mask.shape) != expected:
        raise ArgumentError(
            f"attention_mask has the shape {list(mask.shape)}: expected {list(expected)}, one column for each of the "
            f"{num_past} cached and {embeds.shape[1]} new tokens. Lengthen it with ones as tokens are added."
        )
    return None if bool(mask.all()) else mask.to(embeds.device)


def _positions(mask: Tensor | None, num_past: int, length: int, device: torch.device) -> Tensor:
    if mask is None:
        return torch.arange(num_past, num_past + length, device=device)[None]
    return (mask.long().cumsum(-1) - 1).clamp(min=0)[:, num_past:]


def _rope_factors(backbone: FamilyBackbone, placed: PlacedBatch, device: torch.device) -> Tensor | None:
    decoder = backbone.config.decoder
    if decoder.rope_policy != "auto":
        return None
    factors = [decoder.prompt_rope_factor(count) for count in placed.visual_tokens("video")]
    return torch.tensor(factors, device=device)


def _plan(
    backbone: FamilyBackbone, mask: Tensor | None, num_past: int, length: int, weights: list[Tensor] | None
) -> AttentionPlan:
    device, implementation = backbone.device, backbone.attn_implementation
    if weights is not None or implementation == "eager":
        return EagerPlan(mask=visible_keys(mask, length, num_past + length, device), weights=weights)
    if implementation == "flex_attention":
        return FlexPlan(mask=visible_keys(mask, length, num_past + length, device))
    if implementation == "flash_attention_2":
        return FlashPlan(function=flash_attention(device, backbone.dtype), attention_mask=mask)
    if mask is None:
        return CausalPlan.of(length, num_past, device=device)
    return PaddedPlan.of(mask, length)
