"""Settings that cannot work are refused when they are made, and real sizes build without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from videolm.errors import ConfigError
from videolm.models.config import DecoderConfig, FusionConfig, VideoLMConfig, VisionConfig
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

from .tiny import CONFIG, TOKENS

BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: VisionConfig(hidden_size=0), "hidden_size is 0: it must be greater than 0"),
    (lambda: VisionConfig(num_attention_heads=7), "vision's hidden_size 1024 cannot be split into 7 attention heads"),
    (lambda: VisionConfig(image_size=8, patch_size=14), "image_size 8 and patch_size 14 has no patches"),
    (lambda: VisionConfig(hidden_act="swish"), "vision hidden_act is 'swish': expected one of quick_gelu, gelu"),
    (lambda: DecoderConfig(num_attention_heads=33), "decoder's hidden_size 4096 cannot be split into 33"),
    (lambda: DecoderConfig(num_key_value_heads=5), "32 attention heads cannot share 5 key/value heads"),
    (lambda: DecoderConfig(head_dim=7), "head_dim is 7: rotary positions need an even one"),
    (lambda: DecoderConfig(rope_factor=0), "rope_factor is 0"),
    (lambda: FusionConfig(feature_layers=()), "feature_layers is empty"),
    (lambda: FusionConfig(pool_position="nowhere"), "pool_position is 'nowhere': expected one of before_projector"),
    (
        lambda: replace(CONFIG, fusion=FusionConfig(feature_layers=(-5,))),
        "feature layer -5 does not exist: a tower of 3 layers has hidden states -4 to 3",
    ),
    (lambda: replace(CONFIG, fusion=FusionConfig(image_newline=False)), "no newline embedding"),
    (
        lambda: replace(CONFIG, tokens=replace(TOKENS, video=VideoTokens(grid=5))),
        "makes 4x4 patches of 16 pixels a side, but the token rules say 4x4 of 16 for pictures and 5x5 for videos",
    ),
    (
        lambda: replace(
            CONFIG,
            vision=replace(CONFIG.vision, class_token=False),
            tokens=replace(TOKENS, image=replace(TOKENS.image, keep_class_token=True)),
        ),
        "keep the class token, but this vision tower has none",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_impossible_settings_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_negative_layers_count_from_the_last_output() -> None:
    config = replace(CONFIG, fusion=FusionConfig(feature_layers=(-1, -2, 0, 1, -4)))

    assert config.feature_indices == (3, 2, 0, 1, 0)
    assert config.feature_width == 5 * 16


def test_a_real_size_model_builds_on_the_meta_device_with_its_known_parameter_count() -> None:
    tokens = VisualTokens(image=ImageTokens(grid=24, tile_size=336), video=VideoTokens(grid=24))
    config = VideoLMConfig(vision=VisionConfig(), decoder=DecoderConfig(), fusion=FusionConfig(), tokens=tokens)
    with torch.device("meta"):
        model = VideoLM(config)
    tower = 1024 * 588 + 1024 + 577 * 1024 + 4 * 1024 + 24 * (4 * (1024**2 + 1024) + 2 * 1024 * 4096 + 5120 + 4096)
    projector = 1024 * 4096 + 4096 + 4096**2 + 4096
    decoder = 2 * 32064 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096

    assert sum(parameter.numel() for parameter in model.parameters()) == tower + projector + decoder + 4096
