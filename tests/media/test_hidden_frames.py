"""Packets of VP8 and VP9 that hold a frame which is never shown."""

from typing import Any

import av
import pytest

from videolm.media.hidden_frames import shows_no_frame

# VP9: marker 10, profile 00, show_existing, type, show_frame, error_resilient.
INTER_SHOWN, INTER_HIDDEN, SHOW_EXISTING = 0b1000_0110, 0b1000_0100, 0b1000_1000
# Profile 3 has one reserved bit more.
PROFILE_3_SHOWN, PROFILE_3_HIDDEN = 0b1011_0011, 0b1011_0010
SUPERFRAME_MARKER = 0b1100_0001


@pytest.mark.parametrize(
    ("codec", "data", "is_hidden"),
    [
        ("vp8", [0b0001_0001, 0], False),
        ("vp8", [0b0000_0001, 0], True),
        ("vp9", [INTER_SHOWN, 0, 0], False),
        ("vp9", [INTER_HIDDEN, 0, 0], True),
        ("vp9", [SHOW_EXISTING], False),
        ("vp9", [PROFILE_3_SHOWN, 0, 0], False),
        ("vp9", [PROFILE_3_HIDDEN, 0, 0], True),
        ("vp9", [INTER_HIDDEN, 0, SUPERFRAME_MARKER], False),
        ("h264", [0, 0], False),
    ],
)
def test_the_shown_bit_is_read(codec: str, data: list[int], is_hidden: bool) -> None:
    packet: Any = av.Packet(bytes(data))

    assert shows_no_frame(packet, codec) is is_hidden
