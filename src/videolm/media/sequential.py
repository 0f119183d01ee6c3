"""A video source and a sampling rule -> the sampled frames by decoding everything once, or twice, on one thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videolm.media.container import Deadline, demux, open_video
from videolm.media.frame_collector import FrameCollector
from videolm.media.source import OpenedSource
from videolm.media.timeline import Timeline, make_timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Pass", "decode_everything"]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass through a file has shown."""

    num_frames: int
    num_bad_frames: int
    """Packets that could not be read or decoded, and frames that were cut short or painted over."""
    timeline: Timeline


def decode_everything(source: OpenedSource, wanted: Iterable[int], collector: FrameCollector) -> Pass:
    """Decode all frames, skip bad packets, and collect the wanted ones.

    Args:
        wanted: positions in display order, counted over the frames that come out.
    """
    positions = set(wanted)
    pts: list[int | None] = []
    damage = _Damage()
    with open_video(source, collector.limits) as (container, stream):
        for frame in _all_frames(container, stream, damage, collector.deadline):
            if len(pts) in positions:
                collector.add(len(pts), frame)
            pts.append(frame.pts)
        timeline = make_timeline(pts, stream.time_base, stream.average_rate)
    return Pass(num_frames=len(pts), num_bad_frames=damage.num_frames, timeline=timeline)


@dataclass
class _Damage:
    """What went wrong in one pass; filled as the frames come out."""

    num_lost: int = 0
    num_cut_short: int = 0
    num_painted_over: int = 0

    @property
    def num_frames(self) -> int:
        """A frame cut short is painted over too, by the decoders that tell."""
        return self.num_lost + max(self.num_cut_short, self.num_painted_over)


def _all_frames(
    container: InputContainer, stream: VideoStream, damage: _Damage, deadline: Deadline
) -> Iterator[VideoFrame]:
    """Every frame in the order of the decoder."""
    for packet in demux(container, stream, deadline):
        if packet is None:
            damage.num_lost += 1
        else:
            yield from _decode(stream, packet, damage)
    yield from _decode(stream, None, damage)


def _decode(stream: VideoStream, packet: Packet[VideoStream] | None, damage: _Damage) -> list[VideoFrame]:
    try:
        frames = stream.codec_context.decode(packet)
    except FFmpegError:
        damage.num_lost += packet is not None
        return []
    damage.num_cut_short += packet is not None and packet.is_corrupt
    damage.num_painted_over += sum(frame.is_corrupt for frame in frames)
    return frames
