"""LLaVA-NeXT: the picture models that LLaVA-NeXT-Video was made from; videos are answered without training for them."""

from __future__ import annotations

from typing import ClassVar

from videolm.families.anyres_config import AnyresConfig
from videolm.families.base import Family, FamilyModel
from videolm.families.declaration import Port
from videolm.families.json_config import Key, optional, whole
from videolm.families.layouts import LLAVA_SAVE_LAYOUTS, LLAVA_TOWER_LAYOUTS
from videolm.families.prompts import CHATML_TEMPLATE, LLAMA_3_TEMPLATE, MISTRAL_TEMPLATE, VICUNA_TEMPLATE
from videolm.media.sampling import FrameSampling

__all__ = ["FAMILY", "LlavaNextConfig", "LlavaNextForConditionalGeneration"]


class LlavaNextConfig(AnyresConfig):
    """The keys of a LLaVA-NeXT ``config.json``, and those that say how frames are pooled."""

    model_type = "llava_next"
    keys: ClassVar[dict[str, Key]] = AnyresConfig.shared_keys | {
        "image_token_index": whole(32000, minimum=-(2**31)),
        # These checkpoints have no word for a video; null takes the first id that none of their words has.
        "video_token_index": optional(whole(0, minimum=-(2**31))),
    }


FAMILY = Family(
    model_type="llava_next",
    config_class=LlavaNextConfig,
    architecture="LlavaNextForConditionalGeneration",
    processor_class="LlavaNextProcessor",
    layouts=LLAVA_TOWER_LAYOUTS,
    save_layouts=LLAVA_SAVE_LAYOUTS,
    port=Port(
        takes={"round_unpad": (True,), "vision_aspect_ratio": ("anyres",), "rope_policy": ("fixed",)},
        placeholders=("image_token_index",),
    ),
    # Most of these checkpoints know 4096 positions. The authors took 32 frames, which takes stretched positions.
    sampling=FrameSampling(rule="linspace", num_frames=16),
    image_token="<image>",
    video_token="<video>",
    chat_templates={
        "llama_3": LLAMA_3_TEMPLATE,
        "chatml": CHATML_TEMPLATE,
        "mistral": MISTRAL_TEMPLATE,
        "llama": VICUNA_TEMPLATE,
    },
)


class LlavaNextForConditionalGeneration(FamilyModel):
    """LLaVA-NeXT, with the signatures that its documentation describes."""

    family = FAMILY
