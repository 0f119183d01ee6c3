"""Any medium a person can name or hold in memory -> ``Frames``; the one entry to this package."""

from __future__ import annotations

from typing import Any, Literal

from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ArgumentError, MediaError
from videolm.media.decode import decode_video
from videolm.media.frame_collector import OnFrame
from videolm.media.limits import MediaLimits
from videolm.media.picture_sequence import check_array, frame_files, sample_folder, sample_pictures
from videolm.media.pictures import decode_animation, load_picture, num_animation_frames, open_picture
from videolm.media.sampling import FrameSampling
from videolm.media.sniff import sniff
from videolm.media.source import OpenedSource, Progress, open_source

__all__ = ["check_at_sight", "load_media"]

KINDS = ("auto", "image", "video")


def load_media(
    source: Any,
    *,
    sampling: FrameSampling,
    on_frame: OnFrame | None = None,
    kind: Literal["auto", "image", "video"] = "auto",
    limits: MediaLimits | None = None,
    progress: Progress | None = None,
) -> Frames:
    """Read a picture, or the sampled frames of a video.

    Args:
        source: a path, bytes, a file object, a ``data:``, ``file:``, http or https URL; a folder of frames; a uint8
            array ``[H, W, 3]`` (a picture) or ``[F, H, W, 3]`` (a video), numpy or torch; a PIL image; a list of
            PIL images or arrays (a video); what ``open_source`` made of one; or ``Frames``, given back as they are.
        on_frame: applied to each sampled frame of a video as soon as it is there, never to a picture.
        kind: ``auto`` takes a GIF, WebP or PNG of several frames as a video.
        progress: called while a URL is downloaded.
    """
    if kind not in KINDS:
        raise ArgumentError(f"kind is {kind!r}. Expected one of {', '.join(KINDS)}. Choose one of these.")
    limits = limits or MediaLimits()
    if isinstance(source, Frames):
        return source
    if isinstance(source, Image.Image):
        return _from_picture(load_picture(source, "picture", limits), sampling, on_frame, kind, limits)
    if hasattr(source, "ndim"):
        return _from_array(source, sampling, on_frame, kind, limits)
    if isinstance(source, list | tuple):
        _refuse_image_kind(kind, "A list", "is a video")
        return sample_pictures(source, "list of frames", sampling=sampling, limits=limits, on_frame=on_frame)
    opened = open_source(source, limits, progress)
    if opened.path is not None and opened.path.is_dir():
        _refuse_image_kind(kind, opened.name, "is a folder of frames")
        return sample_folder(opened.path, opened.name, sampling=sampling, limits=limits, on_frame=on_frame)
    if sniff(opened.head(), opened.name) == "picture":
        return _from_picture_file(opened, sampling, on_frame, kind, limits)
    _refuse_image_kind(kind, opened.name, "is no picture")
    return decode_video(opened, sampling=sampling, limits=limits, on_frame=on_frame)


def check_at_sight(source: str, limits: MediaLimits | None = None) -> None:
    """Refuse what the first bytes, or the names in a folder, show to be no medium; nothing is downloaded or decoded."""
    limits = limits or MediaLimits()
    if source.lower().startswith(("http:", "https:")):
        return
    opened = open_source(source, limits)
    if opened.path is not None and opened.path.is_dir():
        frame_files(opened.path, opened.name, limits)
    else:
        sniff(opened.head(), opened.name)


def _from_picture_file(
    opened: OpenedSource, sampling: FrameSampling, on_frame: OnFrame | None, kind: str, limits: MediaLimits
) -> Frames:
    with open_picture(opened, limits) as image:
        if num_animation_frames(image, opened.name) == 1 or kind == "image":
            return _from_picture(load_picture(image, opened.name, limits), sampling, on_frame, kind, limits)
        if image.format != "GIF":
            return decode_animation(image, opened.name, sampling=sampling, limits=limits, on_frame=on_frame)
    return decode_video(opened, sampling=sampling, limits=limits, on_frame=on_frame)


def _from_array(
    source: Any, sampling: FrameSampling, on_frame: OnFrame | None, kind: str, limits: MediaLimits
) -> Frames:
    if source.ndim != 4:
        array = check_array(source, 3, "The array", limits)
        picture = Frames(kind="image", pixels=(array,), source="array", size=array.shape[:2])
        return _from_picture(picture, sampling, on_frame, kind, limits)
    _refuse_image_kind(kind, "An array of 4 dimensions", "is a video")
    frames = check_array(source, 4, "The array", limits)
    return sample_pictures(frames, "array", sampling=sampling, limits=limits, on_frame=on_frame)  # type: ignore[arg-type]


def _from_picture(
    picture: Frames, sampling: FrameSampling, on_frame: OnFrame | None, kind: str, limits: MediaLimits
) -> Frames:
    """Take a picture as what it is, or as a video of one frame where a video is asked for."""
    if kind != "video":
        return picture
    return sample_pictures(picture.pixels, picture.source, sampling=sampling, limits=limits, on_frame=on_frame)


def _refuse_image_kind(kind: str, name: str, found: str) -> None:
    if kind == "image":
        raise MediaError(f'{name} {found}. Expected a picture, as kind is "image". Pass kind="video" or "auto".')
