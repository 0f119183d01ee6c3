"""LLaVA-NeXT's configuration, and a session on tiny folders of it: pictures, and videos it was not trained for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from videolm import session
from videolm.families.auto import family_of, load_model, load_processor, new_model, save_model
from videolm.families.llava_next import LlavaNextConfig, LlavaNextForConditionalGeneration
from videolm.media.sampling import FrameSampling


def test_defaults() -> None:
    config = LlavaNextConfig()
    assert (config.image_token_index, config.image_token_id, config.video_token_index) == (32000, 32000, 32001)
    tokens = config.visual_tokens()
    assert (tokens.image.count(480, 640), tokens.video.count(32)) == (2340, 4608)
    assert LlavaNextConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "video"),
    [
        ({"text_config": {"vocab_size": 32064}}, 32064),
        ({"text_config": {"vocab_size": 64000}, "image_token_index": 64003}, 64004),
        ({"video_token_index": 5}, 5),
    ],
)
def test_the_video_placeholder_is_no_word_of_the_text(values: dict[str, object], video: int) -> None:
    assert LlavaNextConfig(**values).video_token_index == video


@pytest.fixture
def picture_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint of the neighbouring family, written as LLaVA-NeXT."""
    source = load_model(tiny_folder)
    values = source.config.to_dict() | {"model_type": "llava_next"}
    del values["video_token_index"]
    model = LlavaNextForConditionalGeneration.from_state_dict(values, source.state_dict())
    model.generation_config = dict(source.generation_config)
    folder = tmp_path / "pictures"
    save_model(model, load_processor(tiny_folder), folder)
    (folder / "video_preprocessor_config.json").unlink()
    return folder


def test_a_folder_for_pictures_answers_about_pictures_and_videos(picture_folder: Path) -> None:
    assert family_of(picture_folder).sampling == FrameSampling(rule="linspace", num_frames=16)
    opened = session.load(picture_folder)
    picture = np.full((30, 50, 3), 90, np.uint8)
    video = np.stack([np.full((30, 50, 3), 20 * index, np.uint8) for index in range(8)])
    assert opened.ask(picture, "what is this?", max_new_tokens=4).media[0].kind == "image"
    assert opened.ask(video, "what is this?", max_new_tokens=4, frames=8).usage.visual_tokens == 8 * 4


def test_random_models_are_the_same_for_the_same_seed() -> None:
    config = LlavaNextConfig(
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
        },
        text_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "vocab_size": 9,
        },
    )
    first, second = (new_model(config, seed=4).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
