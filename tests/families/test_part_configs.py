"""Configurations of towers and decoders: rotary settings in every spelling, and what they become."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.errors import ConfigError
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, MistralConfig, Qwen2Config, part_config
from videolm.families.part_settings import decoder_settings, vision_settings

LINEAR = {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.5}


@pytest.mark.parametrize(
    "values",
    [
        {"rope_scaling": {"type": "linear", "factor": 2.5}, "rope_theta": 1e4},
        {"rope_scaling": {"type": "linear", "factor": 2.5}},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.5}},
        {"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 2.5}},
        {"rope_parameters": LINEAR},
        {"rope_parameters": LINEAR, "rope_scaling": None, "rope_theta": 7.0},
        {"rope_parameters": LINEAR, "rope_scaling": {"type": "linear", "factor": 9.0}},
        {"rope_parameters": {"type": "linear", "factor": 2.5}, "rope_theta": 1e4},
    ],
    ids=str,
)
def test_one_rotary_setting_in_many_spellings(values: dict[str, Any]) -> None:
    config = LlamaConfig(**values)
    assert config.rope_parameters == config.rope_scaling == LINEAR
    assert (config.rope_theta, decoder_settings(config).rope_factor) == (1e4, 2.5)
    assert LlamaConfig.from_dict(config.to_dict()) == config


def test_no_rotary_setting() -> None:
    config = LlamaConfig(rope_theta=5e6, rope_scaling=None)
    assert config.rope_parameters == {"rope_theta": 5e6, "rope_type": "default"}
    assert (decoder_settings(config).rope_theta, decoder_settings(config).rope_factor) == (5e6, 1.0)
    assert "rope_scaling" not in config.to_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type is 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor is -1"),
        ({"rope_scaling": "linear"}, "rope_parameters is 'linear'"),
        ({"rope_theta": "big"}, "rope_theta is 'big'"),
        ({"num_attention_heads": 32, "num_key_value_heads": 5}, "num_key_value_heads is 5"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"eos_token_id": [1, "x"]}, "eos_token_id is"),
    ],
)
def test_wrong_values_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlamaConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 8, "patch_size": 14}, "image_size is 8"),
        ({"num_attention_heads": 7}, "num_attention_heads is 7"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'"),
        ({"patch_size": [14, 14]}, "patch_size is"),
    ],
)
def test_wrong_values_of_a_tower(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CLIPVisionConfig(**values)


def test_key_value_heads_and_head_width_follow_from_the_others() -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=None)
    assert (config.num_key_value_heads, config.head_dim) == (4, 16)
    assert MistralConfig().num_key_value_heads == 8


def test_biases_by_family() -> None:
    biases = {
        config.model_type: (settings.qkv_bias, settings.output_bias, settings.mlp_bias)
        for config in (LlamaConfig(), MistralConfig(sliding_window=None), Qwen2Config())
        for settings in [decoder_settings(config)]
    }
    assert biases == {
        "llama": (False, False, False),
        "mistral": (False, False, False),
        "qwen2": (True, False, False),
    }
    settings = decoder_settings(LlamaConfig(attention_bias=True, mlp_bias=True))
    assert (settings.qkv_bias, settings.output_bias, settings.mlp_bias) == (True, True, True)


def test_a_window_that_could_matter_is_refused() -> None:
    with pytest.raises(ConfigError, match="sliding_window is 4096 and max_position_embeddings 131072"):
        decoder_settings(MistralConfig())
    decoder_settings(MistralConfig(sliding_window=None))
    decoder_settings(MistralConfig(sliding_window=4096, max_position_embeddings=4096))
    decoder_settings(Qwen2Config(sliding_window=10, use_sliding_window=False))


def test_parts_from_objects_dicts_and_nothing() -> None:
    given = LlamaConfig(hidden_size=64, num_attention_heads=4)
    assert part_config("text_config", given, LlamaConfig, {}) is given
    assert part_config("text_config", given.to_dict(), MistralConfig, {}) == given
    assert part_config("text_config", {"hidden_size": 64}, MistralConfig, {}).model_type == "mistral"
    assert part_config("vision_config", None, CLIPVisionConfig, {"image_size": 336}).image_size == 336


@pytest.mark.parametrize(
    ("value", "message"), [(3, "text_config is 3"), ({"model_type": "gpt2"}, "text_config has the model_type 'gpt2'")]
)
def test_parts_that_are_none(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part_config("text_config", value, LlamaConfig, {})


def test_parts_in_each_others_place() -> None:
    with pytest.raises(ConfigError, match="vision_config describes a llama"):
        vision_settings(LlamaConfig())
    with pytest.raises(ConfigError, match="text_config describes a clip_vision_model"):
        decoder_settings(CLIPVisionConfig())
