"""When a video's frames were taken -> the sentences that tell a model so, and their place before the question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from videolm.contracts import Frames

__all__ = ["time_instruction", "unknown_times", "with_notes", "with_notes_after"]


def time_instruction(frames: Frames) -> str:
    """How long a video lasts and when its frames are, in the words that models were trained with.

    Empty where nothing tells: a picture, or frames without a clock.
    """
    times = _times_s(frames)
    if times is None:
        return ""
    duration_s, frame_times_s = times
    located = ",".join(f"{time:.2f}s" for time in frame_times_s)
    return (
        f"The video lasts for {duration_s:.2f} seconds, and {len(frame_times_s)} frames are uniformly sampled from it. "
        f"These frames are located at {located}.Please answer the following questions related to this video."
    )


def unknown_times(frames: Frames) -> str:
    """A warning of a video without a clock."""
    return (
        f"Nothing tells when the frames of {frames.source} were taken: the prompt is expected to say so to this model, "
        "and does not."
    )


def with_notes(messages: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[dict[str, Any]]:
    """Messages with the notes of their media before their own text, each on a line of its own.

    Args:
        messages: As ``normalise_messages`` gives them.
        notes: One for each medium that the messages mention, in order; empty for none.
    """
    remaining = iter(notes)
    changed = []
    for message in messages:
        parts = [dict(part) for part in message["content"]]
        lines = [note for part in parts if part["type"] != "text" and (note := next(remaining))]
        first = next(part for part in parts if part["type"] == "text")
        first["text"] = "\n".join([*lines, first["text"]])
        changed.append({**message, "content": parts})
    return changed


def with_notes_after(prompt: str, notes: Sequence[str], placeholders: Sequence[str]) -> str:
    """A prompt that holds its own placeholders, with the notes of their media behind them, each on a line of its own.

    Args:
        notes: One for each placeholder, in order; empty for none. Those of media that follow each other stand together,
            as ``with_notes`` places them.
    """
    one = f"(?:{'|'.join(map(re.escape, placeholders))})"
    remaining = iter(notes)

    def told(run: re.Match[str]) -> str:
        lines = [note for _ in re.findall(one, run.group()) if (note := next(remaining))]
        between = "" if run.group().endswith("\n") or not lines else "\n"
        return run.group() + between + "".join(f"{line}\n" for line in lines)

    return re.sub(rf"{one}(?:\s*{one})*\n?", told, prompt)


def _times_s(frames: Frames) -> tuple[float, list[float]] | None:
    """Duration and frame times by the average rate, as the original code counts them; else by the frames' own clock."""
    if frames.kind != "video" or not frames.frame_indices:
        return None
    indices = frames.frame_indices
    if frames.fps:
        step = round(frames.fps)
        # One frame a second is counted in whole steps, whatever the exact rate.
        is_each_second = step > 0 and indices == tuple(range(0, frames.num_source_frames, step))
        rate = step if is_each_second else frames.fps
        return frames.num_source_frames / frames.fps, [index / rate for index in indices]
    if frames.duration_s is not None and len(frames.frame_times_s) == len(indices):
        return frames.duration_s, list(frames.frame_times_s)
    return None
