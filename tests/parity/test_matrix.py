"""Everything a model computes, against transformers, over the settings that its configuration knows.

Each case compares logits, hidden states, attention weights, loss, gradients, greedy ids and those of a beam search,
on one left-padded batch of words alone, a picture, a video, both interleaved, and words again.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .comparing import assert_same_in_everything, ours_from

pytest.importorskip("transformers")
from transformers.models.llava_next_video.processing_llava_next_video import LlavaNextVideoProcessor

LINEAR = {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}}
SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False, "hidden_act": "gelu_pytorch_tanh"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("mistral", {"spatial_pool_mode": "max"}),
    ("qwen2", {"spatial_pool_mode": "conv", "spatial_pool_out_channels": 32}),
    ("llama", {"spatial_pool_mode": "max", "spatial_pool_stride": 4}),
    ("llama", {"spatial_pool_mode": "conv", "spatial_pool_stride": 3}),
    ("qwen2", {"spatial_pool_stride": 1}),
    ("llama", {"vision": {"image_size": 20}}),
    ("llama", {"vision_feature_layer": -1}),
    ("mistral", {"vision_feature_layer": [-3, -2]}),
    ("qwen2", {"vision": SIGLIP, "vision_feature_select_strategy": "full", "vision_feature_layer": -1}),
    ("llama", {"text": LINEAR}),
    ("mistral", {"tie_word_embeddings": True}),
    ("qwen2", {"text": {"num_key_value_heads": 1}}),
]


@pytest.mark.parametrize(("decoder", "changes"), CASES, ids=lambda value: str(value))
def test_everything_agrees(
    make_reference: Callable[..., Any], make_batch: Callable[..., Any], decoder: str, changes: dict[str, Any]
) -> None:
    theirs = make_reference(decoder, **changes)
    ours = ours_from(theirs)
    assert_same_in_everything(ours, theirs, make_batch(ours, "mixed_rows").inputs)


# --- where the reference is wrong ---


@pytest.mark.parametrize(("stride", "size"), [(2, 16), (1, 16), (4, 16), (3, 16), (2, 20), (2, 28)])
@torch.inference_mode()
def test_tokens_are_those_that_the_model_makes(make_reference: Callable[..., Any], stride: int, size: int) -> None:
    """The reference's processor takes a quarter of the patches whatever its model pools: right for 2 and even grids."""
    theirs = make_reference(vision={"image_size": size}, spatial_pool_stride=stride)
    ours = ours_from(theirs)
    frames = torch.randn(1, 3, 3, size, size)
    made = sum(map(len, theirs.get_video_features(frames, return_dict=True).pooler_output))
    assert ours.tokens.video.count(3) == made
    counts_as = LlavaNextVideoProcessor.replace_video_token
    processor = SimpleNamespace(patch_size=4, video_token="v")
    counted = len(counts_as(processor, {"pixel_values_videos": frames}))
    is_right = stride == 2 and (size // 4) % 2 == 0
    assert (counted == made) == is_right
