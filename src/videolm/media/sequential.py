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
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Pass", "decode_everything"]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass through a file has shown."""

    num_frames: int
    num_bad_frames: int
    """Packets that could not be read or decoded, and frames that the decoder calls damaged."""
    timeline: Timeline


def decode_everything(source: OpenedSource, wanted: Iterable[int], collector: FrameCollector) -> Pass:
    """Decode all frames, skip bad packets, and collect the wanted ones.

    Args:
        wanted: positions in display order, counted over the frames that come out.
    """
    positions = set(wanted)
    pts: list[int | None] = []
    num_bad_frames = 0
    with open_video(source, collector.limits) as (container, stream):
        for frame in _all_frames(container, stream, collector.deadline):
            if frame is None or frame.is_corrupt:
                num_bad_frames += 1
            if frame is None:
                continue
            if len(pts) in positions:
                collector.add(len(pts), frame)
            pts.append(frame.pts)
        timeline = make_timeline(pts, stream.time_base, stream.average_rate)
    return Pass(num_frames=len(pts), num_bad_frames=num_bad_frames, timeline=timeline)


def _all_frames(container: InputContainer, stream: VideoStream, deadline: Deadline) -> Iterator[VideoFrame | None]:
    """Every frame in the order of the decoder; None stands for a packet that gave an error."""
    for packet in demux(container, stream, deadline):
        try:
            frames: list[VideoFrame] | list[None] = [None] if packet is None else packet.decode()
        except FFmpegError:
            frames = [None]
        yield from frames
    try:
        yield from stream.codec_context.decode(None)
    except FFmpegError:
        return
