"""Frames and messages to a model's inputs: what everything in front of the model goes through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videolm.contracts import Frames, MediaKind, Message, ModelInputs, VisualInput
from videolm.errors import ArgumentError, ConfigError, ProcessingError
from videolm.processing.anyres import picture_tiles
from videolm.processing.batch import BatchInputs, Padding, collate, list_media, stack_media, truncate
from videolm.processing.chat import ChatTemplate, MediaPart, normalise_messages
from videolm.processing.pixels import PixelSettings, fit_frame, normalise
from videolm.processing.prompt import IGNORED, encode_for_learning, encode_prompt
from videolm.processing.time_instruction import time_instruction, with_notes
from videolm.processing.tokenizer import Tokenizer
from videolm.visual_tokens import VisualTokens

_KINDS: tuple[MediaKind, ...] = ("image", "video")

__all__ = ["Processor"]


@dataclass(frozen=True, kw_only=True)
class Processor:
    """Makes inputs for one model. It knows the model's sizes and token counts, and none of its weights."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate
    image_pixels: PixelSettings
    video_pixels: PixelSettings
    tokens: VisualTokens
    image_token: str = "<image>"
    video_token: str = "<video>"
    image_token_id: int
    """What the model expects in place of a picture; the tokenizer's own id for ``image_token`` may differ."""
    video_token_id: int
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
        self.tokenizer.add_special((self.image_token, self.video_token))
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

    def prepare_medium(self, frames: Frames) -> VisualInput:
        """The pixel values of one medium: the costly part of ``prepare``, worth keeping for further questions."""
        if frames.kind == "video":
            pixels = normalise([self.prepare_frame(frame) for frame in frames.pixels], self.video_pixels, self.dtype)
            num_tokens = self.tokens.video.count(len(frames.pixels))
            note = time_instruction(frames) if self.time_instruction else ""
            return VisualInput(kind="video", pixel_values=pixels, size=frames.size, num_tokens=num_tokens, note=note)
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
        self._check_media(normalise_messages(messages)[1], [frames.kind for frames in media])
        visual = [self.prepare_medium(frames) for frames in media]
        return self.prepare_text(messages, visual, add_generation_prompt=add_generation_prompt, learn=learn)

    def prepare_text(
        self,
        messages: Sequence[Message],
        media: Sequence[VisualInput],
        *,
        add_generation_prompt: bool = True,
        learn: bool = False,
    ) -> ModelInputs:
        """One prompt with media that are prepared already.

        Args:
            media: In the order in which the messages mention them.
            add_generation_prompt: End with what makes the model answer; the last message must be the user's.
            learn: Add labels: the assistant's texts and their end tokens. Such a prompt ends with an answer, so
                there is no generation prompt.
        """
        normal, parts = normalise_messages(messages)
        self._check_media(parts, [medium.kind for medium in media])
        normal = with_notes(normal, [medium.note for medium in media])
        add_generation_prompt = add_generation_prompt and not learn
        if add_generation_prompt and normal[-1]["role"] != "user":
            raise ProcessingError(
                f"The last message is of the role {normal[-1]['role']}: a message of the user is expected, since it is "
                "to be answered. Add one, or pass add_generation_prompt=False."
            )
        chat = self.chat_template.render(normal, add_generation_prompt, find_answers=learn)
        if learn:
            placeholders = (self.image_token, self.video_token)
            ids, labels = encode_for_learning(self.tokenizer, chat, placeholders)
            return self._expand(ids, media, labels)
        return self._expand(encode_prompt(self.tokenizer, chat), media)

    def special_strings_in(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Special tokens that the messages' texts spell: they are read as text, which a caller may want to say."""
        normal, _ = normalise_messages(messages)
        texts = (part.get("text", "") for message in normal for part in message["content"])
        return tuple(dict.fromkeys(token for text in texts for _, _, token in self.tokenizer.special_strings(text)))

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
        if (truncation or padding == "max_length") and max_length is None:
            raise ArgumentError("There is no max_length to truncate or pad to: a number is expected. Pass max_length.")
        media = [self.prepare_medium(frames) for frames in [*list_media(images, "image"), *list_media(videos, "video")]]
        if text is None:
            return BatchInputs(stack_media(media))
        rows = self._rows([text] if isinstance(text, str) else list(text), media)
        if truncation and max_length is not None:
            rows = [truncate(row, max_length) for row in rows]
        lengths = {len(row.input_ids) for row in rows}
        if not padding and len(lengths) > 1:
            raise ArgumentError(
                f"The prompts have {len(lengths)} different lengths: equal ones are expected without padding. "
                "Pass padding=True."
            )
        pad_to = max_length if padding == "max_length" and max_length else 0
        return collate(rows, pad_token_id=self._padding_id(), padding_side=self.tokenizer.padding_side, pad_to=pad_to)

    def _padding_id(self) -> int:
        """Masked, so any token does; the tokenizer's own if it has one."""
        own = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((token_id for token_id in own if token_id is not None), 0)

    def _rows(self, texts: Sequence[str], media: Sequence[VisualInput]) -> list[ModelInputs]:
        if not texts:
            raise ArgumentError("The list of prompts is empty: at least one is expected. Pass text='...'.")
        kinds = self._placeholder_kinds()
        encoded = [self.tokenizer.encode(text) for text in texts]
        wanted = [[kinds[i] for i in ids if i in kinds] for ids in encoded]
        self._check_counts([kind for row in wanted for kind in row], [medium.kind for medium in media])
        waiting = {kind: iter([medium for medium in media if medium.kind == kind]) for kind in kinds.values()}
        taken = [[next(waiting[kind]) for kind in row] for row in wanted]
        return [self._expand(ids, row) for ids, row in zip(encoded, taken, strict=True)]

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
        pinpoints = {"image_grid_pinpoints": [list(pair) for pair in image.pinpoints]} if image.pinpoints else {}
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

    def _check_media(self, parts: Sequence[MediaPart], kinds: Sequence[MediaKind]) -> None:
        wanted = [part.kind for part in parts]
        if wanted != list(kinds):
            raise ProcessingError(
                f"The messages mention {_count(wanted)} but {_count(kinds)} came with them: expected the same media in "
                "the same order. Give each medium one part of its type in a message of the user."
            )

    def _check_counts(self, written: Sequence[MediaKind], given: Sequence[MediaKind]) -> None:
        if sorted(written) != sorted(given):
            raise ProcessingError(
                f"The prompt holds placeholders for {_count(written)} but {_count(given)} came with it: expected one "
                f"placeholder each ({self.image_token} or {self.video_token}). Give as many media as the prompt "
                "mentions, or use a chat template that writes a placeholder for each."
            )

    def _placeholder_kinds(self) -> dict[int, MediaKind]:
        """By the tokenizer's id."""
        kinds: dict[int, MediaKind] = {}
        for token, kind in zip((self.image_token, self.video_token), _KINDS, strict=True):
            token_id = self.tokenizer.token_to_id(token)
            assert token_id is not None  # added on construction
            kinds[token_id] = kind
        return kinds

    def _expand(
        self, ids: Sequence[int], media: Sequence[VisualInput], labels: Sequence[int] | None = None
    ) -> ModelInputs:
        """Put each medium's number of placeholders where one stands; media of one kind keep their order."""
        kinds = self._placeholder_kinds()
        self._check_counts([kinds[i] for i in ids if i in kinds], [medium.kind for medium in media])
        waiting = {kind: iter([medium for medium in media if medium.kind == kind]) for kind in _KINDS}
        expanded: list[int] = []
        expanded_labels: list[int] = []
        ordered: list[VisualInput] = []
        starts: list[int] = []
        for token_id, label in zip(ids, labels if labels is not None else ids, strict=True):
            if token_id not in kinds:
                expanded.append(token_id)
                expanded_labels.append(label)
                continue
            medium = next(waiting[kinds[token_id]])
            starts.append(len(expanded))
            ordered.append(medium)
            model_id = self.image_token_id if medium.kind == "image" else self.video_token_id
            expanded += [model_id] * medium.num_tokens
            expanded_labels += [IGNORED] * medium.num_tokens
        return ModelInputs(
            input_ids=tuple(expanded),
            media=tuple(ordered),
            media_starts=tuple(starts),
            labels=None if labels is None else tuple(expanded_labels),
        )


def _count(kinds: Sequence[str]) -> str:
    """For people: ``1 image and 2 videos``; ``no media``."""
    counts = [(kinds.count(kind), kind) for kind in _KINDS if kind in kinds]
    return " and ".join(f"{number} {kind}{'s' * (number > 1)}" for number, kind in counts) or "no media"
