"""The vision towers that files of the original code name, and how each of them sees pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from videolm.families.json_config import JsonConfig
from videolm.families.part_configs import CLIPVisionConfig, SiglipVisionConfig

__all__ = ["TOWERS", "Tower", "nearest_tower"]


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A tower that original files name, and how its pixels are made."""

    owner: str
    """Of the repository that has this name."""
    config: Mapping[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_squashed: bool
    """Frames are made square without regard to their shape, in place of being cropped."""


_CLIP_LARGE = {
    "model_type": CLIPVisionConfig.model_type,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
    "patch_size": 14,
}
_SIGLIP_SO400M = {
    "model_type": SiglipVisionConfig.model_type,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    # Of 27: the original code deletes the last one.
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 384,
    "vision_use_head": False,
}
_CLIP_PIXELS = {
    "owner": "openai",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "is_squashed": False,
}
_SIGLIP_PIXELS = {"owner": "google", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "is_squashed": True}
TOWERS: dict[str, Tower] = {
    "clip-vit-large-patch14-336": Tower(config=_CLIP_LARGE | {"image_size": 336}, **_CLIP_PIXELS),  # type: ignore[arg-type]
    "clip-vit-large-patch14": Tower(config=_CLIP_LARGE | {"image_size": 224}, **_CLIP_PIXELS),  # type: ignore[arg-type]
    "siglip-so400m-patch14-384": Tower(config=_SIGLIP_SO400M, **_SIGLIP_PIXELS),  # type: ignore[arg-type]
}
"""By the last part of the name: files hold hub names and paths of other machines."""


def nearest_tower(vision: JsonConfig) -> tuple[str, dict[str, Any]]:
    """The name of the tower that this one is most like, and the keys in which it differs from it."""
    differences = {}
    for name, tower in TOWERS.items():
        if tower.config["model_type"] == vision.model_type:
            named = type(vision).from_dict(tower.config)
            own = {key: getattr(vision, key) for key in vision.keys if getattr(vision, key) != getattr(named, key)}
            differences[name] = own
    nearest = min(differences, key=lambda name: len(differences[name]))
    return nearest, differences[nearest]
