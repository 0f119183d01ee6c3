"""Makes the H.264 clips that the benchmarks read, once, in a cache folder outside the repository."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av.filter

CACHE = Path(tempfile.gettempdir()) / "videolm-benchmarks"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """FFmpeg's test picture with light noise, as x264 makes it by default: long groups of pictures, B-frames."""

    duration_s: int
    height: int = 720
    width: int = 1280
    fps: int = 30
    bit_rate: int = 2_500_000
    noise: int = 6
    seed: int = 1
    """Of the noise: clips of different seeds are different videos."""

    @property
    def name(self) -> str:
        return f"{self.duration_s} s, {self.width}x{self.height}"

    @property
    def file_name(self) -> str:
        seed = f"_{self.seed}" if self.seed > 1 else ""
        return (
            f"h264_{self.width}x{self.height}_{self.fps}fps_{self.duration_s}s_{self.bit_rate}_{self.noise}{seed}.mp4"
        )

    @property
    def description(self) -> str:
        return (
            f"{self.duration_s} s of {self.width}x{self.height} H.264 at {self.fps} fps, {self.bit_rate / 1e6:g} Mbit/s"
            f" (x264 medium, testsrc2 with temporal noise {self.noise})"
        )


def make_clip(clip: Clip, cache: Path = CACHE) -> Path:
    """The clip's file, made if the cache does not hold it yet."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / clip.file_name
    if not path.exists():
        partial = path.with_suffix(".partial.mp4")
        _encode(clip, partial)
        os.replace(partial, path)
    return path


def make_long_clip(clip: Clip, duration_s: int, cache: Path = CACHE) -> Path:
    """A clip repeated up to a duration, its packets copied: an hour is there in seconds."""
    source, path = make_clip(clip, cache), cache / f"{duration_s}s_of_{clip.file_name}"
    if not path.exists():
        partial = path.with_suffix(".partial.mp4")
        _repeat(source, duration_s // clip.duration_s, partial)
        os.replace(partial, path)
    return path


def _repeat(source: Path, times: int, path: Path) -> None:
    import av

    with av.open(str(source)) as once, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(once.streams.video[0])
        packets = [packet for packet in once.demux(video=0) if packet.size]
        base = once.streams.video[0].time_base
        assert base is not None
        stamps = [(packet.dts or 0, packet.pts or 0) for packet in packets]
        length = int(once.streams.video[0].duration or 0)
        for turn in range(times):
            for packet, (dts, pts) in zip(packets, stamps, strict=True):
                packet.stream, packet.time_base = stream, base
                packet.dts, packet.pts = dts + turn * length, pts + turn * length
                output.mux(packet)


def _encode(clip: Clip, path: Path) -> None:
    import av
    from av.video.frame import PictureType

    graph = _test_picture(clip)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=clip.fps, options={"preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.bit_rate = clip.bit_rate
        for _ in range(clip.duration_s * clip.fps):
            frame: Any = graph.pull()
            frame.pict_type = PictureType.NONE  # the source marks every frame as a key frame, and x264 would obey
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _test_picture(clip: Clip) -> av.filter.Graph:
    import av.filter

    graph = av.filter.Graph()
    size = f"size={clip.width}x{clip.height}:rate={clip.fps}"
    graph.link_nodes(
        graph.add("testsrc2", size),
        graph.add("noise", f"alls={clip.noise}:allf=t:all_seed={clip.seed}"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()
    return graph
