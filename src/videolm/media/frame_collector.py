"""Decoded frames -> RGB arrays, turned upright, treated one by one, and kept by their position."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from videolm.media.container import Deadline, check_pixels
from videolm.media.limits import MediaLimits

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["FrameCollector", "OnFrame", "collect_pictures"]

OnFrame = Callable[[np.ndarray], np.ndarray]
"""Takes and gives a uint8 ``[H, W, 3]`` frame."""


@dataclass(kw_only=True)
class FrameCollector:
    """Keeps what ``on_frame`` makes of each frame; the full-size frame itself is dropped at once."""

    name: str
    limits: MediaLimits
    deadline: Deadline
    on_frame: OnFrame | None = None
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    """Height and width of the first frame in display order, upright, as decoded."""
    first_position: int | None = None

    def add(self, position: int, frame: VideoFrame) -> None:
        """Convert a frame and keep it under its position in display order."""
        check_pixels(frame.width, frame.height, self.name, self.limits)
        picture: np.ndarray = frame.to_ndarray(format="rgb24")
        if quarter_turns := round(frame.rotation / 90) % 4:
            picture = np.rot90(picture, quarter_turns)
        if self.first_position is None or position < self.first_position:
            self.first_position = position
            self.size = (picture.shape[0], picture.shape[1])
        picture = np.ascontiguousarray(picture)
        self.pictures[position] = picture if self.on_frame is None else self.on_frame(picture)

    def clear(self) -> None:
        """Forget all frames, before another try."""
        self.pictures.clear()
        self.first_position = None

    def has_all(self, positions: Iterable[int]) -> bool:
        """Whether each of these frames has come out."""
        return self.pictures.keys() >= set(positions)


def collect_pictures(
    indices: Iterable[int], read: Callable[[int], np.ndarray], deadline: Deadline, on_frame: OnFrame | None
) -> tuple[tuple[np.ndarray, ...], tuple[int, int]]:
    """What ``on_frame`` makes of pictures that can be read one by one, and the height and width of the first."""
    pixels: list[np.ndarray] = []
    size = (0, 0)
    for index in indices:
        deadline.check()
        picture = read(index)
        size = size if pixels else (picture.shape[0], picture.shape[1])
        pixels.append(picture if on_frame is None else on_frame(picture))
    return tuple(pixels), size
