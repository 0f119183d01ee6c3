"""Video-LLaVA's configuration, token counts, names of tensors, prompts, and answers from folders of both kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from videolm.cli.main import main
from videolm.errors import ConfigError, ProcessingError
from videolm.families.auto import family_of, load_config, load_processor, new_model, save_model
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig
from videolm.families.video_llava import FAMILY, VideoLlavaConfig, VideoLlavaForConditionalGeneration, VideoLlavaModel
from videolm.session import load
from videolm.weights.keymap import detect_layout

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "golden" / "video_llava_original" / "vlo_video"
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIG = {
    "model_type": "video_llava",
    "vision_config": TOWER | {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 7},
    "text_config": TOWER | {"model_type": "llama", "vocab_size": 300, "max_position_embeddings": 512},
    "image_token_index": 296,
    "video_token_index": 297,
}
TIMED = {"add_time_attn": True, "num_frames": 8}


# --- configuration ---


def test_documented_defaults() -> None:
    config = VideoLlavaConfig()
    documented = {
        "ignore_index": -100,
        "image_token_index": 32000,
        "video_token_index": 32001,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default",
        "vision_feature_layer": -2,
        "image_seq_length": 256,
        "video_seq_length": 2056,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": False,
    }
    assert {name: getattr(config, name) for name in documented} == documented
    assert (config.image_token_id, config.video_token_id) == (32000, 32001)
    assert (config.vision_config.image_size, config.text_config.model_type) == (224, "llama")
    assert config.settings().video_vision == config.settings().vision


def test_made_from_its_parts() -> None:
    vision, text = CLIPVisionConfig(), LlamaConfig()
    config = VideoLlavaConfig(vision, text)
    assert (config.vision_config, config.text_config) == (vision, text)
    assert VideoLlavaConfig.from_dict(config.to_dict()) == config
    assert set(VideoLlavaConfig().to_dict()) == {
        *("model_type", "vision_config", "text_config", "dtype", *VideoLlavaConfig.keys)
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_token_index": 5, "video_token_index": 5}, "expected another id than image_token_index"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy is 'cls'"),
        ({"vision_config": {"num_frames": 0}}, "num_frames is 0 .* at least 1"),
        ({"vision_config": {"add_time_attn": "yes"}}, "add_time_attn is 'yes' .* true or false"),
    ],
)
def test_wrong_values_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoLlavaConfig(**values)


@pytest.mark.parametrize(
    ("vision", "temporal_frames", "hidden_act"),
    [
        ({}, None, "quick_gelu"),
        (TIMED, 8, "gelu"),
        (TIMED | {"num_frames": 4, "hidden_act": "quick_gelu"}, 4, "quick_gelu"),
        ({"add_time_attn": False, "num_frames": 8}, None, "quick_gelu"),
    ],
)
def test_the_two_modes(vision: dict[str, Any], temporal_frames: int | None, hidden_act: str) -> None:
    config = VideoLlavaConfig(vision_config=vision)
    settings = VideoLlavaConfig.from_dict(config.to_dict()).settings()
    assert settings.video_vision is not None
    assert (settings.video_vision.temporal_frames, settings.vision.temporal_frames) == (temporal_frames, None)
    assert (settings.video_vision.hidden_act, settings.vision.hidden_act) == (hidden_act, hidden_act)


def test_the_original_configuration() -> None:
    config = load_config(GOLDEN)
    assert isinstance(config, VideoLlavaConfig)
    settings = config.settings()
    assert settings.video_vision is not None
    assert (settings.video_vision.temporal_frames, settings.vision.hidden_act) == (8, "gelu")
    assert (settings.vision.hidden_size, settings.vision.num_hidden_layers, settings.vision.image_size) == (48, 4, 56)
    assert (settings.decoder.hidden_size, settings.decoder.num_hidden_layers) == (64, 3)
    assert (config.image_token_index, config.video_token_index) == (512, 513)


def test_an_original_configuration_that_names_its_towers_alone() -> None:
    values = json.loads((GOLDEN / "config.json").read_text())
    del values["vision_config"]
    settings = VideoLlavaConfig.from_dict(values).settings()
    assert settings.vision == replace(VideoLlavaConfig().settings().vision, hidden_act="gelu")
    assert settings.video_vision == replace(settings.vision, temporal_frames=8)


# --- tokens and tensors ---


def test_tokens() -> None:
    tokens = VideoLlavaConfig().visual_tokens()
    assert (tokens.image.count(480, 640), tokens.video.count(8), tokens.video.per_frame) == (256, 2056, 257)
    full = VideoLlavaConfig(vision_feature_select_strategy="full").visual_tokens()
    assert (full.image.count(480, 640), full.video.count(8)) == (257, 2056)


_7B = {"vocab_size": 32064, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}
_TOWER_PARAMETERS = 303_179_776  # CLIP ViT-L/14-224
_DECODER_PARAMETERS = 2 * 32064 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
_PROJECTOR_PARAMETERS = 1024 * 4096 + 4096 + 4096**2 + 4096
_TIME_PARAMETERS = 24 * (8 * 1024 + 4 * (1024**2 + 1024) + 2 * 1024)


@pytest.mark.parametrize(("vision", "more"), [({}, 0), (TIMED, _TIME_PARAMETERS)], ids=["port", "original"])
def test_real_sizes_on_the_meta_device(vision: dict[str, Any], more: int) -> None:
    sizes = VideoLlavaConfig().vision_config.to_dict()
    with torch.device("meta"):
        model = VideoLlavaForConditionalGeneration(VideoLlavaConfig(vision_config=sizes | vision, text_config=_7B))
    expected = 2 * _TOWER_PARAMETERS + _PROJECTOR_PARAMETERS + _DECODER_PARAMETERS + more
    assert model.num_parameters() == expected
    assert isinstance(model.model, VideoLlavaModel)


@pytest.mark.parametrize("vision", [{}, TIMED], ids=["port", "original"])
@pytest.mark.parametrize("layout", FAMILY.save_layouts.values(), ids=FAMILY.save_layouts)
def test_every_parameter_has_a_name_of_its_own_in_every_layout(layout: Any, vision: dict[str, Any]) -> None:
    values = CONFIG | {"vision_config": CONFIG["vision_config"] | vision}  # type: ignore[operator]
    with torch.device("meta"):
        model = VideoLlavaForConditionalGeneration(VideoLlavaConfig.from_dict(values))
    names = list(model.state_dict())
    files = [layout.to_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert [layout.to_module(name) for name in files] == names
    assert detect_layout(files, FAMILY.layouts) == layout


# --- folders ---


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], None]) -> Path:
    parts, folder = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("models") / "port"
    (parts / "config.json").write_text(json.dumps(CONFIG))
    pixels = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    (parts / "preprocessor_config.json").write_text(json.dumps(pixels))
    write_tokenizer(parts)
    save_model(new_model(CONFIG, seed=1), load_processor(parts), folder)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], None]) -> Path:
    folder = Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("models") / "original"))
    write_tokenizer(folder)
    return folder


def write_clip(path: Path, num_frames: int) -> Path:
    frames = [Image.new("RGB", (40, 30), (20 * index, 0, 90)) for index in range(num_frames)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    return path


def test_prompts_of_folders_without_a_template(original: Path) -> None:
    content = [{"type": "text", "text": "Why?"}, {"type": "video"}]
    assert load_processor(original).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    ) == (
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the human's questions. USER: <video>\nWhy? ASSISTANT:"
    )


def test_frames_are_chosen_from_the_first_to_the_last(port: Path) -> None:
    assert family_of(port).sampling.indices(50, 25.0) == [0, 7, 14, 21, 28, 35, 42, 49]


@pytest.mark.parametrize(("kind", "tokens"), [("port", 8 * 17), ("original", 8 * 17)])
def test_asking(
    kind: str, tokens: int, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = request.getfixturevalue(kind)
    clip, picture = write_clip(tmp_path / "clip.gif", 10), tmp_path / "picture.png"
    Image.new("RGB", (60, 30), (0, 200, 0)).save(picture)
    command = ["ask", "--model", str(folder), str(clip), str(picture), "What is this?", "--json"]
    assert main([*command, "--max-new-tokens", "4"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(printed.out)
    assert [medium["visual_tokens"] for medium in report["media"]] == [tokens, 16]
    assert report["media"][0]["frame_indices"] == [0, 1, 2, 3, 5, 6, 7, 9]


def test_another_number_of_frames_is_warned_of(port: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.gif", 10)
    session = load(port, device="cpu")
    answer = session.ask(session.inspect(clip, frames=5)[0][0], "What is this?", max_new_tokens=2)
    assert answer.warnings == (f"{clip} is given as 5 frames, but this model was trained on 8 a video.",)
    assert answer.usage.visual_tokens == 5 * 17


def test_the_original_refuses_clips_that_are_no_whole_groups(original: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.gif", 10)
    session = load(original, device="cpu")
    with pytest.raises(ProcessingError, match=r"a video of 5 frames, .* expected a multiple of 8"):
        session.ask(clip, "What is this?", frames=5)
    assert session.ask(clip, "What is this?", frames=8, max_new_tokens=2).usage.visual_tokens == 8 * 17
