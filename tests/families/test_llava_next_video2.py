"""LLaVA-Video's configuration, token counts, parameter counts at real sizes, prompt, and a session on a tiny folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders

from videolm import session
from videolm.cli.main import main
from videolm.contracts import Frames, VisualInput
from videolm.errors import ConfigError
from videolm.families.auto import family_of, load_model, load_processor, new_model, save_model
from videolm.families.llava_next_video2 import FAMILY, LlavaNextVideo2Config, LlavaNextVideo2ForConditionalGeneration
from videolm.families.part_configs import Qwen2Config, SiglipVisionConfig
from videolm.families.processor_classes import LlavaNextVideo2Processor
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.models.config import VideoLMConfig
from videolm.weights.keymap import detect_layout

_72B = {
    "model_type": "qwen2",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 29568,
    "vocab_size": 152064,
}

# --- configuration ---


def test_defaults_are_those_of_the_7b_checkpoint() -> None:
    config = LlavaNextVideo2Config()
    assert isinstance(config.vision_config, SiglipVisionConfig)
    assert isinstance(config.text_config, Qwen2Config)
    settings = config.settings()
    assert (settings.vision.grid, settings.vision.num_hidden_layers, settings.vision.class_token) == (27, 26, False)
    assert (settings.vision.hidden_act, settings.vision.layer_norm_eps) == ("gelu_pytorch_tanh", 1e-6)
    assert (settings.fusion.pool_position, settings.fusion.feature_layers) == ("after_projector", (-1,))
    assert (settings.decoder.rope_theta, settings.decoder.rope_factor, settings.decoder.rms_norm_eps) == (1e6, 1, 1e-6)
    assert (config.image_token_id, config.video_token_id, config.newline_position) == (151646, 151647, "grid")
    assert LlavaNextVideo2Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("mode", "newline", "count"),
    [
        ("average", "grid", 11_648),
        ("average", "frame", 10_880),
        ("average", "one_token", 10_817),
        ("average", "no_token", 10_816),
        ("max", "grid", 11_648),
        ("bilinear", "grid", 13_440),
        ("bilinear", "frame", 12_608),
        ("bilinear", "one_token", 12_545),
        ("bilinear", "no_token", 12_544),
    ],
)
def test_tokens_of_64_frames(mode: str, newline: str, count: int) -> None:
    config = LlavaNextVideo2Config(spatial_pool_mode=mode, newline_position=newline)
    assert config.visual_tokens().video.count(64) == count


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(384, 384, 1485), (640, 480, 2929), (1280, 720, 5967), (1920, 1080, 7269), (2304, 2304, 7371)],
)
def test_tokens_of_pictures(width: int, height: int, count: int) -> None:
    assert LlavaNextVideo2Config().visual_tokens().image.count(height, width) == count


def test_slow_fast_is_a_setting() -> None:
    video = LlavaNextVideo2Config(add_faster_video=True, faster_token_stride=5).visual_tokens().video
    assert video.count(10) == 2 * 183 + 8 * 43


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_feature_select_strategy": "default"}, "expected full: this tower has no class token"),
        ({"spatial_pool_stride": 28}, "spatial_pool_stride is 28 .* at most 27"),
        ({"add_faster_video": True, "spatial_pool_mode": "conv"}, "the pooling conv"),
        ({"add_faster_video": True, "pooling_position": "before"}, "pools after the projector"),
    ],
)
def test_values_that_cannot_make_a_model(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlavaNextVideo2Config(**values).settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"newline_position": "row"}, "newline_position is 'row'"),
        ({"vision_aspect_ratio": "highres"}, "vision_aspect_ratio is 'highres'"),
        ({"pooling_position": "inside"}, "pooling_position is 'inside'"),
        ({"faster_token_stride": 0}, "faster_token_stride is 0"),
    ],
)
def test_wrong_values_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlavaNextVideo2Config(**values)


# --- real sizes ---


def expected_parameters(settings: VideoLMConfig) -> int:
    vision, decoder = settings.vision, settings.decoder
    tower, inner, width = vision.hidden_size, vision.intermediate_size, decoder.hidden_size
    layer = 4 * (tower + 1) * tower + 2 * tower * inner + inner + tower + 4 * tower
    patches = (3 * vision.patch_size**2 + 1 + vision.grid**2) * tower
    keys = decoder.num_key_value_heads * decoder.head_width
    block = 2 * width * width + width + 2 * (width + 1) * keys + 3 * width * decoder.intermediate_size + 2 * width
    joints = (tower + 1) * width + (width + 1) * width + width
    language = decoder.num_hidden_layers * block + width + 2 * decoder.vocab_size * width
    return vision.num_hidden_layers * layer + patches + 2 * tower + joints + language


@pytest.mark.parametrize(
    ("text", "billions"),
    [
        (None, 8.03),
        (_72B, 73.18),
        ({"model_type": "qwen2", **LlavaNextVideo2Config.text_defaults, "vocab_size": 152128}, 8.03),
    ],
    ids=["7B", "72B", "7B, converted"],
)
def test_real_sizes_on_the_meta_device(text: dict[str, Any] | None, billions: float) -> None:
    config = LlavaNextVideo2Config(text_config=text)
    with torch.device("meta"):
        model = LlavaNextVideo2ForConditionalGeneration(config)
    assert model.num_parameters() == expected_parameters(config.settings())
    assert round(model.num_parameters() / 1e9, 2) == billions


@pytest.mark.parametrize("layout", FAMILY.save_layouts.values(), ids=FAMILY.save_layouts)
def test_every_parameter_has_a_name_of_its_own_in_every_layout(layout: Any) -> None:
    with torch.device("meta"):
        model = LlavaNextVideo2ForConditionalGeneration(LlavaNextVideo2Config(add_faster_video=True))
    names = list(model.state_dict())
    files = [layout.to_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert [layout.to_module(name) for name in files] == names
    assert detect_layout(files, FAMILY.layouts) is layout


# --- a folder of the original code, from its files to an answer ---

ORIGINAL = {
    "model_type": "llava_qwen",
    "architectures": ["LlavaQwenForCausalLM"],
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_spatial_pool_mode": "average",
    "mm_spatial_pool_stride": 2,
    "mm_newline_position": "grid",
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": "(1x1),...,(6x6)",
    "add_time_instruction": True,
    "force_sample": True,
    "frames_upbound": 6,
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 35,
        "patch_size": 7,
    },
}


def write_qwen_tokenizer(folder: Path) -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = token_decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(["user assistant system what is moving here"] * 3, trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    backend.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def original_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    model = new_model(LlavaNextVideo2Config.from_dict(ORIGINAL), seed=3)
    model.save_pretrained(folder / "weights", layout="original")
    (folder / "weights" / "model.safetensors").rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(ORIGINAL))
    write_qwen_tokenizer(folder)
    return folder


def frames(num_frames: int = 4, fps: float | None = 10.0) -> Frames:
    pixels = tuple(np.full((30, 50, 3), 40 * index, np.uint8) for index in range(num_frames))
    return Frames(
        kind="video",
        pixels=pixels,
        source="clip",
        size=(30, 50),
        frame_indices=tuple(range(0, 10 * num_frames, 10)),
        num_source_frames=10 * num_frames,
        fps=fps,
    )


def test_the_processor_of_an_original_folder_squashes_frames(original_folder: Path) -> None:
    processor = load_processor(original_folder)
    visual = processor.prepare_medium(frames())
    assert visual.pixel_values.shape == (4, 3, 35, 35)
    assert visual.num_tokens == 4 * (4 + 2)
    values = visual.pixel_values[:, 0, 0, 0].tolist()
    assert values == pytest.approx([(40 * index / 255 - 0.5) / 0.5 for index in range(4)], abs=1e-6)


def test_the_prompt_is_that_of_the_training(original_folder: Path) -> None:
    processor = load_processor(original_folder)
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is moving"}, {"type": "video"}]}]
    inputs = processor.prepare(messages, [frames()])
    placeholder = LlavaNextVideo2Config.from_dict(ORIGINAL).video_token_index
    start = inputs.media_starts[0]
    count = inputs.media[0].num_tokens
    assert inputs.input_ids[start : start + count] == (placeholder,) * count
    before, after = inputs.input_ids[:start], inputs.input_ids[start + count :]
    decode = processor.tokenizer.decode
    assert decode(before, skip_special_tokens=False) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    assert decode(after, skip_special_tokens=False) == (
        "\nThe video lasts for 4.00 seconds, and 4 frames are uniformly sampled from it. These frames are located at "
        "0.00s,1.00s,2.00s,3.00s.Please answer the following questions related to this video.\nwhat is moving"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_the_setting_there_is_no_time_instruction(original_folder: Path) -> None:
    processor = replace(load_processor(original_folder), time_instruction=False)
    assert processor.prepare_medium(frames()).note == ""


def test_the_documented_processor_tells_times_where_the_checkpoint_says_so(original_folder: Path, clip: Path) -> None:
    processor, below = LlavaNextVideo2Processor.from_pretrained(original_folder), load_processor(original_folder)
    assert processor.add_time_instruction
    content = [{"type": "text", "text": "what is moving"}, {"type": "video", "path": str(clip)}]
    messages = [{"role": "user", "content": content}]
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    expected = below.prepare(messages, [load_media(clip, sampling=family_of(original_folder).sampling)])
    assert inputs.input_ids[0].tolist() == list(expected.input_ids)
    torch.testing.assert_close(inputs.pixel_values_videos[0], expected.media[0].pixel_values, rtol=0, atol=1e-6)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    again = processor(text=prompt, videos=str(clip))
    assert again.input_ids[0].tolist() == list(expected.input_ids)
    processor.add_time_instruction = False
    assert len(processor(text=prompt, videos=str(clip)).input_ids[0]) < len(expected.input_ids)


def test_a_clip_without_a_clock_is_warned_of(original_folder: Path) -> None:
    answer = session.load(original_folder).ask(np.zeros((8, 30, 50, 3), np.uint8), "what is moving", max_new_tokens=2)
    assert answer.warnings == (
        "Nothing tells when the frames of array were taken: the prompt is expected to say so to this model, and does "
        "not. A video file has a clock.",
    )


def test_frames_are_chosen_as_the_configuration_says(original_folder: Path, tmp_path: Path) -> None:
    assert family_of(original_folder).sampling == FrameSampling(rule="linspace", num_frames=6)
    for changes, sampling in (
        ({"force_sample": False}, FrameSampling(rule="fps", fps=1.0, num_frames=6)),
        ({"frames_upbound": 0}, FrameSampling(rule="linspace", num_frames=64)),
    ):
        (tmp_path / "config.json").write_text(json.dumps(ORIGINAL | changes))
        assert family_of(tmp_path).sampling == sampling


def test_an_original_folder_answers(original_folder: Path) -> None:
    opened = session.load(original_folder)
    video = np.stack([np.full((30, 50, 3), 20 * index, np.uint8) for index in range(8)])
    answer = opened.ask(video, "what is moving", max_new_tokens=5)
    assert answer.usage.visual_tokens == 6 * (4 + 2)
    assert len(answer.output_ids) == answer.usage.completion_tokens
    picture = np.full((30, 50, 3), 90, np.uint8)
    assert opened.ask(picture, "what is moving", max_new_tokens=5).media[0].kind == "image"


def test_the_command_line_answers_from_an_original_folder(
    original_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        Image.new("RGB", (50, 30), (60 * index, 0, 0)).save(tmp_path / f"frame{index}.png")
    arguments = [
        "ask",
        str(tmp_path),
        "what is moving",
        "--model",
        str(original_folder),
        "--max-new-tokens",
        "4",
        "--json",
    ]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["visual_tokens"] == 3 * (4 + 2)


def test_the_same_model_in_every_layout_and_in_the_form_of_this_library(original_folder: Path, tmp_path: Path) -> None:
    model, processor = load_model(original_folder), load_processor(original_folder)
    visual = processor.prepare_medium(frames())
    with torch.inference_mode():
        (expected,) = model.encode_media([visual])
        for layout in FAMILY.save_layouts:
            save_model(model, processor, tmp_path / layout, layout=layout)
            again, its_processor = load_model(tmp_path / layout), load_processor(tmp_path / layout)
            assert again.config.model_type == "llava_next_video2"
            medium = its_processor.prepare_medium(frames())
            assert medium.note == visual.note != ""
            assert torch.equal(again.encode_media([medium])[0].tokens, expected.tokens)
            assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_without_the_unused_norm_loads_and_keeps_its_form(original_folder: Path) -> None:
    model = load_model(original_folder)
    state = {name: tensor for name, tensor in model.state_dict().items() if "post_layernorm" not in name}
    again = LlavaNextVideo2ForConditionalGeneration.from_state_dict(model.config, state)
    assert state.keys() == again.state_dict().keys()
    assert again.config.vision_config.vision_use_post_norm is False
    pixels = load_processor(original_folder).prepare_medium(frames())
    with torch.inference_mode():
        assert torch.equal(again.encode_media([pixels])[0].tokens, model.encode_media([pixels])[0].tokens)


def test_slow_fast_from_pixels_to_features() -> None:
    config = LlavaNextVideo2Config.from_dict(ORIGINAL | {"add_faster_video": True, "faster_token_stride": 2})
    model = new_model(config, seed=1)
    pixels = torch.randn(5, 3, 35, 35, generator=torch.Generator().manual_seed(0))
    medium = VisualInput(kind="video", pixel_values=pixels, size=(35, 35), num_tokens=model.tokens.video.count(5))
    with torch.inference_mode():
        (features,) = model.encode_media([medium])
    assert medium.num_tokens == len(features.tokens) == 2 * (2 * 3 + 1) + 3 * (1 * 2 + 1)
    newline, faster = model.model.image_newline, model.model.faster_token
    assert newline is not None
    assert faster is not None
    is_newline = [torch.equal(row, newline) for row in features.tokens]
    assert [index for index, row in enumerate(features.tokens) if torch.equal(row, faster)] == [6, 9, 16, 19, 22]
    assert [index for index, found in enumerate(is_newline) if found] == [2, 5, 8, 12, 15, 18, 21]
