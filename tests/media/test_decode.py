"""Sampled frames against decoding everything: equal byte for byte, for every container, codec and quirk."""

import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from videolm.contracts import Frames
from videolm.errors import MediaError, MediaLimitError
from videolm.media.decode import decode_video
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling
from videolm.media.source import open_source

Clip = Callable[[str], Path]

BY_INDEX = (
    *("h264.mp4", "h264.mkv", "h264.ts", "h264.flv", "h264.mov", "faststart.mp4", "fragmented.mp4", "one-group.mp4"),
    *("open-group.mp4", "open-group.ts", "10-bit.mp4", "odd-size-444.mp4", "interlaced.mp4", "interlaced.ts"),
    *("vfr.mp4", "vfr.mkv", "rotated-90.mp4", "rotated-180.mp4", "rotated-270.mov", "one-frame.mp4"),
    *("hevc.mp4", "hevc-10-bit.mkv", "hevc-open-group.mkv", "vp8.webm", "vp9.webm", "vp9.mp4", "av1.mp4", "av1.mkv"),
    *("mpeg4.avi", "mpeg4.mp4", "mjpeg.avi", "wmv2.asf", "animation.gif", "odd-size.gif"),
    *("edit-list.mp4", "hidden-frames.webm"),
)
SEQUENTIALLY = ("raw.h264", "raw.hevc", "h264.avi", "mpeg2.mpg", "starts-inside-a-group.ts", "intra-refresh.mp4")
DAMAGED = (
    *("truncated-faststart.mp4", "truncated-fragmented.mp4", "truncated.mkv", "truncated.ts"),
    *("rotten.mp4", "rotten.ts", "rotten-mpeg4.mp4", "rotten-av1.mp4"),
)


def decode(path: Path, sampling: FrameSampling | None = None, limits: MediaLimits | None = None) -> Frames:
    return decode_video(
        open_source(path), sampling=sampling or FrameSampling(num_frames=8), limits=limits or MediaLimits()
    )


def decode_everything(path: Path) -> tuple[list[np.ndarray], list[float | None]]:
    """Every frame, upright, with its time; packets that the decoder refuses are skipped."""
    pictures, times = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                pictures.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                times.append(frame.time)
    return pictures, times


def assert_equal_to_decoding_everything(path: Path, frames: Frames) -> None:
    pictures, times = decode_everything(path)
    indices = FrameSampling(num_frames=8).indices(len(pictures), frames.fps)
    assert frames.num_source_frames == len(pictures)
    assert frames.frame_indices == tuple(indices)
    assert [np.array_equal(ours, pictures[i]) for i, ours in zip(indices, frames.pixels, strict=True)] == [True] * len(
        indices
    )
    assert frames.size == pictures[0].shape[:2]
    if None not in times and times == sorted(times):
        assert frames.frame_times_s == pytest.approx([times[i] - times[0] for i in indices])


@pytest.mark.parametrize("name", BY_INDEX)
def test_frames_reached_by_the_packet_index_are_exact(name: str, clip: Clip) -> None:
    frames = decode(clip(name))

    assert (frames.kind, frames.method, frames.num_bad_frames) == ("video", "packet-index", 0)
    assert_equal_to_decoding_everything(clip(name), frames)


@pytest.mark.parametrize("name", SEQUENTIALLY)
def test_files_whose_time_stamps_do_not_lead_to_frames_are_read_in_one_pass(name: str, clip: Clip) -> None:
    frames = decode(clip(name))

    assert (frames.method, frames.num_bad_frames, frames.warnings) == ("sequential", 0, ())
    assert_equal_to_decoding_everything(clip(name), frames)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_give_the_frames_that_are_left_and_say_so(name: str, clip: Clip) -> None:
    frames = decode(clip(name))

    assert frames.num_bad_frames > 0
    assert len(frames.warnings) == 1
    count = f"{frames.num_bad_frames} frame{'s' * (frames.num_bad_frames != 1)}"
    assert f"is damaged: {count} could not be read whole; {frames.num_source_frames} frames rem" in frames.warnings[0]
    assert_equal_to_decoding_everything(clip(name), frames)


@pytest.mark.parametrize("name", ["truncated-faststart.mp4", "truncated.mkv"])
def test_the_frames_missing_from_a_truncated_file_are_counted(name: str, clip: Clip) -> None:
    frames = decode(clip(name))

    assert frames.num_source_frames + frames.num_bad_frames == 60


@pytest.mark.parametrize("name", ["h264.mp4", "open-group.mp4", "hevc-open-group.mkv", "edit-list.mp4", "mpeg4.avi"])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 13, 1000])
def test_any_number_of_frames_is_exact(name: str, num_frames: int, clip: Clip) -> None:
    frames = decode(clip(name), FrameSampling(num_frames=num_frames))
    pictures, _ = decode_everything(clip(name))

    assert frames.method == "packet-index"
    assert len(frames.pixels) == min(num_frames, len(pictures))
    for i, ours in zip(frames.frame_indices, frames.pixels, strict=True):
        np.testing.assert_array_equal(ours, pictures[i])


def test_frames_of_a_stream_that_changes_size_keep_their_own_sizes(clip: Clip) -> None:
    frames = decode(clip("size-changes.ts"))
    pictures, _ = decode_everything(clip("size-changes.ts"))

    assert frames.method == "sequential"
    assert frames.size == (120, 160)
    assert {picture.shape[:2] for picture in frames.pixels} == {(120, 160), (64, 96)}
    for i, ours in zip(frames.frame_indices, frames.pixels, strict=True):
        np.testing.assert_array_equal(ours, pictures[i])


def test_what_is_told_about_a_video(clip: Clip) -> None:
    frames = decode(clip("h264.mkv"))

    assert frames.source == str(clip("h264.mkv"))
    assert frames.size == (120, 160)
    assert frames.frame_indices == (0, 8, 16, 25, 33, 42, 50, 59)
    assert frames.frame_times_s == pytest.approx([i / 30 for i in frames.frame_indices], abs=1e-3)
    assert (frames.num_source_frames, frames.fps, frames.warnings) == (60, 30.0, ())
    assert frames.duration_s == pytest.approx(2.0, abs=1e-3)


def test_times_count_from_the_first_frame_shown(clip: Clip) -> None:
    assert decode(clip("h264.ts")).frame_times_s[0] == 0.0
    assert decode(clip("edit-list.mp4")).frame_times_s[0] == 0.0


def test_fewer_frames_than_asked_for_are_all_used_and_said(clip: Clip) -> None:
    path = clip("one-frame.mp4")

    frames = decode(path)

    assert frames.frame_indices == (0,)
    assert frames.warnings == (f"{path} has 1 frame, fewer than the 8 asked for; all of them are used.",)


def test_the_fps_rule_uses_the_rate_of_the_file(clip: Clip) -> None:
    sampling = FrameSampling(rule="fps", fps=5.0, num_frames=None)

    assert decode(clip("h264.mp4"), sampling).frame_indices == tuple(range(0, 60, 6))
    assert decode(clip("raw.h264"), sampling).frame_indices == tuple(range(0, 60, 5))  # 25 frames a second is assumed.


def test_only_what_reaches_the_wanted_frames_is_decoded(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from videolm.media import seeking

    num_out = 0
    matching = seeking._matching

    def count(frames: list[av.VideoFrame], position_of: dict[int | None, int]) -> object:
        nonlocal num_out
        num_out += len(frames)
        return matching(frames, position_of)

    monkeypatch.setattr(seeking, "_matching", count)
    decode(clip("h264.mp4"), FrameSampling(rule="arange", num_frames=2))

    # Frame 0, and what leads from the key frame 24 to frame 30.
    assert num_out < 8


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MediaLimits(max_pixels=160 * 120 - 1), "has 160x120 = 19200 pixels. Expected at most 19199 a picture."),
        (MediaLimits(max_duration_s=1.0), "is 2 s long. Expected at most 1 s."),
        (MediaLimits(max_packets=59), "has more than 59 packets. Expected at most max_packets."),
        (MediaLimits(max_frames=7), "8 frames of {path} were asked for. Expected at most 7 from one video."),
    ],
)
@pytest.mark.parametrize("name", ["h264.mp4", "raw.h264"])
def test_each_limit_holds(name: str, limits: MediaLimits, message: str, clip: Clip) -> None:
    path = clip(name)

    with pytest.raises(MediaLimitError) as caught:
        decode(path, limits=limits)

    assert message.format(path=path) in str(caught.value)


@pytest.mark.parametrize("name", ["h264.mp4", "raw.h264"])
def test_decoding_ends_when_its_time_is_up(name: str, clip: Clip) -> None:
    def dawdle(frame: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return frame

    with pytest.raises(MediaLimitError, match=r"took longer than 0\.2 s\. Expected it to end within max_decode_s\."):
        decode_video(
            open_source(clip(name)),
            sampling=FrameSampling(num_frames=60),
            limits=MediaLimits(max_decode_s=0.2),
            on_frame=dawdle,
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sound.mp4", "holds sound only (1 audio stream). Expected a file with a video stream."),
        ("sound.mp3", "holds sound only (1 audio stream). Expected a file with a video stream."),
        ("sound-and-cover.mp3", "holds no video, only a cover picture and sound. Expected a file with a video stream."),
        ("truncated-header.mp4", "cannot be read as a video: its header is missing or damaged."),
        ("frameless.mp4", "holds no video stream. Expected a file with a video stream."),
        ("frameless.mkv", "cannot be read as a video: it ends before its first frame."),
        ("frameless-fragmented.mp4", "holds a video stream of 0 packets, and no frame that can be decoded."),
    ],
)
def test_files_without_a_video_are_refused_by_name(name: str, message: str, clip: Clip) -> None:
    with pytest.raises(MediaError) as caught:
        decode(clip(name))

    assert message in str(caught.value)
    assert str(clip(name)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_written_to_standard_error(clip: Clip, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [clip(name) for name in (*DAMAGED, "h264.mp4")]
    with pytest.raises(MediaError):
        decode(clip("truncated-header.mp4"))
    capfd.readouterr()

    for path in paths:
        decode(path)

    assert capfd.readouterr() == ("", "")
