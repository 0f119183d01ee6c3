"""What callers know of videos that are in memory: rates, lengths and where the frames stood, one value a video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videolm.errors import ArgumentError
from videolm.media.sampling import FrameSampling

_DESCRIPTIONS = ("width", "height", "video_backend")
_KEYS = ("fps", "total_num_frames", "frames_indices", "duration")

__all__ = ["VideoMetadata", "read_metadata"]


@dataclass(frozen=True, kw_only=True)
class VideoMetadata:
    """Of one video whose frames are in memory."""

    fps: float | None = None
    """Frames a second of the video that the frames are from."""
    num_source_frames: int | None = None
    """How many frames that video has; None: those in memory."""
    frame_indices: tuple[int, ...] | None = None
    """Where in it the frames in memory stood; None: they are all of its frames."""

    def choose(self, num_frames: int, sampling: FrameSampling) -> list[int]:
        """Which of ``num_frames`` frames in memory to take."""
        if sampling.rule == "fps" and self.fps is None:
            raise ArgumentError(
                f"{sampling.fps:g} frames a second were asked for, but nothing tells the rate of a video in memory: "
                'expected it in video_metadata. Pass video_metadata={"fps": ...}, or num_frames instead.'
            )
        share = num_frames / (self.num_source_frames or num_frames)
        return sampling.indices(num_frames, None if self.fps is None else self.fps * share)

    def indices_in_source(self, num_frames: int) -> Sequence[int]:
        """Where each of ``num_frames`` frames in memory stood."""
        if self.frame_indices is None and self.num_source_frames in (None, num_frames):
            return range(num_frames)
        found = 0 if self.frame_indices is None else len(self.frame_indices)
        if found != num_frames:
            raise ArgumentError(
                f"video_metadata has {found} frames_indices for a video of {num_frames} frames in memory and "
                f"{self.num_source_frames} in all: one for each frame in memory is expected. Add them."
            )
        assert self.frame_indices is not None
        return self.frame_indices


def read_metadata(value: Any, num_videos: int) -> list[VideoMetadata | None]:
    """What ``video_metadata`` says of each video.

    Args:
        value: A mapping with ``fps``, ``total_num_frames``, ``frames_indices`` and ``duration``; for several videos a
            list, or lists of lists, in which None stands for a video that is read from a file.
    """
    if value is None:
        return [None] * num_videos
    given = list(_flat(value))
    if len(given) != num_videos:
        raise ArgumentError(
            f"video_metadata says something of {len(given)} videos, but {num_videos} came: one value for each is "
            "expected. Pass a list, with None for videos that are read from files."
        )
    return [None if each is None else _read_one(each) for each in given]


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _read_one(value: Any) -> VideoMetadata:
    if not isinstance(value, Mapping) or not set(value) <= {*_KEYS, *_DESCRIPTIONS}:
        raise ArgumentError(
            f"video_metadata holds {value!r}: expected a mapping with {', '.join(_KEYS)} or some of them. "
            'Write {"fps": 25.0} for a video of which every frame is there.'
        )
    fps, total, indices, duration = (value.get(name) for name in _KEYS)
    if fps is None and duration and total:
        fps = total / duration
    if fps is not None and not (isinstance(fps, (int, float)) and math.isfinite(fps) and fps > 0):
        raise ArgumentError(
            f"video_metadata has fps {fps!r}: a number of frames a second above 0 is expected. Leave it out where the "
            "rate is not known."
        )
    return VideoMetadata(
        fps=fps,
        num_source_frames=total,
        frame_indices=None if indices is None else tuple(int(index) for index in indices),
    )
