"""The clips of the media tests: real files, each made once a session by PyAV's encoders from lavfi sources."""

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

LARGE = "smptehdbars=s=1280x720:r=30:d=2.2"
MOVING = "testsrc2=s=160x120:r=30:d=2"
X264 = {"preset": "veryfast", "g": "24", "bf": "3"}
OPEN_GOP = {"preset": "veryfast", "x264-params": "open-gop=1:keyint=20:min-keyint=20:bframes=3:b-adapt=0:scenecut=0"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=3"}
X265_OPEN_GOP = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=3:open-gop=1:b-adapt=0"}
VP8 = {"g": "20", "deadline": "realtime", "cpu-used": "8"}
VP9 = {"g": "20", "deadline": "realtime", "cpu-used": "8"}
AV1 = {"preset": "12", "crf": "50", "g": "20"}


def lavfi_frames(source: str) -> Iterator[av.VideoFrame]:
    with av.open(source, format="lavfi") as container:
        yield from container.decode(video=0)


def encode(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    *,
    source: str = MOVING,
    pix_fmt: str = "yuv420p",
    container_options: dict[str, str] | None = None,
    pts: Callable[[int], int] | None = None,
    rotation: int = 0,
    rate: int = 30,
) -> None:
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate, options=options or {})
        for i, frame in enumerate(lavfi_frames(source)):
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.time_base = Fraction(1, rate)
                if rotation:
                    stream.set_display_rotation(rotation)
            frame.pts, frame.time_base = (pts(i) if pts else i), Fraction(1, rate)
            frame.pict_type = 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def copy_packets(source: Path, path: Path, *, keep: Callable[[Any], bool] = lambda packet: True) -> None:
    """Write chosen packets to another container as they are."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.size and keep(packet):
                packet.stream = stream
                out.mux(packet)


def encode_sound(path: Path, codec: str, *, cover: bool = False) -> None:
    with av.open(str(path), "w") as out, av.open("sine=d=1", format="lavfi") as tone:
        stream: Any = out.add_stream(codec, rate=44100)
        if cover:
            picture: Any = out.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            (frame,) = lavfi_frames("testsrc2=s=64x64:r=1:d=1")
            for packet in [*picture.encode(frame.reformat(format="yuvj420p")), *picture.encode(None)]:
                out.mux(packet)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=44100)
        for frame in tone.decode(audio=0):
            for resampled in resampler.resample(frame):
                out.mux(stream.encode(resampled))
        out.mux(stream.encode(None))


def encode_sizes(path: Path) -> None:
    """Two recordings of different size in one transport stream, whose clocks start anew."""
    for part in (first := path.with_suffix(".1.ts"), second := path.with_suffix(".2.ts")):
        encode(part, "libx264", X264, source=MOVING if part == first else "testsrc2=s=96x64:r=30:d=1")
    path.write_bytes(first.read_bytes() + second.read_bytes())


def cut_with_edit_list(source: Path, path: Path) -> None:
    """A stream copy that starts between two key packets: the packets before its start are kept and not shown."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        start, key, end = (round(seconds / stream.time_base) for seconds in (0.95, 0.8, 1.7))
        for packet in container.demux(stream):
            if packet.size and key <= packet.pts < end:
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = copy
                out.mux(packet)


def hide_frames(source: Path, path: Path) -> None:
    """Clear the bit that says that a VP8 frame is shown, in three packets."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0])
        for i, packet in enumerate(container.demux(container.streams.video[0])):
            if packet.size:
                data = bytearray(bytes(packet))
                data[0] &= 0xEF if i in (5, 17, 33) else 0xFF
                changed = av.Packet(bytes(data))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, copy
                out.mux(changed)


def truncate(source: Path, path: Path, share: float = 0.6) -> None:
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def rot(source: Path, path: Path) -> None:
    """Turn over every bit of twelve bytes."""
    data = bytearray(source.read_bytes())
    for position in np.random.default_rng(0).integers(len(data) // 5, len(data) * 9 // 10, 12):
        data[position] ^= 0xFF
    path.write_bytes(data)


def frameless(path: Path, container_options: dict[str, str] | None = None) -> None:
    """A video stream without a packet."""
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream: Any = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()


Clip = Callable[[str], Path]
CLIPS: dict[str, Callable[[Path, Clip], object]] = {
    "h264.mp4": lambda path, _: encode(path, "libx264", X264),
    "large.mp4": lambda path, _: encode(path, "libx264", X264 | {"preset": "ultrafast"}, source=LARGE),
    "large.h264": lambda path, _: encode(path, "libx264", X264 | {"preset": "ultrafast"}, source=LARGE),
    "h264.mkv": lambda path, _: encode(path, "libx264", X264),
    "h264.ts": lambda path, _: encode(path, "libx264", X264),
    "h264.avi": lambda path, _: encode(path, "libx264", X264),
    "h264.flv": lambda path, _: encode(path, "libx264", X264),
    "h264.mov": lambda path, _: encode(path, "libx264", X264),
    "faststart.mp4": lambda path, _: encode(path, "libx264", X264, container_options={"movflags": "faststart"}),
    "fragmented.mp4": lambda path, _: encode(
        path, "libx264", X264, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "one-group.mp4": lambda path, _: encode(path, "libx264", X264 | {"g": "1000"}),
    "open-group.mp4": lambda path, _: encode(path, "libx264", OPEN_GOP),
    "open-group.ts": lambda path, _: encode(path, "libx264", OPEN_GOP),
    "intra-refresh.mp4": lambda path, _: encode(
        path, "libx264", {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    ),
    "10-bit.mp4": lambda path, _: encode(path, "libx264", X264, pix_fmt="yuv420p10le"),
    "odd-size-444.mp4": lambda path, _: encode(
        path, "libx264", X264, pix_fmt="yuv444p", source="testsrc2=s=161x119:r=30:d=1"
    ),
    "interlaced.mp4": lambda path, _: encode(path, "libx264", X264 | {"x264-params": "interlaced=1:tff=1"}),
    "interlaced.ts": lambda path, _: encode(path, "mpeg2video", {"g": "15", "bf": "2", "flags": "+ildct+ilme"}),
    "vfr.mp4": lambda path, _: encode(path, "libx264", X264, pts=lambda i: i * i // 7 + 3 * i),
    "vfr.mkv": lambda path, _: encode(path, "libx264", X264, pts=lambda i: i * i // 7 + 3 * i),
    "rotated-90.mp4": lambda path, _: encode(path, "libx264", X264, rotation=90),
    "rotated-180.mp4": lambda path, _: encode(path, "libx264", X264, rotation=180),
    "rotated-270.mov": lambda path, _: encode(path, "libx264", X264, rotation=-90),
    "one-frame.mp4": lambda path, _: encode(path, "libx264", X264, source="testsrc2=s=160x120:r=30:d=0.033"),
    "hevc.mp4": lambda path, _: encode(path, "libx265", X265),
    "hevc-10-bit.mkv": lambda path, _: encode(path, "libx265", X265, pix_fmt="yuv420p10le"),
    "hevc-open-group.mkv": lambda path, _: encode(path, "libx265", X265_OPEN_GOP),
    "vp8.webm": lambda path, _: encode(path, "libvpx", VP8),
    "vp9.webm": lambda path, _: encode(path, "libvpx-vp9", VP9),
    "vp9.mp4": lambda path, _: encode(path, "libvpx-vp9", VP9),
    "av1.mp4": lambda path, _: encode(path, "libsvtav1", AV1),
    "av1.mkv": lambda path, _: encode(path, "libsvtav1", AV1),
    "mpeg4.avi": lambda path, _: encode(path, "mpeg4", {"g": "20", "bf": "2"}),
    "mpeg4.mp4": lambda path, _: encode(path, "mpeg4", {"g": "20", "bf": "2"}),
    "mpeg2.mpg": lambda path, _: encode(path, "mpeg2video", {"g": "15", "bf": "2"}),
    "mjpeg.avi": lambda path, _: encode(path, "mjpeg", pix_fmt="yuvj420p"),
    "wmv2.asf": lambda path, _: encode(path, "wmv2", {"g": "15"}),
    "animation.gif": lambda path, _: encode(path, "gif", pix_fmt="rgb8", source="testsrc2=s=160x120:r=25:d=1", rate=25),
    "odd-size.gif": lambda path, _: encode(path, "gif", pix_fmt="bgr8", source="testsrc2=s=161x119:r=30:d=1"),
    "raw.h264": lambda path, _: encode(path, "libx264", X264),
    "raw.hevc": lambda path, _: encode(path, "libx265", X265),
    "edit-list.mp4": lambda path, clip: cut_with_edit_list(clip("h264.mp4"), path),
    "hidden-frames.webm": lambda path, clip: hide_frames(clip("vp8.webm"), path),
    "starts-inside-a-group.ts": lambda path, clip: path.write_bytes(clip("h264.ts").read_bytes()[188 * 60 :]),
    "size-changes.ts": lambda path, _: encode_sizes(path),
    "truncated-faststart.mp4": lambda path, clip: truncate(clip("faststart.mp4"), path),
    "truncated-fragmented.mp4": lambda path, clip: truncate(clip("fragmented.mp4"), path),
    "truncated.mkv": lambda path, clip: truncate(clip("h264.mkv"), path),
    "truncated.ts": lambda path, clip: truncate(clip("h264.ts"), path),
    "truncated-header.mp4": lambda path, clip: truncate(clip("h264.mp4"), path),
    "rotten.mp4": lambda path, clip: rot(clip("h264.mp4"), path),
    "rotten.ts": lambda path, clip: rot(clip("h264.ts"), path),
    "rotten-mpeg4.mp4": lambda path, clip: rot(clip("mpeg4.mp4"), path),
    "rotten-av1.mp4": lambda path, clip: rot(clip("av1.mp4"), path),
    "frameless.mp4": lambda path, _: frameless(path),
    "frameless.mkv": lambda path, _: frameless(path),
    "frameless-fragmented.mp4": lambda path, _: frameless(path, {"movflags": "empty_moov+frag_keyframe"}),
    "sound.mp4": lambda path, _: encode_sound(path, "aac"),
    "sound.mp3": lambda path, _: encode_sound(path, "libmp3lame"),
    "sound-and-cover.mp3": lambda path, _: encode_sound(path, "libmp3lame", cover=True),
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """``clip(name)`` is the path of one of ``CLIPS``, made on first use."""
    folder = tmp_path_factory.mktemp("clips")
    os.environ.setdefault("SVT_LOG", "0")  # Its encoder writes to standard error otherwise.

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            CLIPS[name](path, make)
        return path

    return make
