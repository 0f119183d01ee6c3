"""Settings of a vision tower, a decoder and what joins them, checked when made; no family has a name here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from videolm.contracts import MediaKind, VisualInput
from videolm.errors import ConfigError
from videolm.visual_tokens import VisualTokens

Activation = Literal["quick_gelu", "gelu", "gelu_pytorch_tanh", "silu"]
PoolPosition = Literal["before_projector", "after_projector"]
RopePolicy = Literal["fixed", "auto", "none"]

__all__ = ["Activation", "DecoderConfig", "FusionConfig", "PoolPosition", "RopePolicy", "VideoLMConfig", "VisionConfig"]

# Tokens that the original inference code leaves for text when it chooses how far to stretch positions.
_TEXT_RESERVE = 1000


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A vision transformer; the defaults are those of CLIP ViT-L/14-336."""

    image_size: int = 336
    """Pixels per side of one tile or frame."""
    patch_size: int = 14
    num_channels: int = 3
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    """Layers with parameters; those that cannot influence the selected features are not run."""
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: float = 1e-5
    class_token: bool = True
    """Whether a learned token stands before the patches."""
    pre_norm: bool = True
    """Whether the embeddings are normalised before the first layer."""
    post_norm: bool = True
    """Whether the parameters hold a last norm; it is never applied to the features of a language model."""
    patch_bias: bool = False
    temporal_frames: int | None = None
    """Frames that attend to each other, place by place, at the start of every layer; None: each frame is by itself."""
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _check_positive(
            self, "image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers", "intermediate_size"
        )
        _check_heads("vision", self.hidden_size, self.num_attention_heads)
        _check_activation("vision hidden_act", self.hidden_act)
        if self.temporal_frames is not None:
            _check_positive(self, "temporal_frames")
        if self.patch_size > self.image_size:
            raise ConfigError(
                f"A vision tower with image_size {self.image_size} and patch_size {self.patch_size} has no patches: "
                "image_size must be at least patch_size. Correct vision_config."
            )

    @property
    def grid(self) -> int:
        """Patches per side; pixels that do not fill a patch are dropped."""
        return self.image_size // self.patch_size

    @property
    def num_positions(self) -> int:
        """Rows of the position table."""
        return self.grid**2 + int(self.class_token)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A Llama-type decoder; Mistral and Qwen2 are settings of it."""

    vocab_size: int = 32064
    """Rows of the embedding table and of the head."""
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    head_dim: int | None = None
    """None: hidden_size / num_attention_heads."""
    intermediate_size: int = 11008
    hidden_act: Activation = "silu"
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_factor: float = 1.0
    """Linear position interpolation: positions are divided by this; 1 means none."""
    rope_policy: RopePolicy = "fixed"
    """How far positions are stretched: ``fixed`` by ``rope_factor``, ``auto`` as far as each prompt's videos need it,
    ``none`` not at all."""
    max_position_embeddings: int = 4096
    """Positions the decoder was trained for, before rope_factor; longer inputs are computed all the same."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Bias of the attention's output projection."""
    mlp_bias: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _check_positive(
            self,
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
            *("intermediate_size", "rope_theta", "rope_factor", "max_position_embeddings"),
        )
        if self.head_dim is None:
            _check_heads("decoder", self.hidden_size, self.num_attention_heads)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"{self.num_attention_heads} attention heads cannot share {self.num_key_value_heads} key/value heads: "
                "num_attention_heads must be a multiple of num_key_value_heads. Correct text_config."
            )
        if self.head_width % 2:
            raise ConfigError(
                f"The decoder's head_dim is {self.head_width}: rotary positions need an even one. Correct text_config."
            )
        _check_activation("decoder hidden_act", self.hidden_act)
        if self.rope_policy not in get_args(RopePolicy):
            raise ConfigError(
                f"rope_policy is {self.rope_policy!r}: expected one of {', '.join(get_args(RopePolicy))}. "
                "Correct the model's configuration."
            )

    @property
    def fixed_rope_factor(self) -> float:
        """What all positions are divided by, whatever the prompt."""
        return self.rope_factor if self.rope_policy == "fixed" else 1.0

    def prompt_rope_factor(self, num_video_tokens: int) -> float:
        """What the positions of a prompt with so many tokens of videos are divided by on top."""
        if self.rope_policy != "auto":
            return 1.0
        return float(math.ceil((num_video_tokens + _TEXT_RESERVE) / self.max_position_embeddings))

    def rope_factor_of(self, media: Sequence[VisualInput]) -> float:
        """What the positions of a prompt with these media are divided by on top: as was chosen for them, or by rule."""
        chosen = [medium.rope_factor for medium in media if medium.rope_factor is not None]
        return max(chosen, default=self.prompt_rope_factor(sum(m.num_tokens for m in media if m.kind == "video")))

    @property
    def may_stretch(self) -> bool:
        """Whether a prompt's positions may be divided by more than they are now."""
        return self.rope_policy == "auto" or (self.rope_policy == "fixed" and self.rope_factor == 1)

    @property
    def longest_context(self) -> int:
        """The most tokens that videos may be chosen for, before it is known how many they have."""
        # How far the original work stretches positions.
        stretch = 2.0 if self.rope_policy == "auto" else self.fixed_rope_factor
        return int(self.max_position_embeddings * stretch)

    def context_len(self, media: Sequence[VisualInput]) -> int:
        """The most tokens that a prompt with these media may have together with its answer."""
        return int(self.max_position_embeddings * self.fixed_rope_factor * self.rope_factor_of(media))

    @property
    def head_width(self) -> int:
        """Numbers in one head."""
        return self.head_dim if self.head_dim is not None else self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How tower features become decoder embeddings; how many there are is ``VisualTokens``' business."""

    feature_layers: tuple[int, ...] = (-2,)
    """Hidden states to take, joined on channels: 0 is the input of the first layer, -1 the output of the last."""
    pool_position: PoolPosition = "before_projector"
    projector_hidden_act: Activation = "gelu"
    projector_bias: bool = True
    image_newline: bool = True
    """Whether the parameters hold a newline embedding."""
    faster_token: bool = False
    """Whether the parameters hold the token that ends each frame of slow-fast."""

    def __post_init__(self) -> None:
        if not self.feature_layers:
            raise ConfigError("feature_layers is empty: name at least one hidden state, such as -2, to take.")
        if self.pool_position not in get_args(PoolPosition):
            raise ConfigError(
                f"pool_position is {self.pool_position!r}: expected one of {', '.join(get_args(PoolPosition))}."
            )
        _check_activation("projector_hidden_act", self.projector_hidden_act)


@dataclass(frozen=True, kw_only=True)
class VideoLMConfig:
    """A whole video language model."""

    vision: VisionConfig
    """The tower; that of pictures where videos have one of their own."""
    video_vision: VisionConfig | None = None
    """The tower of videos; None: one tower for both kinds."""
    decoder: DecoderConfig
    fusion: FusionConfig
    tokens: VisualTokens
    tie_word_embeddings: bool = False
    """Whether the head is the embedding table itself."""

    def __post_init__(self) -> None:
        self._check_towers()
        self._check_layers()
        self._check_tokens()

    @property
    def feature_indices(self) -> tuple[int, ...]:
        """The selected hidden states counted from 0, in order."""
        num_states = self.vision.num_hidden_layers + 1
        return tuple(layer % num_states for layer in self.fusion.feature_layers)

    @property
    def feature_width(self) -> int:
        """Channels of one patch when it leaves the tower."""
        return self.vision.hidden_size * len(self.fusion.feature_layers)

    def vision_of(self, kind: MediaKind) -> VisionConfig:
        """The tower that encodes media of this kind."""
        return self.video_vision if kind == "video" and self.video_vision is not None else self.vision

    def _check_towers(self) -> None:
        if self.vision.temporal_frames is not None:
            raise ConfigError(
                f"The tower of pictures attends over {self.vision.temporal_frames} frames, but a picture has one: "
                "only a tower for videos alone can do that. Give videos a tower of their own."
            )
        if self.video_vision is None:
            return
        for name in ("image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers", "class_token"):
            picture, video = getattr(self.vision, name), getattr(self.video_vision, name)
            if picture != video:
                raise ConfigError(
                    f"{name} is {picture} in the tower of pictures and {video} in that of videos: they share a "
                    "projector, so both are expected to be the same. Correct vision_config."
                )

    def _check_layers(self) -> None:
        num_layers = self.vision.num_hidden_layers
        for layer in self.fusion.feature_layers:
            if not -num_layers - 1 <= layer <= num_layers:
                raise ConfigError(
                    f"The vision feature layer {layer} does not exist: a tower of {num_layers} layers has hidden "
                    f"states {-num_layers - 1} to {num_layers}. Correct vision_feature_layer."
                )

    def _check_tokens(self) -> None:
        image, video, grid = self.tokens.image, self.tokens.video, self.vision.grid
        if image.grid != grid or video.grid != grid or image.tile_size != self.vision.image_size:
            raise ConfigError(
                f"The vision tower makes {grid}x{grid} patches of {self.vision.image_size} pixels a side, but the "
                f"token rules say {image.grid}x{image.grid} of {image.tile_size} for pictures and "
                f"{video.grid}x{video.grid} for videos: they must agree. Derive both from vision_config."
            )
        if (image.keep_class_token or video.keep_class_token) and not self.vision.class_token:
            raise ConfigError(
                "The token rules keep the class token, but this vision tower has none. "
                "Use a vision_feature_select_strategy that keeps the patches alone."
            )
        if (image.newline or video.newline != "none") and not self.fusion.image_newline:
            raise ConfigError(
                "The token rules use newlines, but the parameters hold no newline embedding. Set image_newline."
            )
        is_slow_fast = video.slow_every is not None
        if is_slow_fast != self.fusion.faster_token or (is_slow_fast and self.fusion.pool_position[:5] != "after"):
            raise ConfigError(
                f"The token rules have slow_every {video.slow_every}, the parameters faster_token "
                f"{self.fusion.faster_token}, and frames are pooled {self.fusion.pool_position}: slow-fast needs the "
                "token and pools after the projector; without it there is no such token. Correct the configuration."
            )


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value <= 0:
            raise ConfigError(f"{name} is {value}: it must be greater than 0. Correct the model's configuration.")


def _check_heads(part: str, hidden_size: int, num_heads: int) -> None:
    if num_heads < 1 or hidden_size % num_heads:
        raise ConfigError(
            f"The {part}'s hidden_size {hidden_size} cannot be split into {num_heads} attention heads: "
            "it must be a multiple of num_attention_heads. Correct the model's configuration."
        )


def _check_activation(name: str, value: str) -> None:
    if value not in get_args(Activation):
        raise ConfigError(f"{name} is {value!r}: expected one of {', '.join(get_args(Activation))}.")
