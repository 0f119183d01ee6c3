"""A video source and a sampling rule -> the sampled frames, byte for byte as decoding everything would give them.

The packet index tells which packet is which frame; only what reaches the wanted frames is decoded, and frames to
which no other refers are left out. Where time stamps cannot tell the order, a seek fails or a decoder reports damage,
everything is decoded in one pass on one thread, with bad packets skipped and counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from videolm.contracts import Frames
from videolm.errors import MediaError, MediaLimitError
from videolm.media.container import Deadline, check_duration, demux, keeps_display_times, open_video
from videolm.media.frame_choice import choose_frames, warn_of_few_frames
from videolm.media.frame_collector import FrameCollector, OnFrame
from videolm.media.limits import MediaLimits
from videolm.media.packet_index import PacketIndex
from videolm.media.sampling import FrameSampling
from videolm.media.seeking import IndexUnusableError, SeekingReader
from videolm.media.sequential import Pass, decode_everything
from videolm.media.source import OpenedSource
from videolm.media.timeline import make_timeline
from videolm.media.truncation import num_missing_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["decode_video"]


def decode_video(
    source: OpenedSource, *, sampling: FrameSampling, limits: MediaLimits, on_frame: OnFrame | None = None
) -> Frames:
    """Read the frames that ``sampling`` chooses.

    Args:
        on_frame: applied to each frame as it comes out of the decoder, so that large ones need not be kept.
    """
    collector = FrameCollector(
        name=source.name, limits=limits, deadline=Deadline(source.name, limits.max_decode_s), on_frame=on_frame
    )
    index = PacketIndex()
    try:
        indices, result, method = *_decode_by_index(source, index, sampling, collector), "packet-index"
    except IndexUnusableError:
        collector.clear()
        indices, result, method = *_decode_by_passes(source, index, sampling, collector), "sequential"
    times_s = result.timeline.times_s
    return Frames(
        kind="video",
        pixels=tuple(collector.pictures[i] for i in indices),
        source=source.name,
        size=collector.size,
        frame_indices=tuple(indices),
        frame_times_s=tuple(times_s[i] for i in indices) if times_s else (),
        num_source_frames=result.num_frames,
        fps=result.timeline.fps,
        duration_s=result.timeline.duration_s,
        method=method,
        num_bad_frames=result.num_bad_frames,
        warnings=_warn_of_damage(result, source.name) + warn_of_few_frames(result.num_frames, sampling, source.name),
    )


def _decode_by_index(
    source: OpenedSource, index: PacketIndex, sampling: FrameSampling, collector: FrameCollector
) -> tuple[list[int], Pass]:
    """Fill the index, then decode what reaches the chosen frames."""
    name, limits = source.name, collector.limits
    with open_video(source, limits) as (container, stream):
        _read_index(container, stream, index, collector)
        # A decoder that reorders contradicts time stamps that do not: they were made up from the order in the file.
        is_made_up = index.is_in_file_order and stream.codec_context.has_b_frames
        order = index.display_order()
        if not order or (is_made_up and not keeps_display_times(container, stream)):
            raise IndexUnusableError
        pts = [index.pts[position] for position in order]
        timeline = make_timeline(pts, stream.time_base, stream.average_rate, index.last_duration)
        check_duration(timeline.duration_s or 0.0, name, limits)
        indices = choose_frames(len(order), timeline.fps, sampling, name, limits)
        reader = SeekingReader(container=container, stream=stream, index=index, deadline=collector.deadline)
        index_of = {order[i]: i for i in indices}
        for position, frame in reader.frames(index_of):
            collector.add(index_of[position], frame)
        if not collector.has_all(indices):
            raise IndexUnusableError
    num_bad_frames = index.num_unreadable + index.num_missing
    return indices, Pass(num_frames=len(order), num_bad_frames=num_bad_frames, timeline=timeline)


def _decode_by_passes(
    source: OpenedSource, index: PacketIndex, sampling: FrameSampling, collector: FrameCollector
) -> tuple[list[int], Pass]:
    """Guess from the number of packets which frames to keep; where the guess was wrong, decode a second time."""
    name, limits = source.name, collector.limits
    with open_video(source, limits) as (_, stream):
        declared_fps = float(stream.average_rate) if stream.average_rate else None
    guess = choose_frames(index.num_frames, declared_fps, sampling, name, limits)
    result = decode_everything(source, guess, collector)
    if not result.num_frames:
        raise MediaError(
            f"{name} holds a video stream of {len(index)} packets, and no frame that can be decoded. "
            "Expected at least one. Check that it was copied whole."
        )
    check_duration(result.timeline.duration_s or 0.0, name, limits)
    indices = choose_frames(result.num_frames, result.timeline.fps, sampling, name, limits)
    if indices != guess:
        collector.clear()
        result = decode_everything(source, indices, collector)
    return indices, replace(result, num_bad_frames=result.num_bad_frames + index.num_missing)


def _read_index(container: InputContainer, stream: VideoStream, index: PacketIndex, collector: FrameCollector) -> None:
    codec = stream.codec_context.name
    for packet in demux(container, stream, collector.deadline):
        if packet is None:
            index.num_unreadable += 1
            continue
        index.add(packet, codec)
        if len(index) > collector.limits.max_packets:
            raise MediaLimitError(
                f"{collector.name} has more than {collector.limits.max_packets} packets. Expected at most max_packets. "
                "Cut it into shorter parts, or raise max_packets.",
                limit="max_packets",
            )
    index.num_missing = num_missing_frames(container, stream, index)


def _warn_of_damage(result: Pass, name: str) -> tuple[str, ...]:
    if not result.num_bad_frames:
        return ()
    count = f"{result.num_bad_frames} frame{'s' * (result.num_bad_frames != 1)}"
    return (f"{name} is damaged: {count} could not be read whole; {result.num_frames} frames remain.",)
