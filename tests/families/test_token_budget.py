"""A budget of visual tokens in every family: processor and model agree, and a session answers with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.contracts import Frames
from videolm.families.auto import load_config, load_processor, new_model
from videolm.session import load, load_reader
from videolm.visual_tokens import TokenBudget

from .conftest import CONFIG, TEXT, VISION, write_json
from .test_llava_next_video2 import ORIGINAL, write_qwen_tokenizer
from .test_video_llava import CONFIG as TWO_TOWERS
from .test_video_llava import TIMED

PICTURES = {name: value for name, value in CONFIG.items() if name != "video_token_index"} | {"image_token_index": 297}
MODELS: dict[str, dict[str, Any]] = {
    "pooled": CONFIG,
    "conv": CONFIG | {"spatial_pool_mode": "conv", "spatial_pool_out_channels": 32},
    "two towers": TWO_TOWERS,
    "frames in groups": TWO_TOWERS | {"vision_config": TWO_TOWERS["vision_config"] | TIMED},
    "pictures": PICTURES | {"model_type": "llava_next", "vision_config": VISION, "text_config": TEXT},
    "row ends": ORIGINAL,
    "frame ends": ORIGINAL | {"mm_newline_position": "frame"},
    "one end": ORIGINAL | {"mm_newline_position": "one_token"},
    "slow and fast": ORIGINAL | {"add_faster_video": True, "faster_token_stride": 2},
}


def video(num_frames: int = 8) -> Frames:
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, 40, 40, 3), dtype=np.uint8)
    pixels[1::2] = pixels[::2]  # every second frame repeats
    return Frames(kind="video", pixels=tuple(pixels), source="v", size=(40, 40), fps=8.0, duration_s=1.0)


@pytest.mark.parametrize("method", ["evs", "fastvid"])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_makes_what_the_processor_counts(
    name: str, method: Any, tmp_path: Path, write_tokenizer: Callable[[Path], None]
) -> None:
    config = MODELS[name]
    write_json(tmp_path / "config.json", config)
    side = config["vision_config"]["image_size"]
    write_json(
        tmp_path / "preprocessor_config.json", {"do_center_crop": False, "size": {"height": side, "width": side}}
    )
    (write_qwen_tokenizer if "mm_vision_tower" in config else write_tokenizer)(tmp_path)
    processor, model = load_processor(tmp_path), new_model(load_config(tmp_path), seed=1)
    whole = processor.prepare_medium(video())
    for fraction in (1.0, 0.6, 0.25, 0.01):
        medium = processor.prepare_medium(video(), TokenBudget(fraction=fraction, method=method))
        with torch.inference_mode():
            (features,) = model.encode_media([medium])
            (full,) = model.encode_media([whole])
        assert medium.num_tokens == len(features.tokens) == TokenBudget(fraction=fraction).of(whole.num_tokens)
        assert torch.equal(features.tokens, full.tokens) == (fraction == 1)


def test_a_session_keeps_to_the_budget(tiny_folder: Path) -> None:
    session, clip = load(tiny_folder), np.stack(video().pixels)
    whole = session.ask(clip, "what is this?", max_new_tokens=4)
    halved = session.ask(clip, "what is this?", max_new_tokens=4, visual_token_budget=0.5)
    assert (whole.usage.visual_tokens, halved.usage.visual_tokens) == (32, 16)
    assert (whole.media[0].visual_token_budget, halved.media[0].visual_token_budget) == (1.0, 0.5)
    assert whole.usage.prompt_tokens - halved.usage.prompt_tokens == 16
    all_of_it = session.ask(clip, "what is this?", max_new_tokens=4, visual_token_budget=1, token_reduction="fastvid")
    assert all_of_it.output_ids == whole.output_ids
    talk = session.conversation(clip, visual_token_budget=0.25, token_reduction="fastvid", max_new_tokens=4)
    assert [talk.ask("what is this?").usage.visual_tokens for _ in range(2)] == [8, 8]


def test_pictures_keep_all_of_their_tokens(tiny_folder: Path) -> None:
    session, picture = load(tiny_folder), np.full((30, 50, 3), 90, np.uint8)
    answers = [session.ask(picture, "what?", max_new_tokens=2, visual_token_budget=share) for share in (None, 0.1)]
    assert answers[0].output_ids == answers[1].output_ids
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens
    assert answers[0].usage.visual_tokens == answers[1].usage.visual_tokens


def test_a_smaller_budget_lets_more_frames_in(tiny_folder: Path, tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40, 30), (2 * index, 0, 90)) for index in range(110)]
    clip = tmp_path / "clip.gif"
    pictures[0].save(clip, save_all=True, append_images=pictures[1:], duration=100)
    # 384 of the 512 positions are for frames of 4 tokens.
    taken = [load_reader(tiny_folder).inspect(clip, {"fps": 10, "visual_token_budget": share}) for share in (1, 0.5)]
    assert [len(frames.frame_indices) for ((frames, _),) in taken] == [96, 110]
