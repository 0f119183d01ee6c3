"""The configuration of models with one tower, AnyRes pictures and pooled frames, and what is built from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from videolm.errors import ArgumentError
from videolm.families.base import FamilyConfig
from videolm.families.json_config import JsonConfig, Key, anything, flag, whole, word
from videolm.families.original_configs import from_original
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, SiglipVisionConfig, part_config
from videolm.families.part_settings import decoder_settings, vision_settings
from videolm.models.config import FusionConfig, VideoLMConfig
from videolm.visual_tokens import ImageTokens, NewlineMode, VideoTokens, VisualTokens
from videolm.weights.files import WeightFiles

__all__ = ["AnyresConfig"]

_NEWLINES: dict[str, NewlineMode] = {
    "grid": "grid",
    "frame": "frame",
    "one_token": "one_token",
    "no_token": "none",
}
_ASPECT_RATIO = re.compile(r"anyres(?:_max_([1-9]\d*))?|pad|square")


def _is_layer_choice(value: Any) -> bool:
    layers = value if isinstance(value, list) else [value]
    return bool(layers) and all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers)


def _is_pinpoint_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(side, int) and side > 0 for side in pair)
        for pair in value
    )


def pinpoints(default: list[list[int]]) -> Key:
    """Resolutions that a picture's tiles may make up."""
    return Key(default=default, accepts=_is_pinpoint_list, expected="a list of [height, width] pairs in pixels")


def feature_layer(default: int) -> Key:
    """One hidden state of the tower, or several."""
    return Key(default=default, accepts=_is_layer_choice, expected="a layer such as -2, or a list of layers")


def aspect_ratio(default: str) -> Key:
    """Whether pictures have tiles, and whether the tokens of a large one are shrunk."""
    return Key(
        default=default,
        accepts=lambda value: isinstance(value, str) and _ASPECT_RATIO.fullmatch(value) is not None,
        expected="anyres, anyres_max_9 and the like, pad, or square",
    )


class AnyresConfig(FamilyConfig):
    """Keys of all these families; where ports and the original code differ, a key has both values."""

    tie_word_embeddings: Any
    image_token_index: Any
    video_token_index: Any
    vision_class: ClassVar[type[JsonConfig]] = CLIPVisionConfig
    vision_defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    }
    text_class: ClassVar[type[JsonConfig]] = LlamaConfig
    text_defaults: ClassVar[Mapping[str, Any]] = {}
    shared_keys: ClassVar[dict[str, Key]] = {
        "ignore_index": whole(-100, minimum=-(2**31)),
        "image_token_index": whole(32001, minimum=-(2**31)),
        "video_token_index": whole(32000, minimum=-(2**31)),
        "projector_hidden_act": word("gelu", ("gelu", "gelu_pytorch_tanh", "quick_gelu", "silu")),
        "vision_feature_select_strategy": word("default", ("default", "full")),
        "vision_feature_layer": feature_layer(-2),
        "multimodal_projector_bias": flag(True),
        "tie_word_embeddings": flag(False),
        "image_grid_pinpoints": pinpoints([[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]),
        "pinpoint_order": word("height_width", ("height_width", "width_height")),
        "round_unpad": flag(True),
        "vision_aspect_ratio": aspect_ratio("anyres"),
        "spatial_pool_mode": word("average", ("average", "max", "conv", "bilinear")),
        "spatial_pool_stride": whole(2),
        "pooling_position": word("before", ("before", "after")),
        "newline_position": word("no_token", tuple(_NEWLINES)),
        "image_seq_length": anything(576),
    }
    aliases: ClassVar[dict[str, str]] = FamilyConfig.aliases | {
        "image_token_id": "image_token_index",
        "video_token_id": "video_token_index",
    }

    def __init__(self, vision_config: Any = None, text_config: Any = None, **values: Any) -> None:
        if values.get("image_grid_pinpoints", ()) is None:
            del values["image_grid_pinpoints"]
        super().__init__(
            vision_config=part_config("vision_config", vision_config, self.vision_class, self.vision_defaults),
            text_config=part_config("text_config", text_config, self.text_class, self.text_defaults),
            **values,
        )
        # Old files keep the tie in the text part.
        self.tie_word_embeddings = self.tie_word_embeddings or self.text_config.tie_word_embeddings
        if self.video_token_index is None:
            # An id that no text has: beyond the table, since placeholders are never looked up.
            self.video_token_index = max(self.text_config.vocab_size, self.image_token_index + 1)
        if self.image_token_index == self.video_token_index:
            raise self.wrong("video_token_index", self.video_token_index, "another id than image_token_index")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a file holds, in the form of this library or of the original code."""
        return super().from_dict(from_original(values))

    def fitted_to(self, files: WeightFiles) -> Self:
        """The same for a checkpoint that left out the tower's last norm, which no feature comes from."""
        if not isinstance(self.vision_config, SiglipVisionConfig) or any(".post_layernorm." in name for name in files):
            return self
        values = self.to_dict()
        values["vision_config"] |= {"vision_use_post_norm": False}
        return type(self).from_dict(values)

    @property
    def slow_every(self) -> int | None:
        """Of how many frames one is slow, in models that pool slow and fast frames differently."""
        return None

    def settings(self) -> VideoLMConfig:
        """What the model is built from."""
        layers = self.vision_feature_layer
        pools_first = self.pooling_position == "before"
        channels = getattr(self, "spatial_pool_out_channels", None)
        width = (self.vision_config if pools_first else self.text_config).hidden_size
        if self.spatial_pool_mode == "conv" and channels not in (None, width):
            raise self.wrong("spatial_pool_out_channels", channels, f"{width}, the width of what is pooled")
        return VideoLMConfig(
            vision=vision_settings(self.vision_config),
            decoder=decoder_settings(self.text_config),
            fusion=FusionConfig(
                feature_layers=tuple(layers) if isinstance(layers, list) else (layers,),
                pool_position="before_projector" if pools_first else "after_projector",
                projector_hidden_act=self.projector_hidden_act,
                projector_bias=self.multimodal_projector_bias,
                image_newline=True,
                faster_token=self.slow_every is not None,
            ),
            tokens=self.visual_tokens(),
            tie_word_embeddings=self.tie_word_embeddings,
        )

    def visual_tokens(self) -> VisualTokens:
        """How many tokens a picture and a video become: the only place that the family's processor and model ask."""
        self._check_strategy()
        grid = self.vision_config.image_size // self.vision_config.patch_size
        most = _ASPECT_RATIO.fullmatch(self.vision_aspect_ratio)
        is_tiled = self.vision_aspect_ratio.startswith("anyres")
        image = ImageTokens(
            grid=grid,
            tile_size=self.vision_config.image_size,
            # Elsewhere a picture is one tile and, as in every row of tiles, a newline.
            pinpoints=tuple((first, second) for first, second in self.image_grid_pinpoints) if is_tiled else (),
            pinpoint_order=self.pinpoint_order,
            max_grid_tiles=int(most[1]) if most and most[1] else None,
            round_unpad=self.round_unpad,
        )
        try:
            video = VideoTokens(
                grid=grid,
                pool=self.spatial_pool_mode,
                stride=self.spatial_pool_stride,
                newline=_NEWLINES[self.newline_position],
                slow_every=self.slow_every,
            )
        except ArgumentError as error:
            raise self.wrong("spatial_pool_stride", self.spatial_pool_stride, f"another ({error})") from error
        if video.side < 1:
            raise self.wrong("spatial_pool_stride", self.spatial_pool_stride, f"at most {grid}, the patches a side")
        return VisualTokens(image=image, video=video)

    def _check_strategy(self) -> None:
        strategy = self.vision_feature_select_strategy
        has_class_token = isinstance(self.vision_config, CLIPVisionConfig)
        if has_class_token and strategy == "full":
            raise self.wrong(
                "vision_feature_select_strategy", strategy, "default: pooled frames have no place for the class token"
            )
        if not has_class_token and strategy == "default":
            raise self.wrong(
                "vision_feature_select_strategy", strategy, "full: this tower has no class token that could be dropped"
            )
