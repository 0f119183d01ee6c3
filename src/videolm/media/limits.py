"""What a medium from outside may cost: one frozen dataclass of bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from videolm.errors import ArgumentError

__all__ = ["MediaLimits"]


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Bounds on one medium; the defaults leave room for any ordinary film."""

    max_bytes: int = 1 << 29
    """Most bytes taken into memory: a download, a data: URI, bytes, a stream. A file on disk is not bound by it."""
    timeout_s: float = 50.0
    """Most seconds for a whole download, redirects included."""
    max_redirects: int = 5
    """Most redirects followed by one download."""
    allow_private_hosts: bool = False
    """Fetch URLs of private, loopback and link-local addresses too."""
    max_pixels: int = 1 << 26
    """Most pixels of a picture or of one frame."""
    max_duration_s: float = 6 * 3600.0
    """Longest video, in seconds."""
    max_packets: int = 2_000_000
    """Most packets (frames) in a video file, frames of an animation, or files in a folder."""
    max_decode_s: float = 300.0
    """Most seconds spent on decoding one video; looked at between two packets."""
    max_frames: int = 4096
    """Most frames taken from one video."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 0 if field.name == "max_redirects" else 1e-3
            if field.name == "allow_private_hosts":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < lowest:
                expected = "0 or more" if lowest == 0 else "above 0"
                raise ArgumentError(
                    f"{field.name} is {value!r}. Expected a number {expected}. Give the bound in the unit of its name."
                )
