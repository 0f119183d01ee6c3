"""LLaVA-NeXT-Video's configuration, token counts and parameter counts at real sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.errors import ConfigError
from videolm.families.llava_next_video import FAMILY, LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig
from videolm.models.config import VideoLMConfig
from videolm.weights.keymap import detect_layout


def test_documented_defaults() -> None:
    config = LlavaNextVideoConfig()
    documented = {
        "ignore_index": -100,
        "image_token_index": 32001,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default",
        "vision_feature_layer": -2,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "tie_word_embeddings": False,
        "video_token_index": 32000,
        "spatial_pool_mode": "average",
        "spatial_pool_stride": 2,
        "image_seq_length": 576,
        "video_seq_length": 288,
        "multimodal_projector_bias": True,
    }
    assert {name: getattr(config, name) for name in documented} == documented
    assert (config.image_token_id, config.video_token_id) == (32001, 32000)
    assert (config.vision_config.image_size, config.text_config.model_type) == (336, "llama")


def test_made_from_its_parts() -> None:
    vision, text = CLIPVisionConfig(), LlamaConfig()
    config = LlavaNextVideoConfig(vision, text)
    assert (config.vision_config, config.text_config) == (vision, text)
    assert LlavaNextVideoConfig.from_dict(config.to_dict()) == config


def test_several_layers_as_a_list_or_a_tuple() -> None:
    config = LlavaNextVideoConfig(vision_feature_layer=(-3, -2))
    assert config == LlavaNextVideoConfig(vision_feature_layer=[-3, -2])
    assert config.settings().fusion.feature_layers == (-3, -2)


def test_a_list_given_is_not_shared_between_configurations() -> None:
    LlavaNextVideoConfig().image_grid_pinpoints.append([1, 1])
    assert len(LlavaNextVideoConfig().image_grid_pinpoints) == 5


@pytest.mark.parametrize("name", ["image_grid_pinpoints"])
def test_null_stands_for_the_default(name: str) -> None:
    assert getattr(LlavaNextVideoConfig(**{name: None}), name) == getattr(LlavaNextVideoConfig(), name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spatial_pool_mode": "median"}, "spatial_pool_mode is 'median'"),
        ({"spatial_pool_stride": 0}, "spatial_pool_stride is 0"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy is 'cls'"),
        ({"vision_feature_layer": "last"}, "vision_feature_layer is 'last'"),
        ({"vision_feature_layer": []}, r"vision_feature_layer is \[\]"),
        ({"image_grid_pinpoints": [[336]]}, "image_grid_pinpoints is"),
        ({"image_token_index": None}, "image_token_index is None"),
        ({"image_token_index": 5, "video_token_index": 5}, "expected another id than image_token_index"),
        ({"text_config": {"hidden_size": "large"}}, "hidden_size is 'large' in the configuration of llama"),
    ],
)
def test_wrong_values_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlavaNextVideoConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
        ({"spatial_pool_stride": 25}, "spatial_pool_stride is 25 .* at most 24"),
        ({"vision_feature_layer": -30}, "The vision feature layer -30 does not exist"),
        ({"spatial_pool_mode": "conv", "spatial_pool_out_channels": 7}, "spatial_pool_out_channels is 7"),
    ],
)
def test_values_that_cannot_make_a_model(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlavaNextVideoConfig(**values).settings()


def test_a_tie_in_the_text_part_counts() -> None:
    assert LlavaNextVideoConfig(text_config={"tie_word_embeddings": True}).settings().tie_word_embeddings


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [
        (672, 672, 2928),
        (480, 640, 2340),
        (640, 480, 2352),
        (720, 1280, 1948),
        (1920, 1080, 1968),
        (427, 640, 2144),
        (334, 500, 1464),
        (336, 336, 1176),
        (336, 1008, 2328),
        (1008, 336, 2376),
        (100, 1000, 1160),
    ],
)
def test_tokens_of_pictures(height: int, width: int, count: int) -> None:
    assert LlavaNextVideoConfig().visual_tokens().image.count(height, width) == count


@pytest.mark.parametrize(("frames", "stride", "count"), [(8, 2, 1152), (32, 2, 4608), (1, 4, 36), (1, 1, 576)])
def test_tokens_of_videos(frames: int, stride: int, count: int) -> None:
    assert LlavaNextVideoConfig(spatial_pool_stride=stride).visual_tokens().video.count(frames) == count


_7B = {"vocab_size": 32064, "rms_norm_eps": 1e-5, "rope_scaling": {"type": "linear", "factor": 2.5}}
_32K = {
    "model_type": "mistral",
    "vocab_size": 32064,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "max_position_embeddings": 32768,
    "sliding_window": None,
}
_34B = {
    "vocab_size": 64064,
    "hidden_size": 7168,
    "intermediate_size": 20480,
    "num_hidden_layers": 60,
    "num_attention_heads": 56,
    "num_key_value_heads": 8,
    "rope_theta": 5e6,
}
_VISION_PARAMETERS = 303_507_456  # CLIP ViT-L/14-336


def decoder_parameters(settings: VideoLMConfig) -> int:
    decoder = settings.decoder
    width, keys = decoder.hidden_size, decoder.num_key_value_heads * decoder.head_width
    layer = 2 * width * width + 2 * width * keys + 3 * width * decoder.intermediate_size + 2 * width
    return decoder.num_hidden_layers * layer + width + 2 * decoder.vocab_size * width


@pytest.mark.parametrize(("text", "billions"), [(_7B, 7.06), (_32K, 7.57), (_34B, 34.75)], ids=["7B", "32K", "34B"])
def test_real_sizes_on_the_meta_device(text: dict[str, Any], billions: float) -> None:
    config = LlavaNextVideoConfig(text_config=text)
    with torch.device("meta"):
        model = LlavaNextVideoForConditionalGeneration(config)
    width = config.text_config.hidden_size
    joints = 1024 * width + width + width * width + width + width  # projector and newline
    expected = _VISION_PARAMETERS + joints + decoder_parameters(config.settings())
    assert model.num_parameters() == expected
    assert round(expected / 1e9, 2) == billions


@pytest.mark.parametrize("layout", FAMILY.save_layouts.values(), ids=FAMILY.save_layouts)
def test_every_parameter_has_a_name_of_its_own_in_every_layout(layout: Any) -> None:
    with torch.device("meta"):
        model = LlavaNextVideoForConditionalGeneration(LlavaNextVideoConfig(text_config=_7B, spatial_pool_mode="conv"))
    names = list(model.state_dict())
    files = [layout.to_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert [layout.to_module(name) for name in files] == names
    assert detect_layout(files, FAMILY.layouts) is layout


def test_the_configuration_of_a_model_is_the_one_it_was_made_from(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    config = LlavaNextVideoConfig.from_dict(tiny_config)
    model = LlavaNextVideoForConditionalGeneration(config)
    assert model.config is config
    model.save_pretrained(tmp_path)
    assert LlavaNextVideoConfig.from_pretrained(tmp_path).settings() == config.settings()
