"""What a container promises and what was read of it -> how many frames are missing from a truncated file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import av

from videolm.media.packet_index import PacketIndex

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["num_missing_frames"]

CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def num_missing_frames(container: InputContainer, stream: VideoStream, index: PacketIndex) -> int:
    """Frames that an MP4's table lists, or a Matroska file's duration holds, beyond what could be read."""
    format_name = container.format.name
    if format_name.startswith("mov"):
        return max(0, len(stream.index_entries) - len(index))
    pts = [value for value in index.pts if value is not None]
    if not format_name.startswith("matroska") or not pts or not stream.time_base or not stream.average_rate:
        return 0
    end_s = float((max(pts) + index.last_duration) * stream.time_base)
    num_missing = round((_declared_end_s(container, stream) - end_s) * float(stream.average_rate))
    return num_missing if num_missing > 1 else 0  # Durations are rounded; one frame proves nothing.


def _declared_end_s(container: InputContainer, stream: VideoStream) -> float:
    """Where the stream ends by its own tag, or the file's end where no other stream can reach further."""
    if match := CLOCK.match(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if len(container.streams) == 1 and container.duration:
        return container.duration / av.time_base
    return 0.0
