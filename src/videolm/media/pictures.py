"""A picture file or a PIL image -> an upright RGB array; an animation -> sampled frames with their times."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from videolm.contracts import Frames
from videolm.errors import MediaError, MediaLimitError
from videolm.media.container import Deadline, check_duration, check_pixels
from videolm.media.frame_choice import choose_frames, warn_of_few_frames
from videolm.media.frame_collector import OnFrame, collect_pictures
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling
from videolm.media.source import OpenedSource
from videolm.media.wording import printable

__all__ = ["decode_animation", "load_picture", "num_animation_frames", "open_picture", "rgb_array"]

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# Other formats of several pictures hold pages or views, of which the first is the picture.
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
WARNINGS_LOCK = threading.Lock()


@contextmanager
def open_picture(source: OpenedSource, limits: MediaLimits) -> Iterator[Image.Image]:
    """Read a picture's header and check its size; pixels are decoded later, inside the block or not at all."""
    with _refusing_damage(source.name):
        image = _read_header(source)
    with image:
        check_pixels(*image.size, source.name, limits)
        yield image


def num_animation_frames(image: Image.Image, name: str) -> int:
    """Frames of an animation; 1 for a still picture."""
    with _refusing_damage(name):
        return int(getattr(image, "n_frames", 1)) if image.format in ANIMATED_FORMATS else 1


def rgb_array(image: Image.Image, name: str, limits: MediaLimits) -> np.ndarray:
    """Turn a picture upright by its EXIF orientation and convert it; transparency is dropped, not blended.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    check_pixels(*image.size, name, limits)
    with _refusing_damage(name):
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def load_picture(image: Image.Image, name: str, limits: MediaLimits) -> Frames:
    """One picture as a medium."""
    pixels = rgb_array(image, name, limits)
    return Frames(kind="image", pixels=(pixels,), source=name, size=pixels.shape[:2], method="picture")


def decode_animation(
    image: Image.Image, name: str, *, sampling: FrameSampling, limits: MediaLimits, on_frame: OnFrame | None = None
) -> Frames:
    """Sample an animated WebP, PNG or AVIF; every frame is decoded, as its time is the sum of those before."""
    num_frames = num_animation_frames(image, name)
    if num_frames > limits.max_packets:
        raise MediaLimitError(
            f"{name} has {num_frames} frames. Expected at most max_packets={limits.max_packets}. "
            "Cut it into shorter parts, or raise max_packets.",
            limit="max_packets",
        )
    deadline = Deadline(name, limits.max_decode_s)
    durations_s = [_duration_s(image, index, name, deadline) for index in range(num_frames)]
    total_s = sum(durations_s)
    check_duration(total_s, name, limits)
    fps = num_frames / total_s if total_s > 0 else None
    times_s = list(accumulate(durations_s, initial=0.0))
    indices = choose_frames(num_frames, fps, sampling, name, limits)

    def read(index: int) -> np.ndarray:
        with _refusing_damage(name):
            image.seek(index)
        return rgb_array(image, name, limits)

    pixels, size = collect_pictures(indices, read, deadline, on_frame)
    return Frames(
        kind="video",
        pixels=pixels,
        source=name,
        size=size,
        frame_indices=tuple(indices),
        frame_times_s=tuple(times_s[index] for index in indices) if fps else (),
        num_source_frames=num_frames,
        fps=fps,
        duration_s=total_s if fps else None,
        method="picture",
        warnings=warn_of_few_frames(num_frames, sampling, name),
    )


def _duration_s(image: Image.Image, index: int, name: str, deadline: Deadline) -> float:
    deadline.check()
    with _refusing_damage(name):
        image.seek(index)
        image.load()  # WebP tells a frame's duration only then.
    return float(image.info.get("duration", 0)) / 1000


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; a damaged EXIF block says nothing, and nothing about the picture either."""
    with _quiet_pil(), suppress(OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


@contextmanager
def _quiet_pil() -> Iterator[None]:
    """Keep PIL's warnings from standard error; Python's warning filters are shared by all threads."""
    with WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_header(source: OpenedSource) -> Image.Image:
    with _quiet_pil():  # PIL warns of large pictures, which check_pixels refuses by our own limit.
        return Image.open(source.path or source.rewound(), formats=PICTURE_FORMATS)


@contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    """Turn whatever a picture's parser raises over damaged bytes into one line."""
    try:
        yield
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaLimitError(
            f"{name} has too many pixels to be read ({error}). Expected a picture of ordinary size. Scale it down."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error) as error:
        is_unknown = isinstance(error, UnidentifiedImageError)
        reason = "its header is damaged or of another kind" if is_unknown else printable(str(error))
        raise MediaError(
            f"{name} cannot be read as a picture: {reason}. Expected a whole PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or "
            "AVIF file. Check that it was copied whole."
        ) from error
