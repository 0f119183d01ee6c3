"""A configuration of this library in, the ``config.json`` that the original code reads out."""

from __future__ import annotations

from typing import Any

from videolm.families.declaration import FamilyConfig
from videolm.families.original_configs import DECODERS
from videolm.families.original_towers import TOWERS, nearest_tower
from videolm.families.part_configs import SiglipVisionConfig

__all__ = ["to_original"]

_MODEL_TYPES = {part.model_type: name for name, part in DECODERS.items() if name != "llava"}
_ARCHITECTURES = {"llama": "LlavaLlama", "mistral": "LlavaMistral", "qwen2": "LlavaQwen"}


def to_original(config: FamilyConfig) -> dict[str, Any]:
    """The keys for a model; what the original code has no key for is left out."""
    settings: Any = config
    text = settings.text_config
    has_two_towers = config.model_type == "video_llava"
    values = {
        "model_type": "llava" if has_two_towers else _MODEL_TYPES[text.model_type],
        "architectures": [f"{_ARCHITECTURES[text.model_type]}ForCausalLM"],
        "torch_dtype": config.to_dict()["dtype"],
        **_decoder(text),
        "tie_word_embeddings": settings.tie_word_embeddings,
        "image_token_index": settings.image_token_index,
        "video_token_index": settings.video_token_index,
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": settings.vision_config.hidden_size,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        **_feature_choice(settings),
    }
    return values | (_two_towers(settings) if has_two_towers else _one_tower(settings))


def _decoder(text: Any) -> dict[str, Any]:
    values = {key: getattr(text, key) for key in text.keys if key != "tie_word_embeddings"}
    rope = text.rope_parameters
    is_stretched = rope["rope_type"] != "default"
    scaling = {"type": rope["rope_type"], "factor": rope.get("factor")} if is_stretched else None
    return {**values, "rope_theta": rope["rope_theta"], "rope_scaling": scaling}


def _feature_choice(settings: Any) -> dict[str, Any]:
    keeps_class_token = settings.vision_feature_select_strategy == "full"
    if isinstance(settings.vision_config, SiglipVisionConfig):
        # The original code counts in the whole tower, of which it runs all layers but the last.
        return {"mm_vision_select_layer": settings.vision_feature_layer - 1, "mm_vision_select_feature": "patch"}
    feature = "cls_patch" if keeps_class_token else "patch"
    return {"mm_vision_select_layer": settings.vision_feature_layer, "mm_vision_select_feature": feature}


def _two_towers(settings: Any) -> dict[str, Any]:
    vision = settings.vision_config
    described = {key: getattr(vision, key) for key in vision.keys}
    time = {"add_time_attn": settings.temporal_frames is not None}
    if settings.temporal_frames is not None:
        time["num_frames"] = settings.temporal_frames
    return {
        "mm_image_tower": "LanguageBind/LanguageBind_Image",
        "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
        "vision_config": {"model_type": vision.model_type, **described, **time},
    }


def _one_tower(settings: Any) -> dict[str, Any]:
    name, own = nearest_tower(settings.vision_config)
    step = 1 if settings.pinpoint_order == "width_height" else -1
    values = {
        "mm_vision_tower": f"{TOWERS[name].owner}/{name}",
        "mm_patch_merge_type": "spatial_unpad",
        "image_aspect_ratio": settings.vision_aspect_ratio,
        "image_grid_pinpoints": [list(pair)[::step] for pair in settings.image_grid_pinpoints],
        **(_pooling(settings) if settings.model_type != "llava_next" else {}),
    }
    return values | ({"vision_config": {"model_type": settings.vision_config.model_type, **own}} if own else {})


def _pooling(settings: Any) -> dict[str, Any]:
    values = {
        "mm_resampler_type": "spatial_pool",
        "mm_spatial_pool_mode": settings.spatial_pool_mode,
        "mm_spatial_pool_stride": settings.spatial_pool_stride,
        "mm_pooling_position": settings.pooling_position,
    }
    if settings.spatial_pool_mode == "conv":
        values["mm_spatial_pool_out_channels"] = getattr(settings, "spatial_pool_out_channels", None)
    if settings.model_type != "llava_next_video2":
        return values
    names = ("add_faster_video", "faster_token_stride", "add_time_instruction")
    return values | {"mm_newline_position": settings.newline_position} | {n: getattr(settings, n) for n in names}
