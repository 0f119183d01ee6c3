"""What became of one medium in a decoder process, as a header and raw pixels, and back as ``Frames`` or an error."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np

import videolm.errors
from videolm.contracts import Frames
from videolm.errors import MediaError, MediaLimitError, VideoLMError
from videolm.media.limits import MediaLimits
from videolm.media.wording import printable
from videolm.media.worker_wire import WireError, receive_into, send

__all__ = ["read_answer", "send_error", "send_frames"]

TOLD = ("frame_indices", "frame_times_s", "num_source_frames", "fps", "duration_s", "method", "num_bad_frames")
"""Fields of ``Frames`` that are JSON as they are."""


def send_frames(sock: socket.socket, frames: Frames) -> None:
    """Answer with what was decoded."""
    told = {name: getattr(frames, name) for name in (*TOLD, "kind", "size", "warnings")}
    send(sock, {"frames": told, "shapes": [picture.shape for picture in frames.pixels]})
    for picture in frames.pixels:
        sock.sendall(np.ascontiguousarray(picture).data.cast("B"))


def send_error(sock: socket.socket, error: Exception, name: str) -> None:
    """Answer with what went wrong; what is none of our own errors is the medium's fault too."""
    if isinstance(error, MemoryError):
        error = MediaLimitError(
            f"{name} takes more memory than a decoder process has. Expected a medium of ordinary size. Scale it down."
        )
    elif not isinstance(error, VideoLMError):
        reason = printable(f"{type(error).__name__}: {error}")
        error = MediaError(
            f"{name} cannot be decoded ({reason}). Expected a whole video or picture. "
            "Check that it was copied whole, or convert it, for example with ffmpeg."
        )
    told = {"type": type(error).__name__, "message": str(error), "limit": getattr(error, "limit", None)}
    send(sock, {"error": told})


def read_answer(
    sock: socket.socket, header: Mapping[str, Any], name: str, *, limits: MediaLimits, max_bytes: int, ends: float
) -> Frames | VideoLMError:
    """Take an answer whose header has come; every value is checked, since a hostile file may have written it.

    Args:
        name: What the medium is called here.
        max_bytes: Most bytes of all frames together.
        ends: When the last pixel must be here, on the monotonic clock.

    Raises:
        TimeoutError: It is not.
        WireError: The answer is not what a decoder says.
    """
    try:
        if "error" in header:
            return _error(**header["error"])
        shapes = [_shape(shape) for shape in header["shapes"]]
        fields = _fields(**header["frames"])
        if len(shapes) > limits.max_frames or sum(math.prod(shape) for shape in shapes) > max_bytes:
            raise ValueError("more pixels than allowed")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"an answer is not understood: {error}") from error
    pixels = []
    for shape in shapes:
        picture = np.empty(shape, np.uint8)
        receive_into(sock, picture.data.cast("B"), ends=ends)
        pixels.append(picture)
    return Frames(pixels=tuple(pixels), source=name, **fields)


def _error(*, type: str, message: str, limit: str | None) -> VideoLMError:
    kind = getattr(videolm.errors, type) if type in videolm.errors.__all__ else MediaError
    error: VideoLMError = kind(" ".join(str(message).split()))
    if isinstance(error, MediaError):
        error.limit = None if limit is None else str(limit)
    return error


def _shape(shape: Any) -> tuple[int, int, int]:
    height, width, channels = map(int, shape)
    if height < 1 or width < 1 or channels != 3:
        raise ValueError(f"the shape {shape} of a frame")
    return height, width, channels


def _fields(
    *,
    kind: str,
    size: Any,
    frame_indices: Any,
    frame_times_s: Any,
    num_source_frames: Any,
    fps: Any,
    duration_s: Any,
    method: Any,
    num_bad_frames: Any,
    warnings: Any,
) -> dict[str, Any]:
    height, width = map(int, size)
    return {
        "kind": {"image": "image", "video": "video"}[kind],
        "size": (height, width),
        "frame_indices": tuple(map(int, frame_indices)),
        "frame_times_s": tuple(map(float, frame_times_s)),
        "num_source_frames": int(num_source_frames),
        "fps": None if fps is None else float(fps),
        "duration_s": None if duration_s is None else float(duration_s),
        "method": str(method),
        "num_bad_frames": int(num_bad_frames),
        "warnings": tuple(" ".join(str(line).split()) for line in warnings),
    }
