"""Pictures and videos as people pass them to processors in, RGB arrays with the channels last out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from videolm.contracts import Frames, MediaKind
from videolm.errors import ArgumentError
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.processing.video_metadata import VideoMetadata, read_metadata

ChannelFormat = Literal["channels_first", "channels_last", "none"]
_FORMATS: tuple[ChannelFormat, ...] = ("channels_first", "channels_last", "none")
_EVERY_FRAME = FrameSampling(rule="fps", num_frames=None, fps=1e6)
_PICTURE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif")

__all__ = ["ChannelFormat", "channel_format", "counts_by_prompt", "layout_of", "read_pictures", "read_videos"]


def channel_format(value: Any, name: str = "data_format") -> ChannelFormat | None:
    """A format from its word, or from an enumeration with that value."""
    value = getattr(value, "value", value)
    if value is not None and value not in _FORMATS:
        raise ArgumentError(f"{name} is {value!r}: expected one of {', '.join(_FORMATS)}. Choose one of these.")
    return value  # type: ignore[no-any-return]


def read_pictures(
    images: Any,
    input_format: ChannelFormat | None = None,
    *,
    rgb: bool = True,
    onto_white: bool = False,
    limits: MediaLimits | None = None,
) -> list[np.ndarray]:
    """Every picture in ``images``: one, a batch, or nested lists of them.

    Args:
        rgb: Make three channels of one or four; otherwise three are expected.
        onto_white: Lay transparent pictures in memory onto white; otherwise transparency is dropped, as it is of files.

    Returns:
        ``[H, W, 3]`` each, uint8, or floats as they came.
    """
    return [_read_picture(picture, input_format, rgb, onto_white, limits) for picture in _each_picture(images)]


def _read_picture(
    picture: Any, input_format: ChannelFormat | None, rgb: bool, onto_white: bool, limits: MediaLimits | None
) -> np.ndarray:
    if isinstance(picture, (np.ndarray, Tensor)):
        return _rgb(_array(picture), input_format, rgb, onto_white)
    if onto_white and isinstance(picture, Image.Image) and picture.has_transparency_data:
        laid = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        laid.info.update(picture.info)  # which way up it is
        picture = laid
    return load_media(picture, sampling=_EVERY_FRAME, kind="image", limits=limits).pixels[0]


def read_videos(
    videos: Any,
    input_format: ChannelFormat | None = None,
    *,
    files: FrameSampling | None,
    arrays: FrameSampling | None = None,
    metadata: Any = None,
    on_frame: Callable[[np.ndarray], np.ndarray] | None = None,
    rgb: bool = True,
    limits: MediaLimits | None = None,
) -> list[Frames]:
    """The frames of every video in ``videos``: one, a batch, or nested lists of them.

    Args:
        files: Which frames of a path or URL to take; None: every one. ``arrays``: the same of frames in memory.
        metadata: What is known of frames in memory; see ``read_metadata``.
        on_frame: Applied to each frame, once; to one that is decoded before the next one is.
        limits: On files and URLs.
    """
    sources = _each_video(videos)
    read = []
    for source, known in zip(sources, read_metadata(metadata, len(sources)), strict=True):
        if isinstance(source, (np.ndarray, Tensor)):
            clip = _array(source if source.ndim == 4 else source[None])
            frames = [_rgb(frame, input_format or layout_of(clip), rgb, onto_white=False) for frame in clip]
            read.append(_in_memory(frames, arrays, known, on_frame))
        elif isinstance(source, (list, tuple)):
            frames = read_pictures(source, input_format, rgb=rgb, limits=limits)
            read.append(_in_memory(frames, arrays, known, on_frame))
        else:
            read.append(_loaded(source, files, known, on_frame, limits))
    return read


def counts_by_prompt(images: Any, videos: Any, num_prompts: int) -> dict[MediaKind, list[int]]:
    """How many media of each kind were given for each prompt, where they were given as a list of lists."""
    counts: dict[MediaKind, list[int]] = {}
    kinds: tuple[tuple[MediaKind, Any, Callable[[Any], list[Any]]], ...] = (
        ("image", images, _each_picture),
        ("video", videos, _each_video),
    )
    for kind, media, each in kinds:
        if isinstance(media, (list, tuple)) and len(media) == num_prompts:
            found = [each(item) for item in media]
            if all(_is_list_of(item, parts) for item, parts in zip(media, found, strict=True)):
                counts[kind] = [len(parts) for parts in found]
    return counts


def _is_list_of(item: Any, parts: list[Any]) -> bool:
    """Whether an item is a list of these media, and not one of them itself, as a list of frames is."""
    return isinstance(item, (list, tuple)) and not (len(parts) == 1 and parts[0] is item)


def _each_picture(images: Any) -> list[Any]:
    is_batch = isinstance(images, (np.ndarray, Tensor)) and images.ndim > 3
    if is_batch or isinstance(images, (list, tuple)):
        return [picture for item in images for picture in _each_picture(item)]
    return [images]


def _each_video(videos: Any) -> list[Any]:
    """Each video by itself: an array, a list of frames, or what names a file."""
    is_batch = isinstance(videos, (np.ndarray, Tensor)) and videos.ndim > 4
    if is_batch or (isinstance(videos, (list, tuple)) and not (videos and all(_is_frame(item) for item in videos))):
        return [video for item in videos for video in _each_video(item)]
    return [videos]


def _is_frame(item: Any) -> bool:
    """Whether a list of such items is one video."""
    if isinstance(item, (np.ndarray, Tensor)):
        return item.ndim <= 3
    if isinstance(item, (str, Path)):
        return str(item).lower().endswith(_PICTURE_FILES)
    return not isinstance(item, (list, tuple, bytes, Frames)) and hasattr(item, "convert")


def _loaded(
    source: Any,
    sampling: FrameSampling | None,
    known: VideoMetadata | None,
    on_frame: Callable[[np.ndarray], np.ndarray] | None,
    limits: MediaLimits | None,
) -> Frames:
    if known is not None:
        raise ArgumentError(
            f"video_metadata was given for {str(source)[:60]!r}: it is expected for frames in memory alone, since a "
            "file says itself how long it lasts. Leave it out, or put None at that video's place in the list."
        )
    if isinstance(source, Frames):
        return source if on_frame is None else replace(source, pixels=tuple(map(on_frame, source.pixels)))
    return load_media(source, sampling=sampling or _EVERY_FRAME, kind="video", on_frame=on_frame, limits=limits)


def _in_memory(
    frames: Sequence[np.ndarray],
    sampling: FrameSampling | None,
    known: VideoMetadata | None,
    on_frame: Callable[[np.ndarray], np.ndarray] | None,
) -> Frames:
    if not frames:
        raise ArgumentError("A video holds no frames: at least one is expected. Pass the frames of the video.")
    known = known or VideoMetadata()
    chosen = range(len(frames)) if sampling is None else known.choose(len(frames), sampling)
    indices = known.indices_in_source(len(frames))
    taken = [frames[index] for index in chosen]
    return Frames(
        kind="video",
        pixels=tuple(taken if on_frame is None else map(on_frame, taken)),
        source="a video in memory",
        size=(frames[0].shape[0], frames[0].shape[1]),
        frame_indices=tuple(indices[index] for index in chosen),
        num_source_frames=known.num_source_frames or len(frames),
        fps=known.fps,
    )


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


def _rgb(array: np.ndarray, input_format: ChannelFormat | None, convert: bool, onto_white: bool) -> np.ndarray:
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
    array = _uint8_or_float(array)
    if channels == 4 and onto_white:
        return _onto_white(array)
    return np.repeat(array, 3, axis=-1) if channels == 1 else array[..., :3]


def _onto_white(array: np.ndarray) -> np.ndarray:
    """``[H, W, 4]`` laid onto white as transformers does it; floats are from 0 to 1, or to 255 where one is above 1."""
    is_bytes = array.dtype == np.uint8
    white = np.float32(255 if is_bytes or array.max() > 1 else 1)
    share = array.astype(np.float32) / white if is_bytes else array / white
    laid = share[..., :3] * share[..., 3:] + (1 - share[..., 3:])
    # Its way back to bytes: never rounded, and 1 becomes 255.
    return (laid * np.float32(255.999)).astype(np.uint8) if is_bytes else laid * white


def _uint8_or_float(array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.uint8, np.float32, np.float64):
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ArgumentError(
            f"A picture has whole numbers from {array.min()} to {array.max()}: 0 to 255 are expected. "
            "Scale it to that range."
        )
    return array.astype(np.uint8)
