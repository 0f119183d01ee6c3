"""The arguments of a Hugging Face ``forward`` in, its outputs out: media found in the batch, padding made a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from videolm.contracts import Features, MediaKind, VisualInput
from videolm.errors import ArgumentError, PlaceholderMismatchError, ProcessingError
from videolm.models.attention import AttentionPlan, CausalPlan, PaddedPlan
from videolm.models.cache import KVCache
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import VisualTokens

__all__ = ["CausalLMOutput", "MediaArguments", "run_forward"]

_IGNORED_LABEL = -100


@dataclass(kw_only=True)
class CausalLMOutput:
    """What ``forward`` returns, by attribute, by name or by position among what is there."""

    loss: Tensor | None = None
    logits: Tensor
    """``[B, S, V]``."""
    past_key_values: KVCache | None = None
    image_hidden_states: Tensor | None = None
    """``[visual tokens of all pictures, D]``."""
    video_hidden_states: Tensor | None = None

    def keys(self) -> tuple[str, ...]:
        """Names of what is there."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def to_tuple(self) -> tuple[Any, ...]:
        """What is there, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)


@dataclass(frozen=True, kw_only=True)
class MediaArguments:
    """Pixels as callers of ``forward`` pass them."""

    pixel_values: Any = None
    image_sizes: Any = None
    videos: Any = None

    def images(self, tokens: VisualTokens) -> list[VisualInput]:
        """The pictures, in order, without the padding of those with fewer tiles."""
        if self.pixel_values is None:
            return []
        if self.image_sizes is None:
            raise ArgumentError(
                "pixel_values came without image_sizes: the height and width of each picture are needed to lay its "
                "tiles out. Pass what the processor returned."
            )
        sizes = [(int(height), int(width)) for height, width in self.image_sizes]
        layouts = [tokens.image.layout(*size) for size in sizes]
        stacks = _tiles(self.pixel_values, [layout.num_tiles for layout in layouts])
        return [
            VisualInput(kind="image", pixel_values=tiles, size=size, num_tokens=layout.count)
            for tiles, size, layout in zip(stacks, sizes, layouts, strict=True)
        ]

    def clips(self, tokens: VisualTokens) -> list[VisualInput]:
        """The videos, in order."""
        if self.videos is None:
            return []
        single = isinstance(self.videos, Tensor) and self.videos.dim() == 4
        return [_clip(frames, tokens) for frames in ([self.videos] if single else self.videos)]


def _clip(frames: Tensor, tokens: VisualTokens) -> VisualInput:
    size = (frames.shape[-2], frames.shape[-1])
    return VisualInput(kind="video", pixel_values=frames, size=size, num_tokens=tokens.video.count(len(frames)))


def _tiles(pixel_values: Any, counts: list[int]) -> list[Tensor]:
    """One ``[tiles, 3, H, W]`` a picture."""
    if isinstance(pixel_values, Tensor) and pixel_values.dim() == 4:
        if len(pixel_values) != sum(counts):
            raise ProcessingError(
                f"pixel_values holds {len(pixel_values)} tiles, but pictures of these image_sizes have {sum(counts)}. "
                "Pass pixel_values and image_sizes of the same processor call."
            )
        return list(torch.split(pixel_values, counts))
    if len(pixel_values) != len(counts) or any(len(tiles) < n for tiles, n in zip(pixel_values, counts, strict=True)):
        raise ProcessingError(
            f"pixel_values holds {[len(tiles) for tiles in pixel_values]} tiles a picture, but image_sizes ask for "
            f"{counts}. Pass pixel_values and image_sizes of the same processor call."
        )
    return [tiles[:count] for tiles, count in zip(pixel_values, counts, strict=True)]


def run_forward(
    model: VideoLM,
    *,
    input_ids: Tensor | None,
    media: MediaArguments,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    cache: KVCache | None,
    inputs_embeds: Tensor | None,
    labels: Tensor | None,
    logits_to_keep: int | Tensor,
) -> CausalLMOutput:
    """One pass over a padded batch."""
    images, clips = media.images(model.tokens), media.clips(model.tokens)
    if (input_ids is None) == (inputs_embeds is None):
        raise ArgumentError("forward takes either input_ids or inputs_embeds: pass exactly one of them.")
    features: tuple[Features, ...] = ()
    num_past = cache.length if cache is not None else 0
    if input_ids is not None and num_past and not images and not clips:
        # Tokens that the model wrote: it may write a placeholder's id, which then is a word like any other.
        inputs_embeds = model.embed(input_ids.to(model.device), input_ids.new_empty(0), ())
    elif input_ids is not None:
        inputs_embeds, features = _embed(model, input_ids.to(model.device), images, clips)
    elif images or clips:
        raise ArgumentError("Pixels came with inputs_embeds, which show no placeholders: pass input_ids instead.")
    assert inputs_embeds is not None
    length = inputs_embeds.shape[1]
    mask = _checked_mask(attention_mask, inputs_embeds, num_past)
    if position_ids is None:
        position_ids = _positions(mask, num_past, length, model.device)
    hidden = model.decode(
        inputs_embeds.to(model.device, model.dtype),
        position_ids=position_ids.to(model.device),
        plan=_plan(mask, num_past, length, model.device),
        cache=cache,
    )
    keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
    logits = model.logits(hidden[:, keep])
    return CausalLMOutput(
        loss=None if labels is None else _loss(logits, labels.to(logits.device)),
        logits=logits,
        past_key_values=cache,
        image_hidden_states=_joined(features[: len(images)]),
        video_hidden_states=_joined(features[len(images) :]),
    )


def _embed(
    model: VideoLM, input_ids: Tensor, images: Sequence[VisualInput], clips: Sequence[VisualInput]
) -> tuple[Tensor, tuple[Features, ...]]:
    config: Any = model.config
    spans = [
        *_spans(input_ids, config.image_token_index, images, "image"),
        *_spans(input_ids, config.video_token_index, clips, "video"),
    ]
    features = model.encode_media([*images, *clips])
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    positions = [torch.arange(*spans[index], device=input_ids.device) for index in order]
    where = torch.cat(positions) if positions else input_ids.new_empty(0)
    return model.embed(input_ids, where, [features[index] for index in order]), features


def _spans(input_ids: Tensor, token_id: int, media: Sequence[VisualInput], kind: MediaKind) -> list[tuple[int, int]]:
    """Where each medium's placeholders stand in the flattened ids, checked medium by medium."""
    found = (input_ids.flatten() == token_id).nonzero().flatten().tolist()
    expected = [medium.num_tokens for medium in media]
    if len(found) != sum(expected):
        raise PlaceholderMismatchError(
            f"The prompts hold {len(found)} {kind} placeholders (id {token_id}), but the {len(media)} {kind}s passed "
            f"with them fill {sum(expected)} ({expected}). Prepare prompt and pixels with this model's processor."
        )
    spans, start = [], 0
    for index, count in enumerate(expected):
        first, last = found[start], found[start + count - 1]
        row = input_ids.shape[1]
        if last - first + 1 != count or first // row != last // row:
            raise PlaceholderMismatchError(
                f"The {count} placeholders of {kind} {index} do not stand side by side in one prompt. "
                "Prepare prompt and pixels with this model's processor, media in the order of the prompts."
            )
        spans.append((first, last + 1))
        start += count
    return spans


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


def _plan(mask: Tensor | None, num_past: int, length: int, device: torch.device) -> AttentionPlan:
    if mask is None:
        return CausalPlan.of(length, num_past, device=device)
    return PaddedPlan.of(mask, length)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of each label under the logits of the position before it."""
    if logits.shape[1] != labels.shape[1]:
        raise ArgumentError(
            f"labels has {labels.shape[1]} columns but there are logits of {logits.shape[1]} positions: "
            "a loss needs all of them. Leave logits_to_keep out."
        )
    return functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED_LABEL
    )


def _joined(features: Sequence[Features]) -> Tensor | None:
    return torch.cat([feature.tokens for feature in features]) if features else None
