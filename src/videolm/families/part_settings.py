"""Part configurations in, the settings that ``models`` builds from out."""

from __future__ import annotations

from videolm.errors import ConfigError
from videolm.families.json_config import JsonConfig
from videolm.families.part_configs import CLIPVisionConfig, TextConfig, TowerConfig
from videolm.models.config import DecoderConfig, VisionConfig

__all__ = ["decoder_settings", "vision_settings"]


def vision_settings(config: JsonConfig) -> VisionConfig:
    """A tower."""
    if not isinstance(config, TowerConfig):
        raise ConfigError(
            f"vision_config describes a {config.model_type}: expected a {CLIPVisionConfig.model_type}. "
            "Correct its model_type."
        )
    is_clip = isinstance(config, CLIPVisionConfig)
    return VisionConfig(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_channels=config.num_channels,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        class_token=is_clip,
        pre_norm=is_clip,
        post_norm=bool(getattr(config, "vision_use_post_norm", True)),
        patch_bias=not is_clip,
        initializer_range=config.initializer_range,
    )


def decoder_settings(config: JsonConfig) -> DecoderConfig:
    """A language model."""
    if not isinstance(config, TextConfig):
        raise ConfigError(
            f"text_config describes a {config.model_type}: expected a language model such as llama. "
            "Correct its model_type."
        )
    _refuse_sliding_window(config)
    attention_bias = bool(getattr(config, "attention_bias", False))
    return DecoderConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_act,
        rms_norm_eps=config.rms_norm_eps,
        rope_theta=config.rope_theta,
        rope_factor=float(config.rope_parameters.get("factor", 1.0)),
        max_position_embeddings=config.max_position_embeddings,
        qkv_bias=attention_bias or config.model_type == "qwen2",
        output_bias=attention_bias,
        mlp_bias=bool(getattr(config, "mlp_bias", False)),
        initializer_range=config.initializer_range,
    )


def _refuse_sliding_window(config: TextConfig) -> None:
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return
    if window < config.max_position_embeddings:
        raise ConfigError(
            f"sliding_window is {window} and max_position_embeddings {config.max_position_embeddings}: attention over "
            "a window is not offered. Set sliding_window to null, which changes nothing for inputs of at most "
            f"{window} tokens."
        )
