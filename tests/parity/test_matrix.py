"""Everything a model computes, against transformers, over the settings that its configuration knows.

Each case compares logits, hidden states, attention weights, loss, gradients, greedy ids and those of a beam search,
on one left-padded batch of words alone, a picture, a video, both interleaved, and words again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .comparing import assert_same_in_everything, ours_from

pytest.importorskip("transformers")

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
