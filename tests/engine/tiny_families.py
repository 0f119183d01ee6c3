"""A tiny model of every family and media for it: random weights, large enough that every part matters."""

from __future__ import annotations

from typing import Any

import torch

from videolm.contracts import VisualInput
from videolm.families import auto
from videolm.models.video_lm import VideoLM

_VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
_TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
_PLACEHOLDERS = {"image_token_index": 301, "video_token_index": 300}
_TILES = {"image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}
_SIGLIP = _VISION | {"model_type": "siglip_vision_model"}
_QWEN = _TEXT | {"model_type": "qwen2"}

CONFIGS: dict[str, dict[str, Any]] = {
    "llava_next_video": {"vision_config": _VISION, "text_config": _TEXT} | _PLACEHOLDERS | _TILES,
    "llava_next": {"vision_config": _VISION, "text_config": _TEXT | {"num_key_value_heads": 4}}
    | _PLACEHOLDERS
    | _TILES,
    "video_llava": {
        "vision_config": _VISION | {"add_time_attn": True, "num_frames": 2},
        "text_config": _TEXT,
    }
    | _PLACEHOLDERS,
    "llava_next_video2": {"vision_config": _SIGLIP, "text_config": _QWEN} | _PLACEHOLDERS | _TILES,
    "slow-fast": {
        "model_type": "llava_next_video2",
        "vision_config": _SIGLIP,
        "text_config": _QWEN,
        "add_faster_video": True,
        "faster_token_stride": 2,
        **_PLACEHOLDERS,
        **_TILES,
    },
    "rope-auto": {
        "model_type": "llava_next_video",
        "rope_policy": "auto",
        "vision_config": _VISION,
        "text_config": _TEXT | {"max_position_embeddings": 1010},
        **_PLACEHOLDERS,
        **_TILES,
    },
}
"""By family, and by what is asked of one beyond its defaults."""


def tiny_model_of(name: str) -> VideoLM:
    """The model of one of ``CONFIGS``."""
    model: VideoLM = auto.new_model({"model_type": name} | CONFIGS[name], seed=3)
    return model.eval()


def video_for(model: VideoLM, num_frames: int, seed: int) -> VisualInput:
    """Frames of noise."""
    side = model.model.config.vision.image_size
    pixels = torch.randn(num_frames, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return VisualInput(
        kind="video", pixel_values=pixels, size=(side, side), num_tokens=model.tokens.video.count(num_frames)
    )


def picture_for(model: VideoLM, size: tuple[int, int], seed: int) -> VisualInput:
    """A picture of noise with as many tiles as its size asks for."""
    side, layout = model.model.config.vision.image_size, model.tokens.image.layout(*size)
    pixels = torch.randn(layout.num_tiles, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return VisualInput(kind="image", pixel_values=pixels, size=size, num_tokens=layout.count)
