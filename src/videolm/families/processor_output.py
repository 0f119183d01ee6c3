"""Prompts and media of one call in, named tensors in the form that the caller asked for out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from videolm.contracts import ModelInputs, VisualInput
from videolm.errors import ArgumentError
from videolm.families.processor_parts import as_asked
from videolm.processing.batch import BatchInputs, pad_rows
from videolm.processing.picture_arrays import ChannelFormat

if TYPE_CHECKING:
    from videolm.families.processor_base import DocumentedProcessor

_TEXT_OPTIONS = ("padding", "truncation", "max_length", "padding_side", "add_special_tokens")

__all__ = ["OutputForm", "text_options"]


@dataclass(frozen=True, kw_only=True)
class OutputForm:
    """What a call says about its result."""

    processor: DocumentedProcessor
    kind: str | None
    """``pt``, ``np``, ``jax`` or ``tf``; None for lists."""
    order: ChannelFormat | None
    """Where the channels of pixels stand."""
    padded: bool
    """Whether pictures of fewer tiles are filled up."""

    def batch(self, rows: Sequence[ModelInputs], written: dict[str, Any]) -> BatchInputs:
        """Prompts with their media; ``written`` holds the options of the text."""
        tokenizer = self.processor.tokenizer
        side = written.pop("padding_side", None) or tokenizer.padding_side
        written.setdefault("padding", False)
        # Without pixels, which go in under the family's own names.
        named: dict[str, Any] = {"pad_token_id": tokenizer.padding_id, "padding_side": side, "with_media": False}
        cut = pad_rows(rows, ragged=self.kind is None, **named, **written)
        return self.finish(cut, [medium for row in rows for medium in row.media])

    def finish(self, inputs: BatchInputs, media: Sequence[VisualInput]) -> BatchInputs:
        """What there is of text, with the media's pixels."""
        images = [medium for medium in media if medium.kind == "image"]
        videos = [medium for medium in media if medium.kind == "video"]
        if images:
            inputs.update(self.processor.image_processor.stack(images, padded=self.padded))
        if videos:
            inputs.update(self.processor.video_processor.stack(videos))
        return as_asked(inputs, self.kind, self.order)


def text_options(options: dict[str, Any], for_text: Mapping[str, Any]) -> dict[str, Any]:
    """What a call says about text, taken out of its other options."""
    for name in for_text:
        if name not in _TEXT_OPTIONS:
            raise ArgumentError(f"text_kwargs has {name}: expected one of {', '.join(_TEXT_OPTIONS)}. Leave it out.")
    return {name: options.pop(name) for name in _TEXT_OPTIONS if name in options} | dict(for_text)
