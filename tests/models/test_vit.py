"""The tower against transformers' CLIP and SigLIP, and which layers run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from videolm.models.config import VisionConfig
from videolm.models.vit import VisionTransformer

from .tiny import VISION

SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(std=0.3, generator=generator))
    return module.eval()


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
@torch.inference_mode()
def test_clip_hidden_states_match_transformers(hidden_act: str) -> None:
    theirs = randomised(CLIPVisionModel(CLIPVisionConfig(**SIZES, hidden_act=hidden_act)))
    ours = VisionTransformer(VisionConfig(**SIZES, hidden_act=hidden_act))
    ours.load_state_dict(theirs.state_dict())

    expected = theirs(PIXELS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours(PIXELS, range(4)), tuple(expected))


@torch.inference_mode()
def test_siglip_hidden_states_match_transformers() -> None:
    theirs = randomised(SiglipVisionModel(SiglipVisionConfig(**SIZES, vision_use_head=False)))
    settings = VisionConfig(
        **SIZES,
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=1e-6,
        class_token=False,
        pre_norm=False,
        patch_bias=True,
    )
    ours = VisionTransformer(settings)
    ours.load_state_dict(theirs.state_dict())

    expected = theirs(PIXELS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours(PIXELS, range(4)), tuple(expected))


@torch.inference_mode()
def test_pixels_that_do_not_fill_a_patch_are_dropped_like_transformers_does() -> None:
    sizes = SIZES | {"image_size": 18}
    theirs = randomised(CLIPVisionModel(CLIPVisionConfig(**sizes)))
    ours = VisionTransformer(VisionConfig(**sizes))
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(1, 3, 18, 18)

    torch.testing.assert_close(ours(pixels, [3])[0], theirs(pixels, output_hidden_states=True).hidden_states[3])


@torch.inference_mode()
def test_layers_above_the_selected_one_are_not_run() -> None:
    ours = randomised(VisionTransformer(VISION))
    before = ours(PIXELS, [2])[0]
    for parameter in ours.encoder.layers[2].parameters():
        parameter.fill_(float("nan"))

    assert torch.equal(ours(PIXELS, [2])[0], before)
    assert ours(PIXELS, [3])[0].isnan().all()


@torch.inference_mode()
def test_states_come_in_the_order_asked_for() -> None:
    ours = randomised(VisionTransformer(VISION))
    low, high, again = ours(PIXELS, [1, 3, 1])

    assert torch.equal(low, ours(PIXELS, [1])[0])
    assert torch.equal(high, ours(PIXELS, [3])[0])
    assert torch.equal(low, again)


def test_the_last_norm_has_parameters_only_where_the_configuration_says_so() -> None:
    with_norm = dict(VisionTransformer(VISION).named_parameters())
    without = dict(VisionTransformer(replace(VISION, post_norm=False)).named_parameters())

    assert with_norm.keys() - without.keys() == {"post_layernorm.weight", "post_layernorm.bias"}
