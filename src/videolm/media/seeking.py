"""A packet index and wanted packets -> their frames, decoding only what reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videolm.media.container import Deadline, demux
from videolm.media.packet_index import DecodeRun, PacketIndex, plan_runs

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["IndexUnusableError", "SeekingReader"]

# Decoders that can leave out frames to which no other refers. VP9 and AV1 decoders gain nothing from being asked, and
# a VP8 frame may hand on its segment map even where its picture is not referred to.
SKIPPING_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
SEEK_EARLIER_S = (0.0, 0.5, 2.0, 8.0, 32.0)


class IndexUnusableError(Exception):
    """The packet index does not lead to the wanted frames; never leaves ``media``."""


@dataclass(frozen=True, kw_only=True)
class SeekingReader:
    """One open file with its packet index."""

    container: InputContainer
    stream: VideoStream
    index: PacketIndex
    deadline: Deadline

    def frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Wanted frames with their file positions; some may be missing.

        Args:
            wanted: file positions of packets.
        """
        for run in plan_runs(self.index, wanted):
            yield from self._run(run)

    def _run(self, run: DecodeRun) -> Iterator[tuple[int, VideoFrame]]:
        context = self.stream.codec_context
        position_of = {self.index.pts[position]: position for position in run.wanted}
        can_skip = context.name in SKIPPING_CODECS
        packets = self._packets_from(run.start)
        for position in range(run.start, run.stop):
            packet = next(packets, None)
            if packet is None or packet.is_corrupt or packet.pts != self.index.pts[position]:
                raise IndexUnusableError
            if can_skip:
                context.skip_frame = "DEFAULT" if packet.pts in position_of else "NONREF"
            yield from _matching(_decode(context.decode, packet), position_of)
        # Flushing brings out what the decoder holds back for reordering, without reading on.
        yield from _matching(_decode(context.decode, None), position_of)
        context.flush_buffers()

    def _packets_from(self, start: int) -> Iterator[Packet[VideoStream] | None]:
        """Packets from a file position on, wherever the demuxer lands when asked to seek there."""
        start_pts, time_base = self.index.pts[start], self.stream.time_base
        assert start_pts is not None
        assert time_base is not None
        for earlier_s in SEEK_EARLIER_S:
            try:
                self.container.seek(start_pts - round(Fraction(earlier_s) / time_base), stream=self.stream)
            except FFmpegError:
                continue
            packets = demux(self.container, self.stream, self.deadline)
            first = next(packets, None)
            # Matroska gives no dts for B-frames, so the landing place is known by its pts.
            landed = None if first is None else self.index.position_of.get(first.pts)
            if landed == start:
                yield first
            if landed is not None and landed <= start:
                yield from islice(packets, max(0, start - landed - 1), None)
                return
        raise IndexUnusableError


def _decode(
    decode: Callable[[Packet[VideoStream] | None], list[VideoFrame]], packet: Packet[VideoStream] | None
) -> list[VideoFrame]:
    try:
        return decode(packet)
    except FFmpegError as error:
        raise IndexUnusableError from error


def _matching(frames: Iterable[VideoFrame], position_of: dict[int | None, int]) -> Iterator[tuple[int, VideoFrame]]:
    for frame in frames:
        if frame.is_corrupt:
            raise IndexUnusableError
        if frame.pts in position_of:
            yield position_of[frame.pts], frame
