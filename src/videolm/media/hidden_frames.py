"""A VP8 or VP9 packet -> whether it holds only a frame that is never shown.

Encoders of these two may write a reference frame as a packet of its own, with its own time stamp. It is decoded and
never comes out, so it must not be counted as a frame. Only the first bits of the packet are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["shows_no_frame"]


def shows_no_frame(packet: Packet[VideoStream], codec: str) -> bool:
    """Whether the packet holds a frame that is decoded and not shown."""
    if codec == "vp8":
        return not memoryview(packet)[0] & 0b0001_0000
    if codec == "vp9":
        data = memoryview(packet)
        return not _is_vp9_superframe(data[-1]) and not _vp9_shows_frame(data[0], data[1] if len(data) > 1 else 0)
    return False


def _is_vp9_superframe(last_byte: int) -> bool:
    """A packet of several frames ends on a marker; its last frame is shown."""
    return last_byte >> 5 == 0b110


def _vp9_shows_frame(first_byte: int, second_byte: int) -> bool:
    """Read marker (2 bits), profile (2, and 1 reserved for profile 3), show_existing, type, show_frame."""
    bits = f"{first_byte:08b}{second_byte:08b}"
    is_profile_3 = bits[2:4] == "11"
    show_existing = bits[4 + is_profile_3] == "1"
    show_frame = bits[6 + is_profile_3] == "1"
    return show_existing or show_frame
