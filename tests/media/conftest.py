"""The clips of the media tests: real files, each made once a session by PyAV's encoders from lavfi sources."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

MOVING = "testsrc2=s=160x120:r=30:d=2"
B_FRAMES = {"g": "24", "bf": "3", "preset": "veryfast"}
FAST_AV1 = {"preset": "12", "crf": "50", "g": "20"}
QUIET_X265 = "log-level=none:keyint=20:bframes=3"


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
