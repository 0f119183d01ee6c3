"""LLaVA-Video, or LLaVA-NeXT-Video-Qwen2: a SigLIP tower, frames pooled after the projector, a Qwen2 decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from videolm.families.anyres_config import AnyresConfig, aspect_ratio, feature_layer, pinpoints
from videolm.families.base import Family, FamilyModel
from videolm.families.json_config import JsonConfig, Key, anything, flag, whole, word
from videolm.families.layouts import LLAVA_SAVE_LAYOUTS, LLAVA_TOWER_LAYOUTS
from videolm.families.part_configs import Qwen2Config, SiglipVisionConfig
from videolm.families.prompts import MISTRAL_TEMPLATE, QWEN_TEMPLATE, VICUNA_TEMPLATE
from videolm.media.sampling import FrameSampling

__all__ = ["FAMILY", "LlavaNextVideo2Config", "LlavaNextVideo2ForConditionalGeneration"]


class LlavaNextVideo2Config(AnyresConfig):
    """The keys of a LLaVA-Video ``config.json``; the defaults resemble the 7B checkpoint."""

    model_type = "llava_next_video2"
    vision_class: ClassVar[type[JsonConfig]] = SiglipVisionConfig
    vision_defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    }
    text_class: ClassVar[type[JsonConfig]] = Qwen2Config
    text_defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "rope_theta": 1e6,
    }
    keys: ClassVar[dict[str, Key]] = AnyresConfig.shared_keys | {
        "image_token_index": whole(151646, minimum=-(2**31)),
        "video_token_index": whole(151647, minimum=-(2**31)),
        "vision_feature_select_strategy": word("full", ("default", "full")),
        "vision_feature_layer": feature_layer(-1),
        "image_grid_pinpoints": pinpoints([[384 * one, 384 * other] for one in range(1, 7) for other in range(1, 7)]),
        "pinpoint_order": word("width_height", ("height_width", "width_height")),
        "round_unpad": flag(False),
        "vision_aspect_ratio": aspect_ratio("anyres_max_9"),
        # The draft of a port pooled before the projector; no checkpoint was trained so.
        "pooling_position": word("after", ("before", "after")),
        "newline_position": word("grid", ("grid", "frame", "one_token", "no_token")),
        "add_faster_video": flag(False),
        "faster_token_stride": whole(10),
        "add_time_instruction": flag(False),
        "image_seq_length": anything(729),
        "video_seq_length": anything(182),
    }

    @property
    def slow_every(self) -> int | None:
        """Of how many frames one is slow; None where all are pooled alike, as in the published checkpoints."""
        return self.faster_token_stride if self.add_faster_video else None


FAMILY = Family(
    model_type="llava_next_video2",
    config_class=LlavaNextVideo2Config,
    architecture="LlavaNextVideo2ForConditionalGeneration",
    processor_class="LlavaNextVideo2Processor",
    layouts=LLAVA_TOWER_LAYOUTS,
    save_layouts=LLAVA_SAVE_LAYOUTS,
    # The published checkpoints spread their frames evenly however long a video is (force_sample).
    sampling=FrameSampling(rule="linspace", num_frames=64),
    image_token="<image>",
    video_token="<video>",
    chat_templates={"qwen2": QWEN_TEMPLATE, "mistral": MISTRAL_TEMPLATE, "llama": VICUNA_TEMPLATE},
)


class LlavaNextVideo2ForConditionalGeneration(FamilyModel):
    """LLaVA-Video, with the signatures that its documentation describes."""

    family = FAMILY
