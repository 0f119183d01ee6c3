"""The published checkpoints at their real sizes, without their weights: every name and shape finds its place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.families.auto import model_class_for
from videolm.families.initialise import without_values
from videolm.families.original_configs import from_original
from videolm.weights.files import WeightFiles
from videolm.weights.loading import match_weights

Shapes = Iterator[tuple[str, tuple[int, ...]]]
PAIR = ("weight", "bias")

# hidden, layers, heads, key-value heads, mlp, rows, theta, positions
VICUNA_7B = (4096, 32, 32, 32, 11008, 32064, 1e4, 4096)
MISTRAL_7B = (4096, 32, 32, 8, 14336, 32064, 1e6, 32768)
YI_34B = (7168, 60, 56, 8, 20480, 64064, 5e6, 4096)
QWEN_7B = (3584, 28, 28, 4, 18944, 152064, 1e6, 32768)
QWEN_32B = (5120, 64, 40, 8, 27392, 152064, 1e6, 32768)
QWEN_72B = (8192, 80, 64, 8, 29568, 152064, 1e6, 32768)
NAMES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
NAMES += ("vocab_size", "rope_theta", "max_position_embeddings")


def decoder(dims: tuple[Any, ...], *, qkv_bias: bool) -> Shapes:
    """Names inside the language model, without the head."""
    hidden, layers, heads, groups, inner, rows, *_ = dims
    keys = hidden // heads * groups
    yield "embed_tokens.weight", (rows, hidden)
    for index in range(layers):
        at = f"layers.{index}."
        for name, size in (("q", hidden), ("k", keys), ("v", keys)):
            yield f"{at}self_attn.{name}_proj.weight", (size, hidden)
            if qkv_bias:
                yield f"{at}self_attn.{name}_proj.bias", (size,)
        yield f"{at}self_attn.o_proj.weight", (hidden, hidden)
        yield f"{at}mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}mlp.up_proj.weight", (inner, hidden)
        yield f"{at}mlp.down_proj.weight", (hidden, inner)
        yield f"{at}input_layernorm.weight", (hidden,)
        yield f"{at}post_attention_layernorm.weight", (hidden,)
    yield "norm.weight", (hidden,)


def tower(kind: str, *, time: bool = False) -> Shapes:
    """Names inside a tower: CLIP ViT-L/14 at 336 or 224 pixels, or what is kept of SigLIP so400m/14 at 384."""
    hidden, layers, inner, positions = {
        "clip-336": (1024, 24, 4096, 577),
        "clip-224": (1024, 24, 4096, 257),
        "siglip": (1152, 26, 4304, 729),
    }[kind]
    norms = [f"layers.{index}.layer_norm{number}" for index in range(layers) for number in (1, 2)]
    yield "embeddings.patch_embedding.weight", (hidden, 3, 14, 14)
    yield "embeddings.position_embedding.weight", (positions, hidden)
    if kind == "siglip":
        yield "embeddings.patch_embedding.bias", (hidden,)
    else:
        yield "embeddings.class_embedding", (hidden,)
        yield from ((f"pre_layrnorm.{part}", (hidden,)) for part in PAIR)
    yield from ((f"post_layernorm.{part}", (hidden,)) for part in PAIR)
    yield from ((f"encoder.{norm}.{part}", (hidden,)) for norm in norms for part in PAIR)
    for index in range(layers):
        at = f"encoder.layers.{index}."
        for attention in ("self_attn", "temporal_attn") if time else ("self_attn",):
            for name in ("q", "k", "v", "out"):
                yield from linear(f"{at}{attention}.{name}_proj.", hidden, hidden)
        yield from linear(f"{at}mlp.fc1.", inner, hidden)
        yield from linear(f"{at}mlp.fc2.", hidden, inner)
        if time:
            yield f"{at}temporal_embedding", (1, 8, hidden)
            yield from ((f"{at}temporal_layer_norm1.{part}", (hidden,)) for part in PAIR)


def linear(prefix: str, rows: int, columns: int) -> Shapes:
    """A matrix and its bias."""
    yield f"{prefix}weight", (rows, columns)
    yield f"{prefix}bias", (rows,)


PARTED = ("multi_modal_projector.linear_1.", "multi_modal_projector.linear_2.")
OLD = ("model.mm_projector.0.", "model.mm_projector.2.")
INNER = tuple(f"model.{name}" for name in PARTED)
LAYOUTS = {
    "original": ("model.{0}.{0}.vision_model.", OLD, "model.", "model.", ""),
    "transformers before 4.52": ("{0}.vision_model.", PARTED, "", "language_model.model.", "language_model."),
    "transformers from 4.52": ("model.{0}.vision_model.", INNER, "model.", "model.language_model.", ""),
    "transformers 5, in memory": ("model.{0}.", INNER, "model.", "model.language_model.", ""),
    "transformers 5, saved afresh": ("{0}.", PARTED, "", "language_model.model.", "language_model."),
}
"""What stands before the names of the tower (with its name), the two layers, the newline, the decoder and the head."""


def published(
    layout: str, dims: tuple[Any, ...], kind: str, *, time: bool, is_qwen: bool
) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint, in one layout."""
    eyes, layers, newline, words, head = LAYOUTS[layout]
    hidden, width = dims[0], 1152 if kind == "siglip" else 1024
    named = {words + name: shape for name, shape in decoder(dims, qkv_bias=is_qwen)}
    named[f"{head}lm_head.weight"] = (dims[5], hidden)
    named |= {**dict(linear(layers[0], hidden, width)), **dict(linear(layers[1], hidden, hidden))}
    if kind != "clip-224":
        named[f"{newline}image_newline"] = (hidden,)
        return named | {eyes.format("vision_tower") + key: shape for key, shape in tower(kind)}
    if layout == "original":  # There is no part called vision_model inside the towers of two.
        eyes = eyes.removesuffix("vision_model.")
    for name in ("image_tower", "video_tower"):
        own = tower(kind, time=time and name == "video_tower")
        named |= {eyes.format(name) + key: shape for key, shape in own}
    return named


def strays(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Tables that old files hold as well, which every reader computes."""
    tables = {"embeddings.position_embedding.weight": "embeddings.position_ids"}
    tables["layers.0.self_attn.o_proj.weight"] = "layers.0.self_attn.rotary_emb.inv_freq"
    pairs = [(key, old, new) for key in shapes for old, new in tables.items() if key.endswith(old)]
    return {key.removesuffix(old) + new: (64,) for key, old, new in pairs}


class _Listed:
    """Files of which only the names and shapes are known."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes

    def keys(self) -> list[str]:
        return list(self.shapes)

    def shape(self, key: str) -> tuple[int, ...]:
        return self.shapes[key]

    def dtype(self, key: str) -> torch.dtype:
        return torch.float16

    def read(self, key: str) -> Tensor:
        raise AssertionError("nothing is read")


def text_keys(dims: tuple[Any, ...], **others: Any) -> dict[str, Any]:
    return dict(zip(NAMES, dims, strict=True)) | others


def ported(family: str, model_type: str, dims: tuple[Any, ...], **changes: Any) -> dict[str, Any]:
    """A config.json of llava-hf, which leaves out what its classes take for granted."""
    vision = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "projection_dim": 768}
    vision |= {"num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14, "vocab_size": 32000}
    vision |= {"image_size": 224 if family == "video_llava" else 336}
    text = text_keys(dims, model_type=model_type, rms_norm_eps=1e-5, sliding_window=None)
    return {"model_type": family, "vision_config": vision, "text_config": text} | changes


def original(model_type: str, dims: tuple[Any, ...], eyes: str, **changes: Any) -> dict[str, Any]:
    """A config.json of the original code."""
    keys = {"mm_projector_type": "mlp2x_gelu", "mm_patch_merge_type": "spatial_unpad", "mm_vision_tower": eyes}
    keys |= {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[336, 672], [672, 336]], "sliding_window": None}
    return text_keys(dims, model_type=model_type, mm_vision_select_layer=-2, **keys) | changes


CLIP, SIGLIP = "openai/clip-vit-large-patch14-336", "google/siglip-so400m-patch14-384"
POOLED = {"mm_resampler_type": "spatial_pool", "mm_spatial_pool_mode": "average", "mm_spatial_pool_stride": 2}
SWAPPED = {"image_token_index": 32001, "video_token_index": 32000}
VIDEO_QWEN = POOLED | {"image_aspect_ratio": "anyres_max_9", "image_grid_pinpoints": "(1x1),...,(6x6)"}
VIDEO_QWEN |= {"mm_newline_position": "grid", "add_time_instruction": True, "force_sample": True}
ROPE = {"rope_scaling": {"factor": 2.5, "type": "linear", "rope_type": "linear"}}
SEVEN = ported("llava_next_video", "llama", VICUNA_7B, **SWAPPED)
SEVEN["text_config"] |= ROPE
YI = {"image_token_index": 64004, "video_token_index": 64003}
TWO = {"mm_image_tower": "LanguageBind/LanguageBind_Image", "mm_video_tower": "LanguageBind/LanguageBind_Video_merge"}
TWO |= {"mm_projector_type": "mlp2x_gelu", "image_aspect_ratio": "pad"}
BEFORE, ORIGINAL = "transformers before 4.52", "original"


def rows(dims: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """As the original code has them, before rows were added."""
    return (*dims[:5], number, *dims[6:])


PUBLISHED: dict[str, tuple[dict[str, Any], str, tuple[Any, ...], str, float]] = {
    "LLaVA-NeXT-Video-7B-hf": (SEVEN, BEFORE, VICUNA_7B, "clip-336", 7.063),
    "LLaVA-NeXT-Video-7B-DPO-hf": (SEVEN, BEFORE, VICUNA_7B, "clip-336", 7.063),
    "LLaVA-NeXT-Video-7B-32K-hf": (
        ported("llava_next_video", "mistral", MISTRAL_7B, **SWAPPED),
        *(BEFORE, MISTRAL_7B, "clip-336", 7.567),
    ),
    "LLaVA-NeXT-Video-34B-hf": (
        ported("llava_next_video", "llama", YI_34B, **YI),
        *(BEFORE, YI_34B, "clip-336", 34.752),
    ),
    "LLaVA-NeXT-Video-34B-DPO-hf": (
        ported("llava_next_video", "llama", YI_34B, **YI),
        *("transformers from 4.52", YI_34B, "clip-336", 34.752),
    ),
    "Video-LLaVA-7B-hf": (ported("video_llava", "llama", VICUNA_7B), BEFORE, VICUNA_7B, "clip-224", 7.366),
    "LLaVA-NeXT-Video-7B": (
        original("llava_llama", rows(VICUNA_7B, 32000), CLIP, **POOLED),
        *(ORIGINAL, rows(VICUNA_7B, 32000), "clip-336", 7.063),
    ),
    "LLaVA-NeXT-Video-7B-32K": (
        original("llava_mistral", rows(MISTRAL_7B, 32000), CLIP, **POOLED),
        *(ORIGINAL, rows(MISTRAL_7B, 32000), "clip-336", 7.566),
    ),
    "LLaVA-NeXT-Video-34B-DPO": (
        original("llava_llama", rows(YI_34B, 64000), CLIP, **POOLED),
        *(ORIGINAL, rows(YI_34B, 64000), "clip-336", 34.751),
    ),
    "LLaVA-NeXT-Video-32B-Qwen": (
        original("llava_qwen", QWEN_32B, SIGLIP, **VIDEO_QWEN, mm_pooling_position="after"),
        *(ORIGINAL, QWEN_32B, "siglip", 32.942),
    ),
    "LLaVA-Video-7B-Qwen2": (
        original("llava_qwen", QWEN_7B, SIGLIP, **VIDEO_QWEN),
        *(ORIGINAL, QWEN_7B, "siglip", 8.030),
    ),
    "LLaVA-Video-72B-Qwen2": (
        original("llava_qwen", QWEN_72B, SIGLIP, **VIDEO_QWEN),
        *(ORIGINAL, QWEN_72B, "siglip", 73.181),
    ),
    "a converted LLaVA-Video-7B-Qwen2": (
        {"model_type": "llava_next_video2", "text_config": text_keys(rows(QWEN_7B, 152128), model_type="qwen2")},
        *("transformers 5, in memory", rows(QWEN_7B, 152128), "siglip", 8.031),
    ),
    "Video-LLaVA-7B": (
        text_keys(rows(VICUNA_7B, 32000), model_type="llava") | TWO,
        *(ORIGINAL, rows(VICUNA_7B, 32000), "clip-224", 7.467),
    ),
}


def assert_every_name_finds_its_place(name: str, layout: str) -> None:
    values, _, dims, kind, billions = PUBLISHED[name]
    shapes = published(layout, dims, kind, time=name == "Video-LLaVA-7B", is_qwen="Qwen" in name)
    files = WeightFiles.over(Path(name), _Listed(shapes | strays(shapes)))
    model_class = model_class_for(from_original(values), name)
    with without_values():
        model = model_class(model_class.family.config_class.from_dict(values).fitted_to(files))
    found, sources = match_weights(model, files, model_class.family.layouts)
    assert found.name == layout
    assert set(sources.values()) == set(shapes)
    assert model.num_parameters() == sum(math.prod(shape) for shape in shapes.values())
    assert round(model.num_parameters() / 1e9, 3) == billions


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_checkpoint_as_it_is_published(name: str) -> None:
    assert_every_name_finds_its_place(name, PUBLISHED[name][1])


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["LLaVA-NeXT-Video-7B-hf", "Video-LLaVA-7B-hf", "LLaVA-Video-7B-Qwen2"])
def test_every_layout(name: str, layout: str) -> None:
    assert_every_name_finds_its_place(name, layout)
