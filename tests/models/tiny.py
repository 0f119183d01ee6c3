"""Tiny models and inputs for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from videolm.contracts import ModelInputs, PackedBatch, VisualInput
from videolm.models.config import DecoderConfig, FusionConfig, VideoLMConfig, VisionConfig
from videolm.models.init import init_weights
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

SIZE = 16
GRID = 4
PLACEHOLDER = 900
"""Outside the vocabulary."""

VISION = VisionConfig(
    image_size=SIZE, patch_size=4, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
)
DECODER = DecoderConfig(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=40,
)
TOKENS = VisualTokens(
    image=ImageTokens(grid=GRID, tile_size=SIZE, pinpoints=((16, 32), (32, 16), (32, 32))),
    video=VideoTokens(grid=GRID),
)
CONFIG = VideoLMConfig(vision=VISION, decoder=DECODER, fusion=FusionConfig(), tokens=TOKENS)


def tiny_model(config: VideoLMConfig = CONFIG, seed: int = 0) -> VideoLM:
    """A model with values large enough that every part matters."""
    model = VideoLM(config)
    init_weights(model, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(std=0.2, generator=generator))
    return model


def with_video(**changes: Any) -> VideoLMConfig:
    """The tiny configuration with other token rules for videos."""
    return replace(CONFIG, tokens=replace(TOKENS, video=replace(TOKENS.video, **changes)))


def clip(num_frames: int = 2, *, seed: int = 0, config: VideoLMConfig = CONFIG) -> VisualInput:
    """A video of noise."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(num_frames, 3, SIZE, SIZE, generator=generator)
    num_tokens = config.tokens.video.count(num_frames)
    return VisualInput(kind="video", pixel_values=pixels, size=(SIZE, SIZE), num_tokens=num_tokens)


def picture(
    size: tuple[int, int] = (20, 30), *, seed: int = 1, tokens: VisualTokens = CONFIG.tokens, tile_size: int = SIZE
) -> VisualInput:
    """A picture of noise with as many tiles as its size asks for."""
    layout = tokens.image.layout(*size)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(layout.num_tiles, 3, tile_size, tile_size, generator=generator)
    return VisualInput(kind="image", pixel_values=pixels, size=size, num_tokens=layout.count)


def prompt(*parts: VisualInput | list[int]) -> ModelInputs:
    """Ids and media in this order."""
    ids: list[int] = []
    starts: list[int] = []
    for part in parts:
        if isinstance(part, list):
            ids.extend(part)
        else:
            starts.append(len(ids))
            ids.extend([PLACEHOLDER] * part.num_tokens)
    media = tuple(part for part in parts if isinstance(part, VisualInput))
    return ModelInputs(input_ids=tuple(ids), media=media, media_starts=tuple(starts))


def pack(*prompts: ModelInputs) -> PackedBatch:
    """Prompts side by side."""
    lengths = tuple(len(inputs.input_ids) for inputs in prompts)
    visual, offset = [], 0
    for inputs, length in zip(prompts, lengths, strict=True):
        for start, medium in zip(inputs.media_starts, inputs.media, strict=True):
            visual.extend(range(offset + start, offset + start + medium.num_tokens))
        offset += length
    return PackedBatch(
        input_ids=torch.tensor([token for inputs in prompts for token in inputs.input_ids]),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        sequence_lengths=lengths,
        visual_positions=torch.tensor(visual, dtype=torch.long),
        media=tuple(medium for inputs in prompts for medium in inputs.media),
    )
