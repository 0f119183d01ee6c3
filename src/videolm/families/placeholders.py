"""Where media stand in a batch of prompts: placeholders found and checked, single ones written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from videolm.contracts import MediaKind, VisualInput
from videolm.errors import ArgumentError, PlaceholderMismatchError

__all__ = ["PlacedBatch", "place_media"]

_IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class PlacedBatch:
    """Prompts in which every visual token has a placeholder of its own."""

    input_ids: Tensor
    """``[B, S]``."""
    attention_mask: Tensor | None
    """``[B, S]``."""
    labels: Tensor | None
    media: tuple[VisualInput, ...]
    """In the order in which they stand in the flattened ids."""
    starts: tuple[int, ...]
    """The first placeholder of each, in the flattened ids."""
    was_expanded: bool = False

    @property
    def positions(self) -> Tensor:
        """``[visual tokens]``, ascending in the flattened ids."""
        spans = [
            torch.arange(start, start + medium.num_tokens)
            for start, medium in zip(self.starts, self.media, strict=True)
        ]
        return torch.cat([torch.empty(0, dtype=torch.int64), *spans]).to(self.input_ids.device)

    def visual_tokens(self, kind: MediaKind | None = None) -> list[int]:
        """Visual tokens of each row, of one kind or of both."""
        return [sum(medium.num_tokens for medium in row) for row in self._by_row(kind)]

    def media_counts(self) -> list[int]:
        """Media of each row."""
        return [len(row) for row in self._by_row(None)]

    def _by_row(self, kind: MediaKind | None) -> list[list[VisualInput]]:
        rows: list[list[VisualInput]] = [[] for _ in range(len(self.input_ids))]
        for medium, start in zip(self.media, self.starts, strict=True):
            if kind is None or medium.kind == kind:
                rows[start // self.input_ids.shape[1]].append(medium)
        return rows


def place_media(
    config: Any,
    input_ids: Tensor,
    images: Sequence[VisualInput],
    clips: Sequence[VisualInput],
    *,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
) -> PlacedBatch:
    """Find the placeholders of each medium, checked medium by medium before anything is computed.

    A prompt from before processors wrote placeholders out has one for each medium: ids, mask and labels are then
    lengthened here.

    Args:
        config: Whatever holds ``image_token_index`` and ``video_token_index``.
        input_ids: ``[B, S]``.
    """
    batch = PlacedBatch(input_ids=input_ids, attention_mask=attention_mask, labels=labels, media=(), starts=())
    kinds: tuple[tuple[int, Sequence[VisualInput], MediaKind], ...] = (
        (config.image_token_index, images, "image"),
        (config.video_token_index, clips, "video"),
    )
    single = {token_id: media for token_id, media, _ in kinds if _is_unexpanded(input_ids, token_id, media)}
    if single:
        batch = _expand(batch, single)
    spans: list[tuple[int, VisualInput]] = []
    for token_id, media, kind in kinds:
        spans += zip(_starts(batch.input_ids, token_id, media, kind), media, strict=True)
    spans.sort(key=lambda span: span[0])
    return replace(batch, media=tuple(medium for _, medium in spans), starts=tuple(start for start, _ in spans))


def _is_unexpanded(input_ids: Tensor, token_id: int, media: Sequence[VisualInput]) -> bool:
    expected = [medium.num_tokens for medium in media]
    return bool(media) and sum(expected) != len(media) == int((input_ids == token_id).sum())


def _expand(batch: PlacedBatch, single: dict[int, Sequence[VisualInput]]) -> PlacedBatch:
    """Write the placeholders of these ids out, drop padding, and pad all rows to the longest again."""
    ids, mask, labels = batch.input_ids, batch.attention_mask, batch.labels
    if mask is None:
        mask = torch.ones_like(ids)
    elif mask.shape != ids.shape:
        raise ArgumentError(
            f"attention_mask has the shape {list(mask.shape)} while input_ids with single placeholders have "
            f"{list(ids.shape)}: expected the same. Pass placeholders in the first call, before anything is cached."
        )
    repeats = torch.ones_like(ids)
    for token_id, media in single.items():
        repeats[ids == token_id] = torch.tensor([medium.num_tokens for medium in media], device=ids.device)
    repeats = repeats * mask.to(ids.device).bool()
    lengths = repeats.sum(1)
    # Where all rows are full, padding goes to the left, as generation needs it.
    pads_right = not bool(mask[:, -1].all()) and bool(mask[:, 0].all())
    longest = int(lengths.max())
    new_ids = ids.new_zeros(len(ids), longest)
    new_mask = mask.new_zeros(len(ids), longest)
    new_labels = None if labels is None else labels.new_full((len(ids), longest), _IGNORED_LABEL)
    for row, count in enumerate(repeats):
        where = slice(0, int(lengths[row])) if pads_right else slice(longest - int(lengths[row]), longest)
        new_ids[row, where] = ids[row].repeat_interleave(count)
        new_mask[row, where] = 1
        if labels is not None and new_labels is not None:
            hidden = labels[row].to(ids.device).masked_fill(count > 1, _IGNORED_LABEL)
            new_labels[row, where] = hidden.repeat_interleave(count).to(labels.device)
    return replace(batch, input_ids=new_ids, attention_mask=new_mask, labels=new_labels, was_expanded=True)


def _starts(input_ids: Tensor, token_id: int, media: Sequence[VisualInput], kind: MediaKind) -> list[int]:
    found = (input_ids.flatten() == token_id).nonzero().flatten().tolist()
    expected = [medium.num_tokens for medium in media]
    if len(found) != sum(expected):
        raise PlaceholderMismatchError(
            f"The prompts hold {len(found)} {kind} placeholders (id {token_id}), but the {len(media)} {kind}s passed "
            f"with them fill {sum(expected)} ({expected}). Prepare prompt and pixels with this model's processor."
        )
    starts, start = [], 0
    for index, count in enumerate(expected):
        first, last = found[start], found[start + count - 1]
        row = input_ids.shape[1]
        if last - first + 1 != count or first // row != last // row:
            raise PlaceholderMismatchError(
                f"The {count} placeholders of {kind} {index} do not stand side by side in one prompt. "
                "Prepare prompt and pixels with this model's processor, media in the order of the prompts."
            )
        starts.append(first)
        start += count
    return starts
