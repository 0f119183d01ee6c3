"""Pictures and videos as people pass them to processors in, RGB arrays with the channels last out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from videolm.contracts import Frames
from videolm.errors import ArgumentError
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

ChannelFormat = Literal["channels_first", "channels_last", "none"]
_FORMATS: tuple[ChannelFormat, ...] = ("channels_first", "channels_last", "none")
_EVERY_FRAME = FrameSampling(rule="fps", num_frames=None, fps=1e6)
_PICTURE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif")

__all__ = ["ChannelFormat", "channel_format", "layout_of", "read_pictures", "read_videos"]


def channel_format(value: Any, name: str = "data_format") -> ChannelFormat | None:
    """A format from its word, or from an enumeration with that value."""
    value = getattr(value, "value", value)
    if value is not None and value not in _FORMATS:
        raise ArgumentError(f"{name} is {value!r}: expected one of {', '.join(_FORMATS)}. Choose one of these.")
    return value  # type: ignore[no-any-return]


def read_pictures(images: Any, input_format: ChannelFormat | None = None, *, rgb: bool = True) -> list[np.ndarray]:
    """Every picture in ``images``: one, a batch, or nested lists of them.

    Returns:
        ``[H, W, 3]`` each, uint8, or float32 as they came.
    """
    if isinstance(images, (list, tuple)):
        return [picture for item in images for picture in read_pictures(item, input_format, rgb=rgb)]
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim > 3:
            return [picture for item in images for picture in read_pictures(item, input_format, rgb=rgb)]
        return [_rgb(_array(images), input_format, rgb)]
    return [load_media(images, sampling=_EVERY_FRAME, kind="image").pixels[0]]


def read_videos(
    videos: Any,
    input_format: ChannelFormat | None = None,
    *,
    files: FrameSampling | None,
    arrays: FrameSampling | None = None,
    on_frame: Callable[[np.ndarray], np.ndarray] | None = None,
    rgb: bool = True,
) -> list[list[np.ndarray]]:
    """The frames of every video in ``videos``: one, a batch, or nested lists of them.

    Args:
        files: Which frames of a path or URL to take; None: every one. ``arrays``: the same of frames in memory.
        on_frame: Applied to each frame, once; to one that is decoded before the next one is.
    """
    options: dict[str, Any] = {"files": files, "arrays": arrays, "on_frame": on_frame, "rgb": rgb}
    if isinstance(videos, (np.ndarray, Tensor)):
        if videos.ndim > 4:
            return [clip for item in videos for clip in read_videos(item, input_format, **options)]
        clip = _array(videos if videos.ndim == 4 else videos[None])
        return [_chosen([_rgb(frame, input_format or layout_of(clip), rgb) for frame in clip], arrays, on_frame)]
    if not isinstance(videos, (list, tuple)):
        return [list(load_media(videos, sampling=files or _EVERY_FRAME, kind="video", on_frame=on_frame).pixels)]
    if videos and all(_is_frame(item) for item in videos):
        return [_chosen(read_pictures(videos, input_format, rgb=rgb), arrays, on_frame)]
    return [clip for item in videos for clip in read_videos(item, input_format, **options)]


def _is_frame(item: Any) -> bool:
    """Whether a list of such items is one video."""
    if isinstance(item, (np.ndarray, Tensor)):
        return item.ndim <= 3
    if isinstance(item, (str, Path)):
        return str(item).lower().endswith(_PICTURE_FILES)
    return not isinstance(item, (list, tuple, bytes, Frames)) and hasattr(item, "convert")


def _chosen(
    frames: Sequence[np.ndarray], sampling: FrameSampling | None, on_frame: Callable[[np.ndarray], np.ndarray] | None
) -> list[np.ndarray]:
    if not frames:
        raise ArgumentError("A video holds no frames: at least one is expected. Pass the frames of the video.")
    chosen = list(frames) if sampling is None else [frames[index] for index in sampling.indices(len(frames), None)]
    return chosen if on_frame is None else [on_frame(frame) for frame in chosen]


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def layout_of(array: np.ndarray) -> ChannelFormat:
    """Where the channels of ``[…, H, W]``, ``[…, C, H, W]`` or ``[…, H, W, C]`` stand; first where both could be."""
    if array.ndim == 2:
        return "none"
    for channels in ((3,), (1, 4)):
        if array.shape[-3] in channels:
            return "channels_first"
        if array.shape[-1] in channels:
            return "channels_last"
    raise ArgumentError(
        f"An array has shape {list(array.shape)}: 1, 3 or 4 channels are expected first or last. Pass RGB pictures."
    )


def _rgb(array: np.ndarray, input_format: ChannelFormat | None, convert: bool) -> np.ndarray:
    layout = input_format or layout_of(array)
    if layout == "none" or array.ndim == 2:
        array = array[..., None]
    elif layout == "channels_first":
        array = np.moveaxis(array, -3, -1)
    channels = array.shape[-1]
    if channels != 3 and not (convert and channels in (1, 4)):
        raise ArgumentError(
            f"A picture has {channels} channels: 3 are expected. Pass RGB, or do_convert_rgb=True for 1 or 4 channels."
        )
    # As everywhere here, transparency is dropped and not blended.
    array = np.repeat(array, 3, axis=-1) if channels == 1 else array[..., :3]
    return _uint8_or_float(array)


def _uint8_or_float(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ArgumentError(
            f"A picture has whole numbers from {array.min()} to {array.max()}: 0 to 255 are expected. "
            "Scale it to that range."
        )
    return array.astype(np.uint8)
