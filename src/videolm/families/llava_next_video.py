"""LLaVA-NeXT-Video: a CLIP tower, pooled frames, AnyRes pictures, a Llama or Mistral decoder."""

from __future__ import annotations

from typing import ClassVar

from videolm.families.anyres_config import AnyresConfig
from videolm.families.base import Family, FamilyModel
from videolm.families.declaration import Port
from videolm.families.json_config import Key, anything
from videolm.families.layouts import LLAVA_SAVE_LAYOUTS, LLAVA_TOWER_LAYOUTS
from videolm.families.prompts import CHATML_TEMPLATE, MISTRAL_TEMPLATE, VICUNA_TEMPLATE
from videolm.media.sampling import FrameSampling

__all__ = [
    "FAMILY",
    "LlavaNextVideoCausalLMOutputWithPast",
    "LlavaNextVideoConfig",
    "LlavaNextVideoForConditionalGeneration",
    "LlavaNextVideoModel",
]


class LlavaNextVideoConfig(AnyresConfig):
    """The keys of a LLaVA-NeXT-Video ``config.json``; the defaults resemble the 7B checkpoint."""

    model_type = "llava_next_video"
    keys: ClassVar[dict[str, Key]] = AnyresConfig.shared_keys | {"video_seq_length": anything(288)}


FAMILY = Family(
    model_type="llava_next_video",
    config_class=LlavaNextVideoConfig,
    architecture="LlavaNextVideoForConditionalGeneration",
    processor_class="LlavaNextVideoProcessor",
    layouts=LLAVA_TOWER_LAYOUTS,
    save_layouts=LLAVA_SAVE_LAYOUTS,
    port=Port(
        takes={
            "round_unpad": (True,),
            "vision_aspect_ratio": ("anyres",),
            "spatial_pool_mode": ("average", "max", "conv"),
            "pooling_position": ("before",),
            "newline_position": ("no_token",),
            "rope_policy": ("fixed",),
        }
    ),
    # The checkpoints were trained on 32 frames; the original code takes them from the first to the last.
    sampling=FrameSampling(rule="linspace", num_frames=32),
    image_token="<image>",
    video_token="<video>",
    chat_templates={"chatml": CHATML_TEMPLATE, "mistral": MISTRAL_TEMPLATE, "llama": VICUNA_TEMPLATE},
)


class LlavaNextVideoForConditionalGeneration(FamilyModel):
    """LLaVA-NeXT-Video, with the signatures that its documentation describes."""

    family = FAMILY


LlavaNextVideoModel = LlavaNextVideoForConditionalGeneration.backbone_class
"""The part without the head."""
LlavaNextVideoCausalLMOutputWithPast = LlavaNextVideoForConditionalGeneration.output_class
"""What ``forward`` returns."""
