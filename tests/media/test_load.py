"""The one entry: every kind of source, every kind of refusal, and little memory."""

import base64
import gc
import io
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ArgumentError, FetchError, MediaError
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

Clip = Callable[[str], Path]
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

load = partial(load_media, sampling=FrameSampling(num_frames=8))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def served(clip: Clip) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(clip("h264.mp4").parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def animated(format: str, num_frames: int = 3) -> bytes:
    images = [Image.fromarray(np.roll(PICTURE, i, axis=1)) for i in range(num_frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, format, save_all=True, append_images=images[1:], duration=100)
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    return buffer.getvalue()


def assert_same_pixels(ours: Frames, theirs: Frames) -> None:
    assert len(ours.pixels) == len(theirs.pixels)
    for a, b in zip(ours.pixels, theirs.pixels, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_way_to_name_a_video_gives_the_same_frames(clip: Clip, served: str) -> None:
    path = clip("h264.mp4")
    data = path.read_bytes()
    expected = load(path)
    limits = MediaLimits(allow_private_hosts=True)

    with path.open("rb") as file:
        for source, name in (
            (str(path), str(path)),
            (f"file://{path}", str(path)),
            (data, "bytes"),
            (file, str(path)),
            ("data:video/mp4;base64," + base64.b64encode(data).decode(), "data:video/mp4;base64 URI"),
            (f"{served}/h264.mp4?key=secret", f"{served}/h264.mp4"),
        ):
            frames = load(source, limits=limits)
            assert (frames.kind, frames.source, frames.method) == ("video", name, "packet-index")
            assert_same_pixels(frames, expected)


@pytest.mark.parametrize("name", ["h264.mkv", "h264.ts", "vp9.webm", "mjpeg.avi", "raw.h264", "animation.gif"])
def test_other_containers_are_read_from_memory_too(name: str, clip: Clip) -> None:
    assert_same_pixels(load(clip(name).read_bytes()), load(clip(name)))


def test_pictures() -> None:
    for source, name, method in (
        (png(), "bytes", "picture"),
        (Image.fromarray(PICTURE), "picture", "picture"),
        (PICTURE, "array", "array"),
        (torch.from_numpy(PICTURE), "array", "array"),
    ):
        frames = load(source, on_frame=lambda frame: frame[:1])
        assert (frames.kind, frames.source, frames.method, frames.size) == ("image", name, method, (4, 6))
        assert (frames.frame_indices, frames.frame_times_s, frames.warnings) == ((), (), ())
        np.testing.assert_array_equal(frames.pixels[0], PICTURE)


def test_videos_in_memory() -> None:
    arrays = np.stack([PICTURE + i for i in range(3)])

    for source in (arrays, torch.from_numpy(arrays), list(arrays), [Image.fromarray(array) for array in arrays]):
        frames = load(source, on_frame=lambda frame: frame[:1])
        assert (frames.kind, frames.method, frames.size, frames.frame_indices) == ("video", "array", (4, 6), (0, 1, 2))
        np.testing.assert_array_equal(np.stack(frames.pixels), arrays[:, :1])


@pytest.mark.parametrize(("format", "method"), [("GIF", "packet-index"), ("WEBP", "picture"), ("PNG", "picture")])
def test_an_animation_is_a_video_and_one_frame_is_a_picture(format: str, method: str) -> None:
    assert (load(animated(format)).kind, load(animated(format)).method) == ("video", method)
    assert load(animated(format, num_frames=1)).kind == "image"
    first = load(animated(format), kind="image")
    assert (first.kind, len(first.pixels), first.method) == ("image", 1, "picture")


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png())

    frames = load(str(tmp_path))

    assert (frames.kind, frames.method, frames.source) == ("video", "folder", str(tmp_path))


def test_frames_are_given_back_as_they_are() -> None:
    frames = load(PICTURE)

    assert load(frames, kind="video") is frames


def test_a_picture_asked_for_as_a_video_is_one_frame() -> None:
    frames = load(png(), kind="video", on_frame=lambda frame: frame[:2])

    assert (frames.kind, frames.frame_indices, frames.size, frames.source) == ("video", (0,), (4, 6), "bytes")
    assert frames.warnings == ("bytes has 1 frame, fewer than the 8 asked for; all of them are used.",)
    np.testing.assert_array_equal(frames.pixels[0], PICTURE[:2])


def test_each_sampled_frame_passes_through_on_frame(clip: Clip) -> None:
    for name in ("h264.mp4", "raw.h264", "animation.gif"):
        frames = load(clip(name), on_frame=lambda frame: frame[::2, ::2])
        whole = load(clip(name))
        assert frames.size == whole.size
        for small, large in zip(frames.pixels, whole.pixels, strict=True):
            np.testing.assert_array_equal(small, large[::2, ::2])


def test_an_error_of_on_frame_is_not_taken_for_a_damaged_file(clip: Clip) -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise ValueError("mine")

    for source in (clip("h264.mp4"), clip("raw.h264"), animated("WEBP"), [PICTURE]):
        with pytest.raises(ValueError, match=r"^mine$"):
            load(source, on_frame=fail)


def test_progress_is_told_of_downloads(clip: Clip, served: str) -> None:
    told: list[tuple[int, int | None]] = []

    load(
        f"{served}/h264.mp4",
        limits=MediaLimits(allow_private_hosts=True),
        progress=lambda done, total: told.append((done, total)),
    )

    size = clip("h264.mp4").stat().st_size
    assert told[-1] == (size, size)


@pytest.mark.parametrize("name", ["large.mp4", "large.h264"])
def test_full_size_frames_do_not_pile_up(name: str, clip: Clip) -> None:
    """64 frames of 720p would be 177 MB; what is alive at any time is one of them."""
    path = clip(name)
    seen: list[weakref.ref[np.ndarray]] = []
    num_alive = []

    def shrink(frame: np.ndarray) -> np.ndarray:
        num_alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(frame))
        return frame[::40, ::40].copy()

    gc.collect()
    tracemalloc.start()
    try:
        frames = load_media(path, sampling=FrameSampling(num_frames=64), on_frame=shrink)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (len(frames.pixels), frames.size) == (64, (720, 1280))
    assert max(num_alive) <= 1
    assert peak_bytes < 3 * 720 * 1280 * 3


def refusal(source: Any, error: type[Exception] = MediaError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "clip.mp4 is empty (0 bytes). Expected a video or a picture."),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "clip.mp4 is a web page."),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "clip.mp4 is an HLS playlist, which only names other files."),
        (b"ffconcat version 1.0\nfile h264.mp4\n", "clip.mp4 is a concat script, which only names other files."),
        (b"file h264.mp4\n" * 100, "clip.mp4 is plain text. Expected the bytes of a video or a picture."),
        (b"\x1b[31mtext for a terminal\n" * 100, "clip.mp4 cannot be read as a video:"),
        (b"\0" * 4096, "clip.mp4 cannot be read as a video:"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.txt"])
def test_files_that_are_no_media(name: str, contents: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(contents)
    expected = message.replace("clip.mp4", str(tmp_path / name))

    assert refusal(tmp_path / name).startswith(expected)
    assert refusal(contents).startswith(message.replace("clip.mp4", "bytes"))


def test_a_playlist_under_any_name_opens_no_other_file(clip: Clip, tmp_path: Path) -> None:
    """Even where its first bytes hide what it is, FFmpeg may open no format that names other files."""
    (tmp_path / "clip.ts").write_bytes(clip("h264.ts").read_bytes())
    concat, playlist = "# hidden\nffconcat version 1.0\nfile clip.ts\n", "\n#EXTM3U\n#EXTINF:1\nclip.ts\n"
    for name, text in (("a.ffconcat", concat), ("b.m3u8", playlist), ("c.mp4", concat)):
        (tmp_path / name).write_text(text)
        assert "Expected" in refusal(tmp_path / name)


def test_private_urls_are_refused_unless_allowed(served: str) -> None:
    assert "is at 127.0.0.1, which is no public address." in refusal(f"{served}/h264.mp4", FetchError)


def test_a_web_page_behind_a_url(served: str) -> None:
    limits = MediaLimits(allow_private_hosts=True)

    assert refusal(f"{served}/", limits=limits).startswith(f"{served}/ is a web page.")


@pytest.mark.parametrize("source", [[PICTURE], np.stack([PICTURE, PICTURE])])
def test_a_video_is_refused_as_a_picture(source: Any, clip: Clip, tmp_path: Path) -> None:
    assert 'Expected a picture, as kind is "image".' in refusal(source, kind="image")
    assert 'Expected a picture, as kind is "image".' in refusal(clip("h264.mp4"), kind="image")
    assert 'Expected a picture, as kind is "image".' in refusal(tmp_path, kind="image")


def test_other_arguments_are_refused() -> None:
    assert refusal(PICTURE, ArgumentError, kind="film").startswith(
        "kind is 'film'. Expected one of auto, image, video."
    )
    assert refusal(None, ArgumentError).startswith("A medium of type NoneType was given.")
    assert refusal([], ArgumentError).startswith("list of frames holds no frames.")
    assert refusal(["a.png"], ArgumentError).startswith("Frame 0 has dtype <U5. Expected uint8")


def test_random_damage_brings_frames_or_one_line(clip: Clip) -> None:
    rng = np.random.default_rng(1)
    for name in ("h264.mp4", "h264.mkv", "vp9.webm", "mjpeg.avi", "animation.gif", "h264.ts"):
        original = clip(name).read_bytes()
        for _ in range(6):
            data = bytearray(original)
            for position in rng.integers(0, len(data), 40):
                data[position] = rng.integers(256)
            with suppress(MediaError):
                assert load(bytes(data)).pixels
