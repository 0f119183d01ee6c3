"""Processors from folders: every file that says something is read, and checked against the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.contracts import Frames
from videolm.errors import ConfigError, ModelNotFoundError
from videolm.families.auto import family_of, load_model, load_processor, save_model
from videolm.media.sampling import FrameSampling


def clip(num_frames: int = 3, size: tuple[int, int] = (20, 30)) -> Frames:
    pixels = tuple(np.full((*size, 3), 40 * index, dtype=np.uint8) for index in range(num_frames))
    return Frames(kind="video", pixels=pixels, source="array", size=size)


def picture(height: int = 30, width: int = 50) -> Frames:
    return Frames(kind="image", pixels=(np.zeros((height, width, 3), np.uint8),), source="array", size=(height, width))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_processor_and_model_agree_about_tokens(tiny_folder: Path) -> None:
    model, processor = load_model(tiny_folder), load_processor(tiny_folder)
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "what?"}]}]
    inputs = processor.prepare(messages, [clip(), picture()])
    assert [medium.num_tokens for medium in inputs.media] == [3 * 4, processor.tokens.image.count(30, 50)]
    assert [len(features.tokens) for features in model.encode_media(inputs.media)] == [
        medium.num_tokens for medium in inputs.media
    ]
    assert (inputs.input_ids.count(296), inputs.input_ids.count(297)) == tuple(m.num_tokens for m in inputs.media)
    assert model.prefill(inputs, model.new_cache()).shape == (300,)


def test_the_whole_frame_is_seen(tiny_folder: Path) -> None:
    frame = np.zeros((28, 280, 3), np.uint8)
    frame[:, :30] = 255
    prepared = load_processor(tiny_folder).prepare_frame(frame)
    assert prepared.shape == (28, 28, 3)
    assert prepared[:, 0].min() > 200, "the left edge, which a centre crop would cut off"


def test_what_the_processor_wrote_it_reads_again(tiny_folder: Path, tmp_path: Path) -> None:
    first = load_processor(tiny_folder)
    save_model(load_model(tiny_folder), first, tmp_path / "again")
    second = load_processor(tmp_path / "again")
    assert (second.image_pixels, second.video_pixels, second.tokens) == (
        first.image_pixels,
        first.video_pixels,
        first.tokens,
    )
    assert second.chat_template.source == first.chat_template.source
    assert family_of(tmp_path / "again").sampling == family_of(tiny_folder).sampling


def test_the_folder_says_how_frames_are_sampled(tiny_folder: Path) -> None:
    assert family_of(tiny_folder).sampling == FrameSampling(rule="linspace", num_frames=8)
    path = tiny_folder / "video_preprocessor_config.json"
    change_json(path, num_frames=None)
    assert family_of(tiny_folder).sampling == FrameSampling(rule="linspace", num_frames=32)
    change_json(path, fps=2)
    assert family_of(tiny_folder).sampling == FrameSampling(rule="fps", fps=2, num_frames=32)
    change_json(path, num_frames=0)
    with pytest.raises(ConfigError, match="num_frames is 0"):
        family_of(tiny_folder)


def test_processor_settings_are_looked_up_in_order(tiny_folder: Path) -> None:
    (tiny_folder / "video_preprocessor_config.json").unlink()
    assert family_of(tiny_folder).sampling.num_frames == 32
    change_json(tiny_folder / "preprocessor_config.json", num_frames=6)
    assert family_of(tiny_folder).sampling.num_frames == 6
    nested = {"size": {"height": 28, "width": 28}, "do_center_crop": False, "image_mean": [0.5] * 3, "num_frames": 4}
    change_json(tiny_folder / "processor_config.json", video_processor=nested, image_processor=nested)
    processor = load_processor(tiny_folder)
    assert family_of(tiny_folder).sampling.num_frames == 4
    assert (processor.image_pixels.image_mean, processor.video_pixels.image_mean) == ((0.5,) * 3, (0.5,) * 3)


def test_no_processor_file_is_an_error(tiny_folder: Path) -> None:
    (tiny_folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no preprocessor_config\.json: it says how pictures"):
        load_processor(tiny_folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("preprocessor_config.json", {"size": {"height": 56, "width": 56}}, "make pictures of 56x56 pixels, but the"),
        ("video_preprocessor_config.json", {"size": {"height": 14, "width": 14}}, "makes frames of 14x14 pixels"),
        ("preprocessor_config.json", {"size": "large"}, "cannot be used|size"),
        ("processor_config.json", {"patch_size": 14}, "has patch_size 14, but the model has 7"),
        ("processor_config.json", {"vision_feature_select_strategy": "full"}, "has vision_feature_select_strategy"),
    ],
)
def test_a_processor_of_another_model(tiny_folder: Path, name: str, changes: dict[str, Any], message: str) -> None:
    change_json(tiny_folder / name, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_processor(tiny_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("decoder", "question"),
    [
        (
            "llama",
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: <video>\nWhy? ASSISTANT:",
        ),
        ("mistral", "[INST] <video>\nWhy? [/INST]"),
    ],
)
def test_a_folder_without_a_template_gets_the_prompt_of_the_originals(
    tiny_folder: Path, decoder: str, question: str
) -> None:
    (tiny_folder / "chat_template.jinja").unlink()
    config = json.loads((tiny_folder / "config.json").read_text())
    change_json(
        tiny_folder / "config.json",
        text_config={**config["text_config"], "model_type": decoder, "sliding_window": None},
    )
    messages = [{"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "video"}]}]
    template = load_processor(tiny_folder).chat_template
    assert template.render(messages, add_generation_prompt=True).text == question


def test_a_multi_turn_vicuna_prompt(tiny_folder: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "This?"}]},
    ]
    rendered = load_processor(tiny_folder).chat_template.render(messages, add_generation_prompt=True)
    assert rendered.text == "Be brief. USER: Hello ASSISTANT: Hi</s>USER: <image>\nThis? ASSISTANT:"
