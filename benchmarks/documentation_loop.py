"""The peer: what the documentation of these models tells its readers to do with a video.

Written from the described behaviour. Reading: decode from the first frame on, keep those whose position is wanted, stop
after the last one. Preparing: frame by frame, PIL bicubic to a short side, centre crop, rescale and normalise in numpy.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image


def read_frames(path: Path, num_frames: int) -> np.ndarray:
    """Evenly spaced frames from the first one on, by the frame count that the container states.

    Returns:
        ``[F, H, W, 3]`` uint8.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = np.arange(0, stream.frames, stream.frames / num_frames).astype(int)
        kept = []
        for position, frame in enumerate(container.decode(video=0)):
            if position > wanted[-1]:
                break
            if position in wanted:
                kept.append(frame)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in kept])


def prepare_frames(frames: np.ndarray, *, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Frames as ``[F, 3, side, side]`` bfloat16."""
    prepared = []
    for frame in frames:
        cropped = _crop_centre(_resize_short_side(frame, side), side)
        values = cropped.astype(np.float32) * np.float32(1 / 255)
        values = (values - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
        prepared.append(values.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(prepared)).to(torch.bfloat16)


def _resize_short_side(frame: np.ndarray, side: int) -> np.ndarray:
    height, width = frame.shape[:2]
    size = (int(side * width / height), side) if width >= height else (side, int(side * height / width))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def _crop_centre(frame: np.ndarray, side: int) -> np.ndarray:
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]
