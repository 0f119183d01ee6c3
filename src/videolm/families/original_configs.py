"""The ``config.json`` of the original code in, the same model in this library's keys out."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from videolm.errors import ConfigError
from videolm.families.json_config import JsonConfig
from videolm.families.original_towers import TOWERS, Tower
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, MistralConfig, Qwen2Config, SiglipVisionConfig

__all__ = ["DECODERS", "from_original", "is_original", "original_preprocessor"]

DECODERS: dict[str, type[JsonConfig]] = {
    "llava_llama": LlamaConfig,
    "llava": LlamaConfig,
    "llava_mistral": MistralConfig,
    "llava_qwen": Qwen2Config,
}
"""Also the ``model_type`` values that mark a file of the original code, if it names a tower too."""

_VIDEO_KEYS = ("mm_resampler_type", "mm_spatial_pool_mode", "mm_spatial_pool_stride")
_NEWLINES = ("grid", "frame", "one_token", "no_token")
_TILES = re.compile(r"\((\d+)x(\d+)\)")


def is_original(values: Mapping[str, Any]) -> bool:
    """Whether these are the keys of the original code: decoder keys at the top, ``mm_`` keys for the rest."""
    names = (values.get("mm_vision_tower"), values.get("mm_video_tower"))
    return values.get("model_type") in DECODERS and any(isinstance(name, str) for name in names)


def from_original(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same model in the keys that configurations here have; what is not of the original code stays as it is."""
    if not is_original(values):
        return dict(values)
    _refuse_unknown_parts(values)
    if isinstance(values.get("mm_video_tower"), str):
        return _with_two_towers(values)
    tower = _tower(values)
    vision = _vision_config(values, tower)
    settings = {
        "vision_config": vision,
        "text_config": _text_config(values),
        "tie_word_embeddings": bool(values.get("tie_word_embeddings", False)),
        "dtype": values.get("torch_dtype", values.get("dtype")),
        "projector_hidden_act": "gelu",
        "image_grid_pinpoints": _pinpoints(values, vision["image_size"]),
        # The original code reads a pair as (width, height), and cuts lengths off without rounding them first.
        "pinpoint_order": "width_height",
        "round_unpad": False,
        "vision_aspect_ratio": _aspect_ratio(values),
        "rope_policy": _rope_policy(values),
        **_feature_choice(values, vision["model_type"]),
        **_pooling(values),
        **_token_ids(values),
    }
    return _family_keys(values) | settings


def _with_two_towers(values: Mapping[str, Any]) -> dict[str, Any]:
    """A model with a tower for pictures and one for videos; ``vision_config`` describes both."""
    own = values.get("vision_config") or {}
    # The tower of videos lets its frames attend to each other, and says that its activation is the exact one.
    time: dict[str, Any] = {"hidden_act": "gelu", "add_time_attn": True, "num_frames": 8}
    vision = time | _vision_config(values, _tower(values))
    return {
        "model_type": "video_llava",
        "vision_config": vision | {key: own[key] for key in time if own.get(key) is not None},
        "text_config": _text_config(values),
        "tie_word_embeddings": bool(values.get("tie_word_embeddings", False)),
        "dtype": values.get("torch_dtype", values.get("dtype")),
        "projector_hidden_act": "gelu",
        **_feature_choice(values, CLIPVisionConfig.model_type),
        **_token_ids(values),
    }


def original_preprocessor(values: Mapping[str, Any], *, of_frames: bool = False) -> dict[str, Any]:
    """The settings for pictures that a folder of the original code implies, as a processor file has them.

    Args:
        of_frames: Those for the frames of videos, which are never padded or tiled.
    """
    tower = _tower(values)
    side = _vision_config(values, tower)["image_size"]
    square = {"height": side, "width": side}
    settings = {
        "size": square if tower.is_squashed else {"shortest_edge": side},
        "do_center_crop": not tower.is_squashed,
        "crop_size": square,
        "resample": 3,
        "image_mean": list(tower.mean),
        "image_std": list(tower.std),
    }
    return settings | (_sampling(values) if of_frames else _picture_shape(values, side, tower))


def _sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """How many frames are taken: evenly, or at most so many of those a second apart."""
    most_frames = values.get("frames_upbound") or 0
    settings: dict[str, Any] = {"num_frames": most_frames} if most_frames > 0 else {}
    return settings if values.get("force_sample", True) else settings | {"fps": 1.0}


def _picture_shape(values: Mapping[str, Any], side: int, tower: Tower) -> dict[str, Any]:
    """How pictures that are no squares are treated."""
    if values.get("image_aspect_ratio") == "pad":
        color = [int(channel * 255) for channel in tower.mean]
        return {"pad_to_square": True, "pad_color": color, "image_grid_pinpoints": []}
    if isinstance(values.get("mm_video_tower"), str) or _aspect_ratio(values) == "square":
        return {"image_grid_pinpoints": []}
    # Processor files have (height, width).
    return {"image_grid_pinpoints": [[high, wide] for wide, high in _pinpoints(values, side)]}


def _aspect_ratio(values: Mapping[str, Any]) -> str:
    """A file that says nothing has tiles if it says which."""
    named = values.get("image_aspect_ratio")
    if named is None:
        return "anyres" if values.get("image_grid_pinpoints") else "square"
    if named not in ("pad", "square") and not str(named).startswith("anyres"):
        raise _wrong("image_aspect_ratio", named, "anyres, anyres_max_9 and the like, pad, or square")
    return str(named)


def _family_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """The family, and what only that family knows."""
    if values["model_type"] == "llava_qwen" or values.get("mm_newline_position", "no_token") != "no_token":
        return {
            "model_type": "llava_next_video2",
            "newline_position": _newlines(values),
            "add_faster_video": bool(values.get("add_faster_video", False)),
            "faster_token_stride": values.get("faster_token_stride") or 10,
            "add_time_instruction": bool(values.get("add_time_instruction", False)),
        }
    is_video = any(values.get(key) is not None for key in _VIDEO_KEYS)
    return {"model_type": "llava_next_video" if is_video else "llava_next"}


def _refuse_unknown_parts(values: Mapping[str, Any]) -> None:
    known = {
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_resampler_type": (None, "spatial_pool"),
        "mm_use_im_start_end": (False, None),
        "s2": (False, None),
    }
    if isinstance(values.get("mm_video_tower"), str):
        known["image_aspect_ratio"] = (None, "square", "pad")
    else:
        known["mm_patch_merge_type"] = ("spatial_unpad",)
    for key, allowed in known.items():
        if values.get(key) not in allowed:
            raise _wrong(key, values.get(key), " or ".join(repr(choice) for choice in allowed))


def _tower(values: Mapping[str, Any]) -> Tower:
    if isinstance(values.get("mm_video_tower"), str):
        return TOWERS["clip-vit-large-patch14"]  # Both towers have its shape.
    name = PurePosixPath(values["mm_vision_tower"]).name
    if name in TOWERS:
        return TOWERS[name]
    described = values.get("vision_config") or {}
    for tower in TOWERS.values():
        if described.get("model_type") == tower.config["model_type"]:
            return tower
    raise _wrong(
        "mm_vision_tower",
        values["mm_vision_tower"],
        f"{', '.join(TOWERS)}, or any tower with a vision_config that says what it is",
    )


def _vision_config(values: Mapping[str, Any], tower: Tower) -> dict[str, Any]:
    """The named tower; a ``vision_config`` in the file overrides it, and counts the layers that are kept."""
    own = values.get("vision_config") or {}
    model_type = own.get("model_type", tower.config["model_type"])
    part = SiglipVisionConfig if model_type == SiglipVisionConfig.model_type else CLIPVisionConfig
    return {**tower.config, **{key: own[key] for key in part.keys if key in own}, "model_type": model_type}


def _text_config(values: Mapping[str, Any]) -> dict[str, Any]:
    part = DECODERS[values["model_type"]]
    kept = {key: values[key] for key in (*part.keys, "rope_theta", "rope_scaling") if key in values}
    if part is Qwen2Config:
        kept.pop("rope_scaling", None)  # The class of the original code sets it to nothing, whatever the file says.
    return {"model_type": part.model_type, **kept}


def _rope_policy(values: Mapping[str, Any]) -> str:
    """The original inference stretches positions as far as a video needs it, but never those of Qwen2."""
    is_settled = values["model_type"] == "llava_qwen" or values.get("rope_scaling") is not None
    return "fixed" if is_settled else "auto"


def _feature_choice(values: Mapping[str, Any], vision_type: str) -> dict[str, Any]:
    """This SigLIP tower always gives its last state; with CLIP the file chooses."""
    if vision_type == SiglipVisionConfig.model_type:
        return {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    selected = values.get("mm_vision_select_feature", "patch")
    strategies = {"patch": "default", "cls_patch": "full"}
    if selected not in strategies:
        raise _wrong("mm_vision_select_feature", selected, " or ".join(strategies))
    layer = values.get("mm_vision_select_layer", -2)
    if not isinstance(layer, int):
        raise _wrong("mm_vision_select_layer", layer, "a whole number such as -2")
    return {
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": strategies[selected],
    }


def _pooling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Frames are pooled after the projector by the newer code, before it by the older, where a file may say so."""
    default = "after" if _family_keys(values)["model_type"] == "llava_next_video2" else "before"
    settings = {
        "spatial_pool_mode": values.get("mm_spatial_pool_mode") or "average",
        "spatial_pool_stride": values.get("mm_spatial_pool_stride") or 2,
        "pooling_position": values.get("mm_pooling_position") or default,
    }
    if values.get("mm_spatial_pool_out_channels") is not None and settings["spatial_pool_mode"] == "conv":
        settings["spatial_pool_out_channels"] = values["mm_spatial_pool_out_channels"]
    return settings


def _newlines(values: Mapping[str, Any]) -> str:
    position = values.get("mm_newline_position") or "one_token"
    if position not in _NEWLINES:
        raise _wrong("mm_newline_position", position, ", ".join(_NEWLINES))
    return str(position)


def _token_ids(values: Mapping[str, Any]) -> dict[str, int]:
    """Ids for placeholders, which the original code has none of: the file's, else the first that no text has."""
    first = 151646 if values["model_type"] == "llava_qwen" else int(values.get("vocab_size", 32000))
    image = values.get("image_token_index")
    image = first if image is None else int(image)
    video = values.get("video_token_index")
    return {"image_token_index": image, "video_token_index": image + 1 if video is None else int(video)}


def _pinpoints(values: Mapping[str, Any], side: int) -> list[list[int]]:
    """A list, its text in Python's spelling, or a range of tile counts such as ``(1x1),...,(6x6)``."""
    found = values.get("image_grid_pinpoints")
    if not found and not _aspect_ratio(values).startswith("anyres"):
        return []
    if isinstance(found, str) and (counts := _TILES.findall(found)):
        rows, columns = (range(int(first), int(last) + 1) for first, last in zip(counts[0], counts[-1], strict=True))
        return [[row * side, column * side] for row in rows for column in columns]
    if isinstance(found, str):
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError):
            found = None
    try:
        pairs = [[int(one), int(other)] for one, other in found or ()]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        expected = "a list of [width, height] pairs, or a range such as '(1x1),...,(6x6)'"
        raise _wrong("image_grid_pinpoints", values.get("image_grid_pinpoints"), expected)
    return pairs


def _wrong(key: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(
        f"{key} is {value!r} in this config.json of the original code: expected {expected}. "
        "Other variants cannot be run; check that the file belongs to a supported model."
    )
