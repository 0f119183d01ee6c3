"""An opened source -> a PyAV container of an allowed format and its one video stream, within the limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError
from av.stream import Disposition

from videolm.errors import MediaError, MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.source import OpenedSource

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["Deadline", "check_duration", "check_pixels", "demux", "keeps_display_times", "open_video"]

# Demuxers by FFmpeg's names. None of them follows a reference to another file or host.
VIDEO_FORMATS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "gif", "ogg", "mxf", "nut", "dv", "ivf"),
    *("h264", "hevc", "vvc", "obu", "av1", "m4v", "mpegvideo", "mjpeg", "yuv4mpegpipe", "rm", "wtv"),
)
# Opened only to say that they hold sound and no video.
AUDIO_FORMATS = ("mp3", "wav", "flac", "aac", "aiff", "ac3", "eac3", "amr", "w64", "caf")
BUFFER_BYTES = 1 << 18
MAX_DEMUX_ERRORS = 100
NOT_A_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True)
class Deadline:
    """When decoding one medium must be over."""

    name: str
    limit_s: float
    started: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raise if the time is up."""
        if time.monotonic() - self.started > self.limit_s:
            raise MediaLimitError(
                f"Decoding {self.name} took longer than {self.limit_s:g} s. Expected it to end within max_decode_s. "
                "Pass a shorter or smaller video, or raise max_decode_s.",
                limit="max_decode_s",
            )


@contextmanager
def open_video(source: OpenedSource, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container with decoding on one thread; closed on leaving."""
    with _open_container(source, limits) as container:
        stream = _video_stream(container, source.name)
        context = stream.codec_context
        if context is None:
            raise MediaError(
                f"{source.name} holds video in a format that the decoders here do not know. Expected for example "
                "H.264, HEVC, VP9 or AV1. Convert it, for example with ffmpeg."
            )
        check_pixels(context.width, context.height, source.name, limits)
        # Damaged files decode the same way twice on one thread only; many files give the parallelism.
        context.thread_count = 1
        context.thread_type = "NONE"
        context.options = {"max_pixels": str(limits.max_pixels)}
        yield container, stream


def demux(container: InputContainer, stream: VideoStream, deadline: Deadline) -> Iterator[Packet[VideoStream] | None]:
    """Packets with data in file order; None stands for a place that cannot be read."""
    for _ in range(MAX_DEMUX_ERRORS):
        try:
            for packet in container.demux(stream):
                deadline.check()
                if packet.size:
                    yield packet
            return
        except IndexError:
            return  # PyAV's, after the last packet, where a stream has appeared in the middle of the file.
        except (FFmpegError, OSError):
            deadline.check()
            yield None


def keeps_display_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the container stores when frames are shown, not only in which order they are decoded.

    AVI does not, nor does Matroska for streams taken over from AVI, which keep their four-letter code.
    """
    if container.format.name.startswith("matroska"):
        return not stream.codec_context.codec_tag.strip("\0")
    return container.format.name != "avi"


def check_pixels(width: int, height: int, name: str, limits: MediaLimits) -> None:
    """Refuse a picture or frame with more pixels than allowed."""
    if width * height > limits.max_pixels:
        raise MediaLimitError(
            f"{name} has {width}x{height} = {width * height} pixels. Expected at most {limits.max_pixels} a picture. "
            "Scale it down, or raise max_pixels.",
            limit="max_pixels",
        )


def _open_container(source: OpenedSource, limits: MediaLimits) -> InputContainer:
    # The prefix keeps a name such as `concat:a|b` from being read as another protocol.
    target = source.rewound() if source.path is None else "file:" + os.path.abspath(source.path)
    options = {
        "protocol_whitelist": "none" if source.path is None else "file",
        "format_whitelist": ",".join(VIDEO_FORMATS + AUDIO_FORMATS),
    }
    try:
        return av.open(
            target,
            mode="r",
            options=options,
            buffer_size=BUFFER_BYTES,
            metadata_errors="replace",
            timeout=limits.max_decode_s,
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{source.name} cannot be read as a video: {_reason(error)}. Expected a whole MP4, MKV, WebM, MOV, AVI, TS "
            "or GIF file. Check that it was copied whole, or convert it, for example with ffmpeg."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "its header is missing or damaged"
    if isinstance(error, av.error.EOFError):
        return "it ends before its first frame"
    if isinstance(error, av.error.ArgumentError):
        return "its format is not one of the allowed ones"
    return getattr(error, "strerror", None) or type(error).__name__


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    videos = container.streams.video
    for stream in videos:
        if not stream.disposition & NOT_A_VIDEO:
            return stream
    num_audio = len(container.streams.audio)
    if videos:
        found = f"{name} holds no video, only a cover picture" + (" and sound" if num_audio else "")
    elif num_audio:
        found = f"{name} holds sound only ({num_audio} audio stream{'s' * (num_audio > 1)})"
    else:
        found = f"{name} holds no video stream"
    raise MediaError(f"{found}. Expected a file with a video stream. Pass a video or a picture.")


def check_duration(duration_s: float, name: str, limits: MediaLimits) -> None:
    """Refuse a video longer than allowed."""
    if duration_s > limits.max_duration_s:
        raise MediaLimitError(
            f"{name} is {duration_s:.0f} s long. Expected at most {limits.max_duration_s:.0f} s. "
            "Cut it into shorter parts, or raise max_duration_s.",
            limit="max_duration_s",
        )
