"""``config.json`` of the original code to the right family, keys by keys."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.errors import ConfigError
from videolm.families.auto import MODEL_CLASSES
from videolm.families.initialise import without_values
from videolm.families.llava_next import LlavaNextConfig, LlavaNextForConditionalGeneration
from videolm.families.llava_next_video import LlavaNextVideoConfig
from videolm.families.llava_next_video2 import LlavaNextVideo2Config
from videolm.families.original_configs import from_original, is_original, original_preprocessor
from videolm.models.config import VideoLMConfig

CLIP = {
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "spatial_unpad",
    "image_aspect_ratio": "anyres",
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    "mm_use_im_start_end": False,
}
VICUNA_7B = CLIP | {
    "model_type": "llava_llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
VICUNA_13B = VICUNA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
MISTRAL_7B = VICUNA_7B | {
    "model_type": "llava_mistral",
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "rope_theta": 1e6,
    "max_position_embeddings": 32768,
    "sliding_window": None,
}
YI_34B = VICUNA_7B | {
    "vocab_size": 64000,
    "hidden_size": 7168,
    "intermediate_size": 20480,
    "num_hidden_layers": 60,
    "num_attention_heads": 56,
    "num_key_value_heads": 8,
    "rope_theta": 5e6,
}
VIDEO = {"mm_resampler_type": "spatial_pool", "mm_spatial_pool_mode": "average", "mm_spatial_pool_stride": 2}
QWEN_7B = {
    "model_type": "llava_qwen",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 131072,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_spatial_pool_mode": "average",
    "mm_newline_position": "grid",
    "mm_vision_select_layer": -2,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": "(1x1),...,(6x6)",
    "add_time_instruction": True,
    "force_sample": True,
    "add_faster_video": False,
}


@pytest.mark.parametrize(
    ("values", "model_type"),
    [
        (VICUNA_7B, "llava_next"),
        (MISTRAL_7B, "llava_next"),
        (VICUNA_7B | {"model_type": "llava"}, "llava_next"),
        (VICUNA_7B | VIDEO, "llava_next_video"),
        (MISTRAL_7B | VIDEO | {"mm_newline_position": "no_token"}, "llava_next_video"),
        (VICUNA_7B | VIDEO | {"mm_newline_position": "grid"}, "llava_next_video2"),
        (QWEN_7B, "llava_next_video2"),
    ],
)
def test_the_family_of_a_file(values: dict[str, Any], model_type: str) -> None:
    assert is_original(values)
    assert from_original(values)["model_type"] == model_type


@pytest.mark.parametrize("values", [{"model_type": "llava", "text_config": {}}, {"model_type": "llava_next_video"}, {}])
def test_other_files_stay_as_they_are(values: dict[str, Any]) -> None:
    assert not is_original(values)
    assert from_original(values) == values


def expected_parameters(settings: VideoLMConfig) -> int:
    decoder, vision = settings.decoder, settings.vision
    width, keys = decoder.hidden_size, decoder.num_key_value_heads * decoder.head_width
    block = 2 * width * width + 2 * width * keys + 3 * width * decoder.intermediate_size + 2 * width
    block += (width + 2 * keys) * decoder.qkv_bias
    joints = (vision.hidden_size + 1) * width + (width + 1) * width + width
    tower = 303_507_456 if vision.class_token else 397_747_744
    return tower + joints + decoder.num_hidden_layers * block + width + 2 * decoder.vocab_size * width


@pytest.mark.parametrize(
    ("values", "model_class", "billions"),
    [
        (VICUNA_7B, LlavaNextForConditionalGeneration, 7.06),
        (VICUNA_13B, LlavaNextForConditionalGeneration, 13.35),
        (MISTRAL_7B, LlavaNextForConditionalGeneration, 7.57),
        (YI_34B, LlavaNextForConditionalGeneration, 34.75),
    ],
    ids=["7B", "13B", "mistral", "34B"],
)
def test_real_sizes_on_the_meta_device(values: dict[str, Any], model_class: Any, billions: float) -> None:
    config = model_class.family.config_class.from_dict(values)
    with without_values():
        model = model_class(config)
    assert model.num_parameters() == expected_parameters(config.settings())
    assert round(model.num_parameters() / 1e9, 2) == billions


def config_of(values: dict[str, Any]) -> Any:
    """Of the family that these keys mean."""
    model_type = from_original(values)["model_type"]
    (model_class,) = (each for each in MODEL_CLASSES if each.family.model_type == model_type)
    return model_class.family.config_class.from_dict(values)


def test_what_the_qwen_file_says() -> None:
    config = LlavaNextVideo2Config.from_dict(QWEN_7B)
    assert config.settings() == LlavaNextVideo2Config().settings()
    assert (config.add_time_instruction, config.newline_position) == (True, "grid")
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (151643, 151645)


def test_the_original_reading_of_pictures() -> None:
    image = LlavaNextConfig.from_dict(VICUNA_7B).visual_tokens().image
    assert (image.pinpoint_order, image.round_unpad, image.max_grid_tiles) == ("width_height", False, None)
    assert (image.count(142, 184), image.count(110, 352)) == (1026, 1262)


@pytest.mark.parametrize(
    ("values", "policy", "factor"),
    [
        (VICUNA_7B | VIDEO, "auto", 1.0),
        (MISTRAL_7B, "auto", 1.0),
        (VICUNA_7B | VIDEO | {"rope_scaling": {"type": "linear", "factor": 2.0}}, "fixed", 2.0),
        (QWEN_7B, "fixed", 1.0),
    ],
)
def test_positions_are_stretched_as_the_original_inference_does(
    values: dict[str, Any], policy: str, factor: float
) -> None:
    decoder = config_of(values).model_settings().decoder
    assert (decoder.rope_policy, decoder.rope_factor) == (policy, factor)


def test_pooling_after_the_projector_is_read() -> None:
    """The 32B model of the older code: no newline position in its file, and frames pooled where the file says."""
    older = {key: value for key, value in QWEN_7B.items() if key != "mm_newline_position"}
    for position in ("before", "after"):
        config = LlavaNextVideo2Config.from_dict(older | {"mm_pooling_position": position})
        assert (config.pooling_position, config.newline_position) == (position, "one_token")
    config = LlavaNextVideoConfig.from_dict(VICUNA_7B | VIDEO)
    assert (config.pooling_position, config.newline_position) == ("before", "no_token")
    after = LlavaNextVideoConfig.from_dict(VICUNA_7B | VIDEO | {"mm_pooling_position": "after"})
    assert after.settings().fusion.pool_position == "after_projector"


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (QWEN_7B, (151646, 151647)),
        (QWEN_7B | {"image_token_index": 7}, (7, 8)),
        (VICUNA_7B, (32000, 32001)),
        (YI_34B, (64000, 64001)),
        (VICUNA_7B | {"image_token_index": 3, "video_token_index": 9}, (3, 9)),
    ],
)
def test_placeholder_ids_always_exist_and_differ(values: dict[str, Any], ids: tuple[int, int]) -> None:
    found = from_original(values)
    assert (found["image_token_index"], found["video_token_index"]) == ids


def test_a_vision_config_overrides_the_named_tower() -> None:
    own = {"hidden_size": 48, "num_hidden_layers": 3, "image_size": 70, "initializer_range": 0.1}
    vision = LlavaNextVideo2Config.from_dict(QWEN_7B | {"vision_config": own}).vision_config
    assert {name: getattr(vision, name) for name in own} == own
    assert (vision.intermediate_size, vision.patch_size, vision.model_type) == (4304, 14, "siglip_vision_model")


def test_a_path_of_another_machine_and_a_described_tower_will_do() -> None:
    assert from_original(VICUNA_7B | {"mm_vision_tower": "/mnt/checkpoints/clip-vit-large-patch14-336"})
    described = VICUNA_7B | {"mm_vision_tower": "mine", "vision_config": {"model_type": "clip_vision_model"}}
    assert from_original(described)["vision_config"]["hidden_size"] == 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1x1),...,(2x2)", [[384, 384], [384, 768], [768, 384], [768, 768]]),
        ("(1x2),...,(2x3)", [[384, 768], [384, 1152], [768, 768], [768, 1152]]),
        ("[[384, 768], (768, 384)]", [[384, 768], [768, 384]]),
        ([(384, 768)], [[384, 768]]),
    ],
)
def test_pinpoints_in_all_their_spellings(text: Any, expected: list[list[int]]) -> None:
    assert from_original(QWEN_7B | {"image_grid_pinpoints": text})["image_grid_pinpoints"] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_vision_tower": "somebody/else"}, "mm_vision_tower is 'somebody/else' .* clip-vit-large-patch14-336"),
        ({"mm_projector_type": "linear"}, "mm_projector_type is 'linear'"),
        ({"mm_resampler_type": "qformer"}, "mm_resampler_type is 'qformer'"),
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type is 'flat'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end is True"),
        ({"mm_vision_select_feature": "cls"}, "mm_vision_select_feature is 'cls'"),
        ({"mm_newline_position": "column"}, "mm_newline_position is 'column'"),
        ({"image_grid_pinpoints": "six by six"}, "image_grid_pinpoints is 'six by six'"),
        ({"image_grid_pinpoints": None}, "image_grid_pinpoints is None"),
        ({"image_aspect_ratio": "highres"}, "image_aspect_ratio is 'highres'"),
        ({"image_aspect_ratio": "anyres_max_0"}, "vision_aspect_ratio is 'anyres_max_0'"),
        ({"mm_projector_type": None}, "mm_projector_type is None"),
        ({"mm_patch_merge_type": None}, "mm_patch_merge_type is None"),
        ({"mm_vision_select_layer": [-2, -5]}, r"mm_vision_select_layer is \[-2, -5\]"),
        ({"s2": True}, "s2 is True"),
    ],
)
def test_variants_that_are_not_offered_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(VICUNA_7B | changes)


def test_pixels_of_both_kinds_of_tower() -> None:
    clip = original_preprocessor(VICUNA_7B)
    assert (clip["size"], clip["do_center_crop"], clip["image_mean"][0]) == ({"shortest_edge": 336}, True, 0.48145466)
    siglip = original_preprocessor(QWEN_7B | {"frames_upbound": 32}, of_frames=True)
    assert (siglip["size"], siglip["do_center_crop"]) == ({"height": 384, "width": 384}, False)
    assert (siglip["image_std"], siglip["num_frames"], "fps" in siglip) == ([0.5, 0.5, 0.5], 32, False)
