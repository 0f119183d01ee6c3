"""Times of frames in the documented processors: where they come from, and where they stand in prompts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm import AutoTokenizer, LlavaNextVideo2Processor
from videolm.errors import ArgumentError, ProcessingError
from videolm.families.prompts import QWEN_TEMPLATE

TIMES = "The video lasts for {} seconds, and {} frames are uniformly sampled from it. These frames are located at {}."
TIMES += "Please answer the following questions related to this video."
CLIP = np.zeros((4, 30, 33, 3), np.uint8)


@pytest.fixture
def processor(tiny_folder: Path) -> LlavaNextVideo2Processor:
    small = {"size": {"height": 28, "width": 28}}
    parts = LlavaNextVideo2Processor.spec
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    pictures = parts.image_part(**small, image_grid_pinpoints=[[28, 56], [56, 28]])
    frames, settings = parts.video_part(**small), {"patch_size": 7, "add_time_instruction": True}
    return LlavaNextVideo2Processor(frames, pictures, tokenizer, QWEN_TEMPLATE, **settings)


def prompt_of(inputs: Any, processor: LlavaNextVideo2Processor) -> str:
    """The prompt with one placeholder for each medium."""
    text = processor.batch_decode(inputs.input_ids)[0]
    return re.sub(r"(<video>|<image>)\1*", r"\1", text.replace("<s>", ""))


@pytest.mark.parametrize(
    ("metadata", "options", "told"),
    [
        ({"fps": 2.0}, {}, ("2.00", 4, "0.00s,0.50s,1.00s,1.50s")),
        ({"fps": 2.0}, {"num_frames": 2}, ("2.00", 2, "0.00s,1.00s")),
        ({"fps": 2.0}, {"fps": 1}, ("2.00", 2, "0.00s,1.00s")),
        ({"total_num_frames": 4, "duration": 8.0}, {}, ("8.00", 4, "0.00s,2.00s,4.00s,6.00s")),
        (
            {"fps": 25.0, "total_num_frames": 250, "frames_indices": np.array([0, 83, 166, 249]), "width": 33},
            {},
            ("10.00", 4, "0.00s,3.32s,6.64s,9.96s"),
        ),
        (
            {"fps": 25.0, "total_num_frames": 250, "frames_indices": [0, 83, 166, 249]},
            {"fps": 0.2},
            ("10.00", 2, "0.00s,6.64s"),
        ),
    ],
)
def test_frames_in_memory_take_their_times_from_the_call(
    processor: LlavaNextVideo2Processor, metadata: dict[str, Any], options: dict[str, Any], told: tuple[Any, ...]
) -> None:
    inputs = processor(text="<video>\nWhy?", videos=CLIP, video_metadata=metadata, **options)
    assert prompt_of(inputs, processor) == "<video>\n" + TIMES.format(*told) + "\nWhy?"
    assert inputs.pixel_values_videos.shape[1] == told[1]


def test_files_bring_their_times(processor: LlavaNextVideo2Processor, clip: Path) -> None:
    inputs = processor(text="Look: <video> Why?", videos=str(clip), num_frames=3)
    told = TIMES.format("2.00", 3, "0.00s,0.67s,1.33s")
    assert prompt_of(inputs, processor) == f"Look: <video>\n{told}\n Why?"


def test_notes_of_several_media_stand_behind_all_of_them(processor: LlavaNextVideo2Processor, clip: Path) -> None:
    content = [
        {"type": "video", "video": CLIP},
        {"type": "image", "image": CLIP[0]},
        {"type": "video", "path": str(clip)},
        {"type": "text", "text": "Why?"},
    ]
    messages, metadata = [{"role": "user", "content": content}], [{"fps": 4.0}, None]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, video_metadata=metadata)
    first, second = TIMES.format("1.00", 4, "0.00s,0.25s,0.50s,0.75s"), "The video lasts for 2.00 seconds, and 12 "
    prompt = prompt_of(inputs, processor)
    assert f"user\n<video>\n<image>\n<video>\n{first}\n{second}" in prompt
    assert prompt.endswith("\nWhy?<|im_end|>\n")
    written = processor.apply_chat_template(messages)
    media: dict[str, Any] = {"images": CLIP[0], "videos": [CLIP, str(clip)], "video_metadata": metadata}
    assert processor(text=written, **media).input_ids.tolist() == inputs.input_ids.tolist()


def test_a_clip_without_a_clock_is_warned_of(processor: LlavaNextVideo2Processor) -> None:
    with pytest.warns(UserWarning, match=r"Nothing tells when .* Pass video_metadata=\{\"fps\": \.\.\.\}") as warned:
        inputs = processor(text="<video>\nWhy?", videos=CLIP)
    assert warned[0].filename == __file__
    assert prompt_of(inputs, processor) == "<video>\nWhy?"
    processor.add_time_instruction = False
    assert processor(text="<video>\nWhy?", videos=CLIP).input_ids.tolist() == inputs.input_ids.tolist()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([{"fps": 1.0}, {"fps": 1.0}], "says something of 2 videos, but 1 came"),
        ({"rate": 1.0}, "expected a mapping with fps, total_num_frames, frames_indices, duration"),
        ({"fps": 0}, "has fps 0: a number of frames a second above 0"),
        ({"fps": 1.0, "total_num_frames": 9}, "has 0 frames_indices for a video of 4 frames in memory and 9 in all"),
        ({"fps": 1.0, "frames_indices": [1, 2]}, "has 2 frames_indices for a video of 4 frames"),
    ],
)
def test_metadata_that_cannot_be_used(processor: LlavaNextVideo2Processor, metadata: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        processor(text="<video>", videos=CLIP, video_metadata=metadata)


def test_what_only_arrays_or_only_files_have(processor: LlavaNextVideo2Processor, clip: Path) -> None:
    with pytest.raises(ArgumentError, match="it is expected for frames in memory alone"):
        processor(text="<video>", videos=str(clip), video_metadata={"fps": 2.0})
    with pytest.raises(ArgumentError, match="2 frames a second were asked for, but nothing tells the rate"):
        processor(text="<video>", videos=CLIP, fps=2)
    content = [{"type": "video", "video": CLIP}, {"type": "text", "text": "a"}]
    conversation = [{"role": "user", "content": content}]
    with pytest.raises(ProcessingError, match="says something of 2 videos, but the conversation holds 1"):
        processor.apply_chat_template(conversation, tokenize=True, video_metadata=[{"fps": 2.0}, None])


def test_the_setting_is_saved(processor: LlavaNextVideo2Processor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    assert LlavaNextVideo2Processor.from_pretrained(tmp_path).add_time_instruction
