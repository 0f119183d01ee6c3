"""Video-LLaVA: a CLIP tower for pictures and one for videos, one projector, neither pooling nor tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from videolm.families.anyres_config import feature_layer
from videolm.families.base import Family, FamilyConfig, FamilyModel
from videolm.families.declaration import Port
from videolm.families.json_config import JsonConfig, Key, anything, flag, whole, word
from videolm.families.layouts import TWO_TOWER_LAYOUTS, TWO_TOWER_SAVE_LAYOUTS
from videolm.families.original_configs import from_original, is_original
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, part_config
from videolm.families.part_settings import decoder_settings, vision_settings
from videolm.families.prompts import VICUNA_HUMAN_TEMPLATE
from videolm.media.sampling import FrameSampling
from videolm.models.config import FusionConfig, VideoLMConfig
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens
from videolm.weights.files import WeightFiles

__all__ = [
    "FAMILY",
    "VideoLlavaCausalLMOutputWithPast",
    "VideoLlavaConfig",
    "VideoLlavaForConditionalGeneration",
    "VideoLlavaModel",
    "VideoLlavaModelOutputWithPast",
]

NUM_FRAMES = 8
"""All videos that the checkpoints were trained on."""

_VISION_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}


class VideoLlavaConfig(FamilyConfig):
    """The keys of a Video-LLaVA ``config.json``; the defaults resemble the 7B checkpoint.

    ``add_time_attn`` and ``num_frames`` in ``vision_config`` say whether the tower of videos lets frames attend to each
    other, as in the original model, or encodes each by itself, as in its port. A file that does not say it leaves it to
    the weights: frames attend to each other if they hold what that needs. With it the activation is ``gelu`` and in the
    port ``quick_gelu``, unless the file names one.
    """

    model_type = "video_llava"
    tie_word_embeddings: Any
    keys: ClassVar[dict[str, Key]] = {
        "ignore_index": whole(-100, minimum=-(2**31)),
        "image_token_index": whole(32000, minimum=-(2**31)),
        "video_token_index": whole(32001, minimum=-(2**31)),
        "projector_hidden_act": word("gelu", ("gelu", "gelu_pytorch_tanh", "quick_gelu", "silu")),
        "vision_feature_select_strategy": word("default", ("default", "full")),
        "vision_feature_layer": feature_layer(-2),
        "image_seq_length": anything(256),
        "video_seq_length": anything(2056),
        "multimodal_projector_bias": flag(True),
        "tie_word_embeddings": flag(False),
    }
    aliases: ClassVar[dict[str, str]] = FamilyConfig.aliases | {
        "image_token_id": "image_token_index",
        "video_token_id": "video_token_index",
    }

    def __init__(self, vision_config: Any = None, text_config: Any = None, **values: Any) -> None:
        super().__init__(
            vision_config=part_config("vision_config", vision_config, CLIPVisionConfig, _VISION_DEFAULTS),
            text_config=part_config("text_config", text_config, LlamaConfig, {}),
            **values,
        )
        # Old files keep the tie in the text part.
        self.tie_word_embeddings = self.tie_word_embeddings or self.text_config.tie_word_embeddings
        if self.image_token_index == self.video_token_index:
            raise self.wrong("video_token_index", self.video_token_index, "another id than image_token_index")
        self._check_time(self.vision_config)
        self._time_is_assumed = False
        self._names_activation = "hidden_act" in vision_config if isinstance(vision_config, Mapping) else False
        if self.temporal_frames is not None and not self._names_activation and isinstance(vision_config, Mapping):
            self.vision_config.hidden_act = "gelu"

    def to_dict(self) -> dict[str, Any]:
        """Everything that belongs into the file."""
        return {name: value for name, value in super().to_dict().items() if not name.startswith("_")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a file holds, in the form of this library or of the original code."""
        config = super().from_dict(from_original(values))
        if is_original(values):
            own = values.get("vision_config") or {}
            config._time_is_assumed = own.get("add_time_attn") is None
            config._names_activation = own.get("hidden_act") is not None
        return config

    def fitted_to(self, files: WeightFiles) -> Self:
        """With attention over time, or without, where the file leaves that to the weights."""
        tables = [name for name in files if name.endswith(".temporal_embedding")]
        said = None if self._time_is_assumed else getattr(self.vision_config, "add_time_attn", None)
        if said is not None or bool(tables) == (self.temporal_frames is not None):
            return self
        time = {"add_time_attn": True, "num_frames": files.shape(tables[0])[1]} if tables else {"add_time_attn": False}
        values = self.to_dict()
        values["vision_config"] |= time
        if not self._names_activation:
            del values["vision_config"]["hidden_act"]
        return type(self).from_dict(values)

    @property
    def temporal_frames(self) -> int | None:
        """How many frames of a video attend to each other; None in the port, which encodes each by itself."""
        if not getattr(self.vision_config, "add_time_attn", None):
            return None
        return int(getattr(self.vision_config, "num_frames", NUM_FRAMES))

    def settings(self) -> VideoLMConfig:
        """What the model is built from."""
        layers = self.vision_feature_layer
        tower = vision_settings(self.vision_config)
        return VideoLMConfig(
            vision=tower,
            video_vision=replace(tower, temporal_frames=self.temporal_frames),
            decoder=decoder_settings(self.text_config),
            fusion=FusionConfig(
                feature_layers=tuple(layers) if isinstance(layers, list) else (layers,),
                projector_hidden_act=self.projector_hidden_act,
                projector_bias=self.multimodal_projector_bias,
                image_newline=False,
            ),
            tokens=self.visual_tokens(),
            tie_word_embeddings=self.tie_word_embeddings,
        )

    def visual_tokens(self) -> VisualTokens:
        """How many tokens a picture and a video become; the strategy concerns pictures alone, as in the reference."""
        grid = self.vision_config.image_size // self.vision_config.patch_size
        image = ImageTokens(
            grid=grid,
            tile_size=self.vision_config.image_size,
            keep_class_token=self.vision_feature_select_strategy == "full",
            newline=False,
        )
        video = VideoTokens(grid=grid, keep_class_token=True, pool=None, usual_frames=NUM_FRAMES)
        return VisualTokens(image=image, video=video)

    def _check_time(self, vision: JsonConfig) -> None:
        for name, key in (("add_time_attn", flag(False)), ("num_frames", whole(NUM_FRAMES))):
            value = getattr(vision, name, None)
            if value is not None and not key.accepts(value):
                raise vision.wrong(name, value, key.expected)


FAMILY = Family(
    model_type="video_llava",
    config_class=VideoLlavaConfig,
    architecture="VideoLlavaForConditionalGeneration",
    processor_class="VideoLlavaProcessor",
    layouts=TWO_TOWER_LAYOUTS,
    save_layouts=TWO_TOWER_SAVE_LAYOUTS,
    port=Port(takes={"vision_config.add_time_attn": (False,), "rope_policy": ("fixed",)}),
    sampling=FrameSampling(rule="linspace", num_frames=NUM_FRAMES),
    image_token="<image>",
    video_token="<video>",
    features_apart=True,
    chat_templates={"llama": VICUNA_HUMAN_TEMPLATE},
)


class VideoLlavaForConditionalGeneration(FamilyModel):
    """Video-LLaVA, with the signatures that its documentation describes."""

    family = FAMILY


VideoLlavaModel = VideoLlavaForConditionalGeneration.backbone_class
"""The same without the head."""
VideoLlavaCausalLMOutputWithPast = VideoLlavaForConditionalGeneration.output_class
VideoLlavaModelOutputWithPast = VideoLlavaModel.output_class
