"""The sentences about a video's times, letter by letter, and where they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from videolm.contracts import Frames
from videolm.processing.time_instruction import time_instruction, with_notes


def clip(indices: tuple[int, ...], num_source_frames: int, fps: float | None, **changes: Any) -> Frames:
    pixels = tuple(np.zeros((2, 2, 3), np.uint8) for _ in indices)
    values: dict[str, Any] = {"frame_indices": indices, "num_source_frames": num_source_frames, "fps": fps}
    return Frames(kind="video", pixels=pixels, source="clip", size=(2, 2), **values | changes)


def test_the_words_of_the_training() -> None:
    assert time_instruction(clip((0, 33, 66, 99), 100, 29.97)) == (
        "The video lasts for 3.34 seconds, and 4 frames are uniformly sampled from it. "
        "These frames are located at 0.00s,1.10s,2.20s,3.30s.Please answer the following questions related to this "
        "video."
    )


def test_one_frame_a_second_is_counted_in_whole_steps() -> None:
    told = time_instruction(clip(tuple(range(0, 1800, 24)), 1800, 23.976))
    assert told.startswith("The video lasts for 75.08 seconds, and 75 frames")
    assert "located at 0.00s,1.00s,2.00s," in told
    assert "73.00s,74.00s.Please" in told


@pytest.mark.parametrize(
    ("frames", "located"),
    [
        (clip((0, 9), 10, None, frame_times_s=(0.0, 4.5), duration_s=5.0), "5.00 seconds, and 2 frames"),
        (clip((0, 9), 10, None), None),
        (clip((), 10, 25.0), None),
        (Frames(kind="image", pixels=(np.zeros((2, 2, 3), np.uint8),), source="a", size=(2, 2)), None),
    ],
)
def test_without_a_rate_the_frames_own_times_count_and_without_times_nothing_is_said(
    frames: Frames, located: str | None
) -> None:
    told = time_instruction(frames)
    assert (located in told) if located else told == ""


def test_notes_stand_before_the_text_of_their_own_message() -> None:
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "That."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And"}, {"type": "video"}, {"type": "text", "text": "?"}],
        },
    ]
    changed = with_notes(messages, ["one", "", "two"])
    assert [[part.get("text") for part in message["content"]] for message in changed] == [
        ["Be brief."],
        [None, None, "one\nWhat?"],
        ["That."],
        ["two\nAnd", None, "?"],
    ]
    assert messages[1]["content"][2]["text"] == "What?"
    assert with_notes(messages, ["", "", ""]) == messages
