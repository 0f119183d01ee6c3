"""Pictures in memory or in a folder, in order -> sampled frames; such a sequence has no clock of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ArgumentError, MediaLimitError, MediaNotFoundError
from videolm.media.container import Deadline, check_pixels
from videolm.media.frame_choice import choose_frames, warn_of_few_frames
from videolm.media.frame_collector import OnFrame, collect_pictures
from videolm.media.limits import MediaLimits
from videolm.media.pictures import open_picture, rgb_array
from videolm.media.sampling import FrameSampling
from videolm.media.source import OpenedSource
from videolm.media.wording import printable

__all__ = ["check_array", "frame_files", "sample_folder", "sample_pictures"]

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")


def sample_folder(
    folder: Path, name: str, *, sampling: FrameSampling, limits: MediaLimits, on_frame: OnFrame | None = None
) -> Frames:
    """Sample a folder of frames; only the chosen ones are opened."""
    files = frame_files(folder, name, limits)

    def read(index: int) -> np.ndarray:
        frame_name = printable(str(files[index]))
        with open_picture(OpenedSource(name=frame_name, path=files[index]), limits) as image:
            return rgb_array(image, frame_name, limits)

    return _sample(len(files), read, name, "folder", sampling=sampling, limits=limits, on_frame=on_frame)


def sample_pictures(
    pictures: Sequence[Any], name: str, *, sampling: FrameSampling, limits: MediaLimits, on_frame: OnFrame | None = None
) -> Frames:
    """Sample a sequence of PIL images or of uint8 ``[H, W, 3]`` arrays."""
    if not len(pictures):
        raise ArgumentError(f"{name} holds no frames. Expected at least one. Pass the frames of the video.")

    def read(index: int) -> np.ndarray:
        picture = pictures[index]
        if isinstance(picture, Image.Image):
            return rgb_array(picture, f"frame {index}", limits)
        return check_array(picture, 3, f"Frame {index}", limits)

    return _sample(len(pictures), read, name, "array", sampling=sampling, limits=limits, on_frame=on_frame)


def frame_files(folder: Path, name: str, limits: MediaLimits) -> list[Path]:
    """The pictures of a folder in natural order: frame2 before frame10."""
    with os.scandir(folder) as entries:
        files = []
        for entry in entries:
            if entry.name.lower().endswith(FRAME_SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
                files.append(Path(entry.path))
            if len(files) > limits.max_packets:
                raise MediaLimitError(
                    f"{name} holds more than {limits.max_packets} pictures. Expected at most max_packets. "
                    "Divide the folder, or raise max_packets.",
                    limit="max_packets",
                )
    if not files:
        raise MediaNotFoundError(
            f"The folder {name} holds no pictures. Expected frames as {', '.join(FRAME_SUFFIXES[:4])} and the like. "
            "Pass a folder of frames, or a video file."
        )
    return sorted(files, key=lambda file: (_natural_key(file.name), file.name))


def check_array(array: Any, num_dimensions: int, name: str, limits: MediaLimits) -> np.ndarray:
    """Take a numpy or torch array that is uint8 with RGB last, and nothing else."""
    taken = np.asarray(array.detach().cpu() if hasattr(array, "cpu") else array)
    layout = "[H, W, 3]" if num_dimensions == 3 else "[F, H, W, 3]"
    shape = list(taken.shape)
    if taken.dtype != np.uint8:
        raise ArgumentError(
            f"{name} has dtype {taken.dtype}. Expected uint8 with values from 0 to 255. "
            "Scale it to that range and convert it to uint8."
        )
    if taken.ndim != num_dimensions or shape[-1] != 3 or 0 in shape[-3:]:
        is_channels_first = taken.ndim == num_dimensions and shape[-3] == 3 and 0 not in shape
        advice = "Move the channels to the end" if is_channels_first else "Convert it to RGB frames of that shape"
        raise ArgumentError(f"{name} has shape {shape}. Expected {layout}. {advice}.")
    check_pixels(shape[-2], shape[-3], name, limits)
    return taken


def _sample(
    num_source_frames: int,
    read: Callable[[int], np.ndarray],
    name: str,
    method: str,
    *,
    sampling: FrameSampling,
    limits: MediaLimits,
    on_frame: OnFrame | None,
) -> Frames:
    deadline = Deadline(name, limits.max_decode_s)
    indices = choose_frames(num_source_frames, None, sampling, name, limits)
    pixels, size = collect_pictures(indices, read, deadline, on_frame)
    return Frames(
        kind="video",
        pixels=pixels,
        source=name,
        size=size,
        frame_indices=tuple(indices),
        num_source_frames=num_source_frames,
        method=method,
        warnings=warn_of_few_frames(num_source_frames, sampling, name),
    )


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, the rest as text."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]
