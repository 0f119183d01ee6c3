"""First values: decided by the seed, of the sizes described, positions that tell places apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from videolm.models.config import FusionConfig, VideoLMConfig, VisionConfig
from videolm.models.init import init_weights, sincos2d_positions
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

from .tiny import CONFIG, VISION

VISION_64 = VisionConfig(
    image_size=64, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
)


def larger() -> VideoLMConfig:
    tokens = VisualTokens(image=ImageTokens(grid=8, tile_size=64), video=VideoTokens(grid=8))
    return VideoLMConfig(vision=VISION_64, decoder=CONFIG.decoder, fusion=FusionConfig(), tokens=tokens)


def test_the_seed_decides_all_values() -> None:
    first, second, other = VideoLM(CONFIG), VideoLM(CONFIG), VideoLM(CONFIG)
    init_weights(first, 3)
    init_weights(second, 3)
    init_weights(other, 4)

    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_the_dtype_does_not_change_what_is_drawn() -> None:
    single, half = VideoLM(CONFIG), VideoLM(CONFIG).bfloat16()
    init_weights(single, 3)
    init_weights(half, 3)

    assert torch.equal(single.lm_head.weight.bfloat16(), half.lm_head.weight)


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("model.vision_tower.encoder.layers.1.mlp.fc1.weight", 0.02),
        ("model.vision_tower.encoder.layers.1.mlp.fc2.weight", 0.01),
        ("model.vision_tower.encoder.layers.1.self_attn.out_proj.weight", 0.01),
        ("model.language_model.layers.0.mlp.down_proj.weight", 0.01),
        ("model.language_model.embed_tokens.weight", 0.02),
        ("model.multi_modal_projector.linear_1.weight", 0.02),
        ("model.image_newline", 1 / math.sqrt(24)),
    ],
)
def test_deviations_are_as_described(name: str, deviation: float) -> None:
    model = VideoLM(larger())
    init_weights(model, 0)
    values = model.get_parameter(name)

    tolerance = 4 * deviation / math.sqrt(2 * values.numel())
    assert float(values.detach().std()) == pytest.approx(deviation, abs=tolerance)


def test_norms_are_one_and_biases_zero() -> None:
    model = VideoLM(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 7)
    init_weights(model, 0)
    values = {name: set(parameter.flatten().tolist()) for name, parameter in model.named_parameters()}

    assert all(found == {1.0} for name, found in values.items() if "norm" in name and name.endswith("weight"))
    assert all(found == {0.0} for name, found in values.items() if name.endswith("bias"))
    assert not any(7.0 in found for found in values.values())


def test_positions_have_the_size_of_the_features_of_noise() -> None:
    model = VideoLM(larger())
    init_weights(model, 0, "sincos2d")
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        features = embeddings.patch_embedding(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    patches = embeddings.position_embedding.weight.detach()[1:]

    assert float(patches.square().mean().sqrt()) == pytest.approx(float(features.square().mean().sqrt()), rel=0.1)


def test_each_half_of_the_channels_tells_one_axis() -> None:
    table = sincos2d_positions(VISION_64)
    grid = table[1:].view(8, 8, 64)

    assert not table[0].any()
    assert torch.equal(grid[:, 0, :32], grid[:, 5, :32])
    assert torch.equal(grid[0, :, 32:], grid[6, :, 32:])
    assert len({tuple(row) for row in grid.flatten(0, 1).tolist()}) == 64


def test_a_tower_without_class_token_or_with_an_odd_width_gets_a_full_table() -> None:
    settings = replace(VISION, class_token=False, hidden_size=18)

    assert sincos2d_positions(settings).shape == (16, 18)
