"""LLaVA-NeXT-Video: a CLIP tower, pooled frames, AnyRes pictures, a Llama or Mistral decoder."""

from __future__ import annotations

from typing import Any, ClassVar

from videolm.errors import ArgumentError
from videolm.families.base import Family, FamilyConfig, FamilyModel
from videolm.families.json_config import Key, anything, flag, whole, word
from videolm.families.layouts import LLAVA_SAVE_LAYOUTS, LLAVA_TOWER_LAYOUTS
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, part_config
from videolm.families.part_settings import decoder_settings, vision_settings
from videolm.families.prompts import CHATML_TEMPLATE, MISTRAL_TEMPLATE, VICUNA_TEMPLATE
from videolm.media.sampling import FrameSampling
from videolm.models.config import FusionConfig, VideoLMConfig
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

__all__ = ["FAMILY", "LlavaNextVideoConfig", "LlavaNextVideoForConditionalGeneration"]

_VISION_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}


def _is_layer_choice(value: Any) -> bool:
    layers = value if isinstance(value, list) else [value]
    return bool(layers) and all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers)


def _is_pinpoint_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(side, int) and side > 0 for side in pair)
        for pair in value
    )


class LlavaNextVideoConfig(FamilyConfig):
    """The keys of a LLaVA-NeXT-Video ``config.json``; the defaults resemble the 7B checkpoint."""

    model_type = "llava_next_video"
    tie_word_embeddings: Any

    keys: ClassVar[dict[str, Key]] = {
        "ignore_index": whole(-100, minimum=-(2**31)),
        "image_token_index": whole(32001, minimum=-(2**31)),
        "video_token_index": whole(32000, minimum=-(2**31)),
        "projector_hidden_act": word("gelu", ("gelu", "gelu_pytorch_tanh", "quick_gelu", "silu")),
        "vision_feature_select_strategy": word("default", ("default", "full")),
        "vision_feature_layer": Key(
            default=-2, accepts=_is_layer_choice, expected="a layer such as -2, or a list of layers"
        ),
        "multimodal_projector_bias": flag(True),
        "tie_word_embeddings": flag(False),
        "image_grid_pinpoints": Key(
            default=[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            accepts=_is_pinpoint_list,
            expected="a list of [height, width] pairs in pixels",
        ),
        "spatial_pool_mode": word("average", ("average", "max", "conv")),
        "spatial_pool_stride": whole(2),
        "image_seq_length": anything(576),
        "video_seq_length": anything(288),
    }
    aliases: ClassVar[dict[str, str]] = FamilyConfig.aliases | {
        "image_token_id": "image_token_index",
        "video_token_id": "video_token_index",
    }

    def __init__(self, vision_config: Any = None, text_config: Any = None, **values: Any) -> None:
        if values.get("image_grid_pinpoints", ()) is None:
            del values["image_grid_pinpoints"]
        super().__init__(
            vision_config=part_config("vision_config", vision_config, CLIPVisionConfig, _VISION_DEFAULTS),
            text_config=part_config("text_config", text_config, LlamaConfig, {}),
            **values,
        )
        # Old files keep the tie in the text part.
        self.tie_word_embeddings = self.tie_word_embeddings or self.text_config.tie_word_embeddings
        if self.image_token_index == self.video_token_index:
            raise self.wrong("video_token_index", self.video_token_index, "another id than image_token_index")

    def settings(self) -> VideoLMConfig:
        """What the model is built from."""
        layers = self.vision_feature_layer
        channels, width = getattr(self, "spatial_pool_out_channels", None), self.vision_config.hidden_size
        if self.spatial_pool_mode == "conv" and channels not in (None, width):
            raise self.wrong("spatial_pool_out_channels", channels, f"{width}, what the projector takes")
        return VideoLMConfig(
            vision=vision_settings(self.vision_config),
            decoder=decoder_settings(self.text_config),
            fusion=FusionConfig(
                feature_layers=tuple(layers) if isinstance(layers, list) else (layers,),
                pool_position="before_projector",
                projector_hidden_act=self.projector_hidden_act,
                projector_bias=self.multimodal_projector_bias,
                image_newline=True,
            ),
            tokens=self.visual_tokens(),
            tie_word_embeddings=self.tie_word_embeddings,
        )

    def visual_tokens(self) -> VisualTokens:
        """How many tokens a picture and a video become: the only place that this family's processor and model ask."""
        if self.vision_feature_select_strategy == "full":
            raise self.wrong(
                "vision_feature_select_strategy", "full", "default: frames are pooled, and the class token has no place"
            )
        grid = self.vision_config.image_size // self.vision_config.patch_size
        image = ImageTokens(
            grid=grid,
            tile_size=self.vision_config.image_size,
            pinpoints=tuple((high, wide) for high, wide in self.image_grid_pinpoints),
        )
        try:
            video = VideoTokens(grid=grid, pool=self.spatial_pool_mode, stride=self.spatial_pool_stride)
        except ArgumentError as error:
            raise self.wrong("spatial_pool_stride", self.spatial_pool_stride, f"at least 1 ({error})") from error
        if video.per_frame < 1:
            raise self.wrong("spatial_pool_stride", self.spatial_pool_stride, f"at most {grid}, the patches a side")
        return VisualTokens(image=image, video=video)


FAMILY = Family(
    model_type="llava_next_video",
    config_class=LlavaNextVideoConfig,
    architecture="LlavaNextVideoForConditionalGeneration",
    processor_class="LlavaNextVideoProcessor",
    layouts=LLAVA_TOWER_LAYOUTS,
    save_layouts=LLAVA_SAVE_LAYOUTS,
    # The checkpoints were trained on 32 frames; the original code takes them from the first to the last.
    sampling=FrameSampling(rule="linspace", num_frames=32),
    image_token="<image>",
    video_token="<video>",
    chat_templates={"chatml": CHATML_TEMPLATE, "mistral": MISTRAL_TEMPLATE, "llama": VICUNA_TEMPLATE},
)


class LlavaNextVideoForConditionalGeneration(FamilyModel):
    """LLaVA-NeXT-Video, with the signatures that its documentation describes."""

    family = FAMILY
