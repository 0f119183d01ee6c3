"""Frames and messages to a model's inputs: what everything in front of the model goes through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videolm.contracts import Frames, Message, ModelInputs, VisualInput
from videolm.errors import ArgumentError, ConfigError
from videolm.processing.anyres import picture_tiles
from videolm.processing.batch import BatchInputs, Padding, list_media, pad_rows, stack_media
from videolm.processing.chat import normalise_messages
from videolm.processing.pixels import PixelSettings, fit_frame, normalise
from videolm.processing.text_processor import TextProcessor
from videolm.processing.time_instruction import time_instruction
from videolm.visual_tokens import TokenBudget, VisualTokens

__all__ = ["Processor"]


@dataclass(frozen=True, kw_only=True)
class Processor(TextProcessor):
    """Makes inputs for one model. It knows the model's sizes and token counts, and none of its weights."""

    image_pixels: PixelSettings
    video_pixels: PixelSettings
    tokens: VisualTokens
    dtype: torch.dtype = torch.float32
    """Of pixel values."""
    time_instruction: bool = False
    """Whether prompts tell the length of each video and the times of its frames."""
    preprocessor_config: Mapping[str, Any] = field(default_factory=dict)
    """Further keys for ``preprocessor_config.json``: the class names and settings that other readers want."""
    video_preprocessor_config: Mapping[str, Any] = field(default_factory=dict)
    """The same for ``video_preprocessor_config.json``."""
    processor_config: Mapping[str, Any] = field(default_factory=dict)
    """The same for ``processor_config.json``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        image, video = self.tokens.image, self.tokens.video
        patch = image.tile_size // image.grid
        for kind, pixels, side in (("image", self.image_pixels, image.grid), ("video", self.video_pixels, video.grid)):
            size = pixels.output_size
            if kind == "image" and image.pinpoints:
                continue
            if size is None or (size[0] // patch, size[1] // patch) != (side, side):
                made = "of varying size" if size is None else f"of {size[1]}x{size[0]} pixels"
                raise ConfigError(
                    f"The {kind} processor makes frames {made}, but the model takes {side}x{side} patches of {patch} "
                    f"pixels: {side * patch}x{side * patch} pixels are expected. Correct size, crop_size or "
                    "do_center_crop in preprocessor_config.json."
                )

    # --- pixels ---

    def prepare_frame(self, frame: np.ndarray) -> np.ndarray:
        """A video frame (uint8 ``[H, W, 3]``) at the model's size, still uint8; meant for a decoder's output."""
        return fit_frame(frame, self.video_pixels)

    def prepare_medium(self, frames: Frames, budget: TokenBudget | None = None) -> VisualInput:
        """The pixel values of one medium: the costly part of ``prepare``, worth keeping for further questions.

        Args:
            budget: How many of its tokens a video keeps; None: as many as ``tokens`` says.
        """
        if frames.kind == "video":
            rules = self.tokens.video if budget is None else self.tokens.video.within(budget)
            return VisualInput(
                kind="video",
                pixel_values=normalise(
                    [self.prepare_frame(each) for each in frames.pixels], self.video_pixels, self.dtype
                ),
                size=frames.size,
                num_tokens=rules.count(len(frames.pixels)),
                note=time_instruction(frames) if self.time_instruction else "",
                budget=rules.budget,
            )
        picture = frames.pixels[0]
        size = (picture.shape[0], picture.shape[1])
        tiles = normalise(picture_tiles(picture, self.image_pixels, self.tokens.image), self.image_pixels, self.dtype)
        return VisualInput(kind="image", pixel_values=tiles, size=size, num_tokens=self.tokens.image.count(*size))

    # --- text ---

    def prepare(
        self,
        messages: Sequence[Message],
        media: Sequence[Frames],
        *,
        add_generation_prompt: bool = True,
        learn: bool = False,
    ) -> ModelInputs:
        """One prompt with its media; see ``prepare_text``."""
        self.check_media(normalise_messages(messages)[1], [frames.kind for frames in media])
        visual = [self.prepare_medium(frames) for frames in media]
        return self.prepare_text(messages, visual, add_generation_prompt=add_generation_prompt, learn=learn)

    # --- as Hugging Face processors are called ---

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        *,
        padding: bool | Padding = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchInputs:
        """Inputs for a batch of prompts that hold their own placeholders, in the order of the media given.

        Args:
            text: One prompt or several; here ``<image>`` and ``<video>`` are placeholders wherever they stand.
            images: Pictures in any form that ``load_media`` reads, one or a list; likewise ``videos``, whose frames are
                all used.
            padding: To the longest prompt, or to ``max_length``, on the tokenizer's ``padding_side``.
            truncation: Cut prompts to ``max_length``, but never inside media.
        """
        if return_tensors != "pt":
            raise ArgumentError(f"return_tensors is {return_tensors!r}: only 'pt' is expected. Leave it out.")
        media = [self.prepare_medium(frames) for frames in [*list_media(images, "image"), *list_media(videos, "video")]]
        if text is None:
            return BatchInputs(stack_media(media))
        rows = self.rows([text] if isinstance(text, str) else list(text), media)
        return pad_rows(
            rows,
            pad_token_id=self.tokenizer.padding_id,
            padding_side=self.tokenizer.padding_side,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
        )

    def apply_chat_template(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The prompt as text, for ``processor(text=...)``; placeholders in messages' texts are placeholders there."""
        return self.chat_template.render(messages, add_generation_prompt).text

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = True) -> list[str]:
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer, the chat template and the configurations, readable by Hugging Face libraries."""
        folder = Path(folder)
        self.tokenizer.save(folder)
        (folder / "chat_template.jinja").write_text(self.chat_template.source, encoding="utf-8")
        image = self.tokens.image
        # Every reader of this file takes a pair as (height, width).
        step = 1 if image.pinpoint_order == "height_width" else -1
        listed = {"image_grid_pinpoints": [list(pair[::step]) for pair in image.pinpoints]}
        pinpoints = listed if image.pinpoints or image.newline else {}
        files = {
            "preprocessor_config.json": self.image_pixels.to_preprocessor()
            | pinpoints
            | dict(self.preprocessor_config),
            "video_preprocessor_config.json": self.video_pixels.to_preprocessor()
            | dict(self.video_preprocessor_config),
            "processor_config.json": {
                "image_token": self.image_token,
                "video_token": self.video_token,
                "patch_size": image.tile_size // image.grid,
                **self.processor_config,
            },
        }
        for name, content in files.items():
            text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
            (folder / name).write_text(text, encoding="utf-8")
