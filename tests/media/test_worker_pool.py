"""The decode pool: the frames and the errors of ``load_media``, from processes that may die, hang or lie."""

import fcntl
import io
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ArgumentError, EngineError, FetchError, MediaError, MediaLimitError, MediaNotFoundError
from videolm.media import worker_pool
from videolm.media.held_file import HeldFile
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.media.source import OpenedSource
from videolm.media.worker_pool import DecodePool
from videolm.processing.pixels import PixelSettings, fit_frame

Clip = Callable[[str], Path]
FIT = partial(fit_frame, settings=PixelSettings(size=(40, 40), crop_size=(40, 40)))
EIGHT = FrameSampling(num_frames=8)
LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(FIT, num_workers=2, timeout_s=30) as started:
        yield started


def assert_same(ours: Frames, theirs: Frames) -> None:
    for name in Frames.__dataclass_fields__:
        if name != "pixels":
            assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours.pixels) == len(theirs.pixels)
    for one, other in zip(ours.pixels, theirs.pixels, strict=True):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def decoders_of(pool: DecodePool) -> set[int]:
    """The processes forked for a pool that have not ended."""
    pid = pool._forks._process.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.fixture
def endless(tmp_path: Path) -> OpenedSource:
    """A file that no decoder gets past, since nobody writes to it."""
    os.mkfifo(tmp_path / "endless.mp4")
    return OpenedSource(name="endless.mp4", path=tmp_path / "endless.mp4")


def wait_for(is_true: Callable[[], Any]) -> None:
    ends = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < ends, "it has not happened within 20 s"
        time.sleep(0.01)


# --- as load_media ---


@pytest.mark.parametrize("form", ["path", "bytes", "file", "stream", "held"])
@pytest.mark.parametrize(
    "name",
    ["h264.mp4", "animation.gif", "vp9.webm", "rotated-90.mp4", "rotten.mp4", "truncated.mkv", "one-frame.mp4"],
)
def test_videos_come_as_load_media_reads_them(pool: DecodePool, clip: Clip, name: str, form: str) -> None:
    path = clip(name)
    sources: dict[str, Callable[[], Any]] = {
        "path": lambda: path,
        "bytes": path.read_bytes,
        "file": lambda: path.open("rb"),
        "stream": lambda: io.BytesIO(path.read_bytes()),
        "held": lambda: OpenedSource(name="held", stream=HeldFile(os.open(path, os.O_RDONLY))),
    }
    ours, theirs = sources[form](), sources[form]()
    assert_same(pool.load(ours, sampling=EIGHT), load_media(theirs, sampling=EIGHT, on_frame=FIT))
    if form == "file":
        ours.close()
        theirs.close()


@pytest.mark.parametrize("kind", ["auto", "image", "video"])
def test_pictures_are_decoded_over_there_and_stay_whole(pool: DecodePool, tmp_path: Path, kind: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "picture.png")
    ours = pool.load(path, sampling=EIGHT, kind=kind)
    assert_same(ours, load_media(path, sampling=EIGHT, kind=kind, on_frame=FIT))
    assert ours.pixels[0].shape == ((40, 40, 3) if kind == "video" else (50, 70, 3))


def test_warnings_come_along(pool: DecodePool, clip: Clip) -> None:
    frames = pool.load(clip("one-frame.mp4"), sampling=EIGHT)
    assert frames.warnings == (
        f"{clip('one-frame.mp4')} has 1 frame, fewer than the 8 asked for; all of them are used.",
    )


def test_a_folder_of_frames_is_a_video(pool: DecodePool, tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (60, 50), (80 * index, 0, 0)).save(tmp_path / f"{index}.png")
    assert_same(pool.load(tmp_path, sampling=EIGHT), load_media(tmp_path, sampling=EIGHT, on_frame=FIT))


def test_what_is_decoded_already_stays_here(pool: DecodePool) -> None:
    array = np.zeros((3, 50, 60, 3), np.uint8)
    for source in (array, [Image.new("RGB", (60, 50))] * 2, Image.new("RGB", (60, 50))):
        assert_same(pool.load(source, sampling=EIGHT), load_media(source, sampling=EIGHT, on_frame=FIT))
    frames = pool.load(array, sampling=EIGHT)
    assert pool.load(frames, sampling=EIGHT) is frames


def failing_sources(clip: Clip, tmp_path: Path) -> dict[str, tuple[Any, str, MediaLimits]]:
    Image.new("RGB", (60, 50)).save(picture := tmp_path / "picture.png")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n/etc/passwd\n")
    (tmp_path / "folder").mkdir()
    return {
        "not there": (tmp_path / "gone.mp4", "auto", LIMITS),
        "empty": (tmp_path / "empty.mp4", "auto", LIMITS),
        "a playlist": (tmp_path / "list.m3u8", "auto", LIMITS),
        "a concat script": (b"ffconcat version 1.0\nfile /etc/passwd\n", "auto", LIMITS),
        "sound": (clip("sound.mp3"), "auto", LIMITS),
        "cut off": (clip("truncated-header.mp4"), "auto", LIMITS),
        "a damaged picture": (picture.read_bytes()[:60], "auto", LIMITS),
        "a video as a picture": (clip("h264.mp4"), "image", LIMITS),
        "an empty folder": (tmp_path / "folder", "auto", LIMITS),
        "a folder as a picture": (tmp_path, "image", LIMITS),
        "an unknown kind": (picture, "film", LIMITS),
        "too large a frame": (clip("h264.mp4"), "auto", MediaLimits(max_pixels=100)),
        "too large a picture": (picture, "auto", MediaLimits(max_pixels=100)),
        "too long": (clip("h264.mp4"), "auto", MediaLimits(max_duration_s=1)),
        "too many frames": (clip("h264.mp4"), "auto", MediaLimits(max_frames=3)),
        "too many packets": (clip("h264.mp4"), "auto", MediaLimits(max_packets=3)),
        "too many bytes": (b"x" * 100, "auto", MediaLimits(max_bytes=10)),
        "too slow": (clip("large.mp4"), "auto", MediaLimits(max_decode_s=0.001)),
        "another host": ("http://127.0.0.1:9/clip.mp4", "auto", LIMITS),
    }


def test_errors_keep_their_type_their_message_and_the_limit_they_name(
    pool: DecodePool, clip: Clip, tmp_path: Path
) -> None:
    types = []
    for what, (source, kind, limits) in failing_sources(clip, tmp_path).items():
        with pytest.raises(Exception, match="Expected") as theirs:
            load_media(source, sampling=EIGHT, on_frame=FIT, kind=kind, limits=limits)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="Expected") as ours:
            pool.load(source, sampling=EIGHT, kind=kind, limits=limits)  # type: ignore[arg-type]
        assert type(ours.value) is type(theirs.value), what
        assert str(ours.value) == str(theirs.value), what
        limit = getattr(ours.value, "limit", None)
        assert limit == getattr(theirs.value, "limit", None), what
        assert limit is None or limit in str(ours.value), what
        types.append(type(ours.value))
    assert set(types) == {MediaError, MediaLimitError, MediaNotFoundError, FetchError, ArgumentError}


def test_urls_are_downloaded_here(pool: DecodePool, clip: Clip) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    path, seen = clip("h264.mp4"), []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/h264.mp4"
        frames = pool.load(
            url,
            sampling=EIGHT,
            limits=MediaLimits(allow_private_hosts=True),
            progress=lambda done, total: seen.append((done, total)),
        )
        server.shutdown()
    assert frames.source == url
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert_same(frames, load_media(OpenedSource(name=url, path=path), sampling=EIGHT, on_frame=FIT))


# --- faults ---


def test_a_file_that_hangs_its_decoder_ends_by_the_deadline(endless: OpenedSource, clip: Clip) -> None:
    with DecodePool(FIT, num_workers=1, timeout_s=0.5) as pool:
        pool.load(clip("h264.mp4"), sampling=EIGHT)  # The modules are imported by now.
        start = time.monotonic()
        with pytest.raises(
            MediaLimitError, match=r"^Decoding endless.mp4 took longer than 0.5 s and was ended"
        ) as error:
            pool.load(endless, sampling=EIGHT)
        assert 0.5 <= time.monotonic() - start < 5
        assert error.value.limit == "max_decode_s"
        assert decoders_of(pool) == set()
        assert pool.load(clip("h264.mp4"), sampling=EIGHT).num_source_frames == 60


def test_a_killed_decoder_costs_one_medium(endless: OpenedSource, clip: Clip) -> None:
    with DecodePool(FIT, num_workers=2, timeout_s=60) as pool, ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(pool.load, endless, sampling=EIGHT)
        wait_for(lambda: decoders_of(pool))
        (pid,) = decoders_of(pool)
        others = pool.load(clip("h264.mp4"), sampling=EIGHT)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(MediaError, match=r"^Decoding endless.mp4 ended its process \(by SIGKILL\)\. Expected"):
            hanging.result()
        assert_same(pool.load(clip("h264.mp4"), sampling=EIGHT), others)
        assert pid not in decoders_of(pool)


def test_a_decoder_that_died_idle_costs_nothing(clip: Clip) -> None:
    with DecodePool(FIT, num_workers=1, timeout_s=60) as pool:
        before = pool.load(clip("h264.mp4"), sampling=EIGHT)
        (pid,) = decoders_of(pool)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert_same(pool.load(clip("h264.mp4"), sampling=EIGHT), before)
        assert pid not in decoders_of(pool)


def test_a_server_may_have_thousands_of_connections(clip: Clip) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    with DecodePool(FIT, num_workers=1, timeout_s=60) as pool:
        before = pool.load(clip("h264.mp4"), sampling=EIGHT)
        (decoder,) = pool._idle
        low, decoder.sock = decoder.sock, socket.socket(fileno=fcntl.fcntl(decoder.sock, fcntl.F_DUPFD_CLOEXEC, 2000))
        low.close()
        assert_same(pool.load(clip("h264.mp4"), sampling=EIGHT), before)
        assert pool._idle == [decoder]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_process_that_forks_may_be_killed_too(clip: Clip) -> None:
    with DecodePool(FIT, num_workers=1, timeout_s=60) as pool:
        before = pool.load(clip("h264.mp4"), sampling=EIGHT)
        (pid,) = decoders_of(pool)
        os.kill(pool._forks._process.pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists())  # Decoders go with it.
        assert_same(pool.load(clip("h264.mp4"), sampling=EIGHT), before)


def test_memory_is_bounded_and_the_next_medium_is_read(clip: Clip, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 8000)).save(path := tmp_path / "large.png")
    with DecodePool(FIT, num_workers=1, timeout_s=60, max_memory_bytes=200 << 20) as pool:
        with pytest.raises(MediaLimitError, match="takes more memory than a decoder process has"):
            pool.load(path, sampling=EIGHT)
        assert pool.load(clip("h264.mp4"), sampling=EIGHT).num_source_frames == 60


def test_decoders_are_confined(pool: DecodePool, clip: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDEOLM_API_KEY", "secret")
    with DecodePool(FIT, num_workers=1, timeout_s=60, max_memory_bytes=1 << 30) as pool:
        pool.load(clip("h264.mp4"), sampling=EIGHT)
        (pid,) = decoders_of(pool)
        rows = (re.split(r" {2,}", line) for line in Path(f"/proc/{pid}/limits").read_text().splitlines())
        limits = {name: (soft, hard) for name, soft, hard, *_ in rows}
        assert limits["Max file size"] == limits["Max core file size"] == ("0", "0")
        assert 1 << 30 < int(limits["Max address space"][1]) < 16 << 30
        assert int(limits["Max cpu time"][0]) <= 70
        for each in (pid, pool._forks._process.pid):
            assert b"secret" not in Path(f"/proc/{each}/environ").read_bytes()
            assert len(os.listdir(f"/proc/{each}/task")) == 1
        sockets = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        assert sum(name.startswith("socket:") for name in sockets) == 1
        assert set(name for name in sockets if not name.startswith("socket:")) == {"/dev/null"}


def test_decoders_make_way_after_many_media(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "MAX_SOURCES", 2)
    with DecodePool(FIT, num_workers=1, timeout_s=60) as pool:
        pool.load(clip("h264.mp4"), sampling=EIGHT)
        first = decoders_of(pool)
        pool.load(clip("h264.mp4"), sampling=EIGHT)
        assert decoders_of(pool) == set()
        pool.load(clip("h264.mp4"), sampling=EIGHT)
        assert len(first) == len(decoders_of(pool)) == 1
        assert first != decoders_of(pool)


# --- many at once, and the end ---


def test_many_threads_get_each_its_own(pool: DecodePool, clip: Clip) -> None:
    names = ["h264.mp4", "vp9.webm", "animation.gif", "sound.mp3", "rotten.mp4"] * 6
    expected = {name: load_media(clip(name), sampling=EIGHT, on_frame=FIT) for name in set(names) - {"sound.mp3"}}
    with ThreadPoolExecutor(10) as threads:
        futures = [threads.submit(pool.load, clip(name), sampling=EIGHT) for name in names]
    for name, future in zip(names, futures, strict=True):
        if name == "sound.mp3":
            assert isinstance(future.exception(), MediaError)
        else:
            assert_same(future.result(), expected[name])
    assert 1 <= len(decoders_of(pool)) <= 2


def test_nothing_is_left_after_close(endless: OpenedSource, clip: Clip) -> None:
    files, threads_before = set(os.listdir("/proc/self/fd")), threading.active_count()
    pool = DecodePool(FIT, num_workers=2, timeout_s=60)
    with ThreadPoolExecutor(3) as threads:
        pool.load(clip("h264.mp4"), sampling=EIGHT)
        pool.load(clip("h264.mp4").read_bytes(), sampling=EIGHT)
        hanging = [threads.submit(pool.load, endless, sampling=EIGHT) for _ in range(3)]
        wait_for(lambda: len(decoders_of(pool)) == 2)
        pids = [pool._forks._process.pid, *decoders_of(pool)]
        pool.close()
        for future in hanging:
            with pytest.raises(EngineError, match=r"^endless.mp4 was not read: the decoders are closed"):
                future.result()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert set(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads_before
    with pytest.raises(EngineError, match="closed"):
        pool.load(clip("h264.mp4"), sampling=EIGHT)
    pool.close()


def test_no_process_outlives_a_killed_server(endless: OpenedSource) -> None:
    script = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from videolm.media.source import OpenedSource\n"
        "from videolm.media.sampling import FrameSampling; from videolm.media.worker_pool import DecodePool\n"
        "from videolm.processing.pixels import PixelSettings, fit_frame\n"
        "pool = DecodePool(partial(fit_frame, settings=PixelSettings()), num_workers=1, timeout_s=60)\n"
        "print(pool._forks._process.pid, flush=True)\n"
        "pool.load(OpenedSource(name='x', path=Path(sys.argv[1])), sampling=FrameSampling())\n"
    )
    server = subprocess.Popen([sys.executable, "-c", script, str(endless.path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_for(lambda: children.read_text().split())
    decoder = children.read_text().strip()
    server.kill()
    server.wait()
    server.stdout.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    wait_for(lambda: not Path(f"/proc/{decoder}").exists())
