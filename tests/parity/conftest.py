"""What the comparisons share: tiny random models made by the reference's own classes, and batches for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

VOCABULARY = 80
IMAGE_ID, VIDEO_ID = 78, 79
PATCH = 4


def vision_settings(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 4 * PATCH,
        "patch_size": PATCH,
    } | changes


def text_settings(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    settings = {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if model_type == "mistral":
        settings["sliding_window"] = None
    return settings | changes


@pytest.fixture
def make_reference() -> Callable[..., Any]:
    """A LLaVA-NeXT-Video model of the reference's class; keywords replace keys of its configuration."""
    transformers = pytest.importorskip("transformers")

    def make(
        decoder: str = "llama",
        *,
        vision: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Any:
        side = vision_settings(**(vision or {}))["image_size"]
        settings = {
            "vision_config": vision_settings(**(vision or {})),
            "text_config": text_settings(decoder, **(text or {})),
            "image_token_index": IMAGE_ID,
            "video_token_index": VIDEO_ID,
            "image_grid_pinpoints": [
                [side, 2 * side],
                [2 * side, side],
                [2 * side, 2 * side],
                [3 * side, side],
                [side, 3 * side],
            ],
        } | changes
        torch.manual_seed(0)
        config = transformers.LlavaNextVideoConfig(**settings)
        model = transformers.LlavaNextVideoForConditionalGeneration(config).eval()
        # The reference starts with zero biases and tiny weights; larger ones make differences visible.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return model

    return make
