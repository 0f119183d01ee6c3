"""A video file's packets, read without decoding -> which of them are frames, in display order, and how to reach some.

The position of a packet among the shown packets, sorted by presentation time, is the position at which decoding
everything would bring its frame. So a frame's number is known before anything is decoded::

    file order      I0 P3 B1 B2 | I6 B4 B5 P7     pts as written; B4 B5 are leading pictures of an open group
    display order    0  1  2  3    4  5  6  7
    to reach 7:                   I6 ...... P7    from the key packet before it
    to reach 4:     I0 ............. B4           its pts is below its key's, so from the key before that one
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from videolm.media.hidden_frames import shows_no_frame

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_REORDER = 64
"""Frames; H.264 and HEVC hold back 16 at most."""

__all__ = ["DecodeRun", "PacketIndex", "plan_runs"]


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """Packets to feed to the decoder without a break, as positions in file order."""

    start: int
    """A key packet."""
    stop: int
    """One past the last wanted packet."""
    wanted: tuple[int, ...]
    """File positions of the wanted packets, ascending."""


@dataclass
class PacketIndex:
    """Presentation time, key flag and shown flag of every packet with data, in file order."""

    pts: list[int | None] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_shown: list[bool] = field(default_factory=list)
    position_of: dict[int | None, int] = field(default_factory=dict)
    """File position by presentation time."""
    num_unreadable: int = 0
    """Places that the demuxer could not read."""
    num_missing: int = 0
    """Packets that the container promises beyond the end of a truncated file."""
    last_duration: int = 0
    """Of the last packet read, in the stream's time base; 0 where unknown."""

    def add(self, packet: Packet[VideoStream], codec: str) -> None:
        """Note one packet; one without data is no frame."""
        if packet.size == 0:
            return
        self.position_of[packet.pts] = len(self.pts)
        self.pts.append(packet.pts)
        self.is_key.append(packet.is_keyframe)
        self.is_shown.append(not packet.is_discard and not shows_no_frame(packet, codec))
        self.last_duration = packet.duration or self.last_duration

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def num_frames(self) -> int:
        """How many packets are shown."""
        return sum(self.is_shown)

    @property
    def is_in_file_order(self) -> bool:
        """Whether frames are shown in the order of the file, by their time stamps."""
        return all(a is not None and b is not None and a < b for a, b in pairwise(self.pts))

    def display_order(self) -> list[int] | None:
        """File position of each frame in display order; None where time stamps cannot tell it.

        They cannot where one is missing or repeated, or where the file does not start on a key packet with nothing
        shown before it: a decoder then drops frames, and only decoding tells how many.
        """
        pts = [value for value in self.pts if value is not None]
        if not pts or len(pts) < len(self.pts) or len(set(pts)) < len(pts) or not self.is_key[0]:
            return None
        shown = [position for position, is_shown in enumerate(self.is_shown) if is_shown]
        order = sorted(shown, key=lambda position: pts[position])
        if order and pts[order[0]] < pts[0]:
            return None
        # Two recordings joined in one file may start their clocks anew; no codec reorders as far as that.
        far = any(abs(file - display) > MAX_REORDER for file, display in zip(shown, order, strict=True))
        return None if far else order


def plan_runs(index: PacketIndex, wanted: Iterable[int]) -> list[DecodeRun]:
    """Group wanted packets into runs, each from the key packet that reaches its first one.

    Args:
        wanted: file positions.
    """
    keys = [position for position, is_key in enumerate(index.is_key) if is_key]
    runs: list[DecodeRun] = []
    key_rank = -1
    for target in sorted(set(wanted)):
        while key_rank + 1 < len(keys) and keys[key_rank + 1] <= target:
            key_rank += 1
        start = keys[_reaching_key(index.pts, keys, key_rank, target)]
        group: tuple[int, ...] = (target,)
        # Going one group back for a leading picture may reach into several runs before.
        while runs and start <= runs[-1].stop:
            last = runs.pop()
            start, group = min(start, last.start), last.wanted + group
        runs.append(DecodeRun(start=start, stop=target + 1, wanted=group))
    return runs


def _reaching_key(pts: Sequence[int | None], keys: Sequence[int], key_rank: int, target: int) -> int:
    """Rank of the key to start from: one further back for a leading picture, which needs the group before."""
    target_pts, key_pts = pts[target], pts[keys[key_rank]]
    assert target_pts is not None
    assert key_pts is not None
    return max(0, key_rank - 1) if target_pts < key_pts else key_rank
