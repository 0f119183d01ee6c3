"""Bad input at the command line: status 1, one line of three parts on standard error, nothing on standard output."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from videolm.cli.main import main
from videolm.media.limits import MediaLimits
from videolm.options import MediaOptions

# By file descriptor, so that what a C library prints would count too.
Captured = pytest.CaptureFixture[str]
REFUSAL_S = 20.0


def refused(capfd: Captured, *argv: str | Path) -> str:
    """Run a command that must fail as the issue of this project says, and give its one line."""
    before = sorted(Path.cwd().rglob("*"))
    start = time.monotonic()
    assert main([str(word) for word in argv]) == 1
    assert time.monotonic() - start < REFUSAL_S
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.startswith("videolm: ")
    assert sorted(Path.cwd().rglob("*")) == before
    return printed.err


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def ask(tiny_model_folder: Path, capfd: Captured) -> Callable[..., str]:
    """Ask the tiny model something that it must refuse."""

    def run(*argv: str | Path) -> str:
        return refused(capfd, "ask", "--model", tiny_model_folder, *argv)

    return run


# --- media ---


def empty(path: Path) -> None:
    path.touch()


def html(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")


def audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def without_frames(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def image_bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n")


def concat_script(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile /etc/hostname\n")


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def folder_without_frames(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("nothing to see")


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("missing.mp4", None),
        ("empty.mp4", empty),
        ("page.mp4", html),
        ("sound.mp4", audio_only),
        ("nothing.mp4", without_frames),
        ("bomb.png", image_bomb),
        ("list.m3u8", playlist),
        ("list.mp4", playlist),
        ("script.ffconcat", concat_script),
        ("script.mp4", concat_script),
        ("noise.mp4", random_bytes),
        ("folder", folder_without_frames),
        ("pipe.mp4", pipe),
    ],
)
def test_a_medium_that_cannot_be_read(
    name: str, make: Callable[[Path], None] | None, ask: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / name
    if make is not None:
        make(path)
    assert str(path) in ask(path, "What is this?")


def test_a_truncated_clip(ask: Callable[..., str], clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    path.write_bytes(clip.read_bytes()[:300])
    assert str(path) in ask(path, "What is this?")


@pytest.mark.parametrize("url", ["file:///dev/zero", "file:///tmp", "file:///no/such/file.mp4", "file://host/clip.mp4"])
def test_a_file_url_of_no_regular_file(url: str, ask: Callable[..., str]) -> None:
    assert "xpected" in ask(url, "What is this?")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/clip.mp4",
        "http://localhost/clip.mp4",
        "http://10.1.2.3/clip.mp4",
        "http://[::1]/clip.mp4",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/clip.mp4",
    ],
)
def test_a_private_url(url: str, ask: Callable[..., str]) -> None:
    assert "rivate" in ask(url, "What is this?")


@pytest.mark.parametrize("medium", ["ftp://example.org/a.mp4", "data:video/mp4;base64,!!!", "data:nothing"])
def test_other_urls(medium: str, ask: Callable[..., str]) -> None:
    assert "xpected" in ask(medium, "What is this?")


@pytest.fixture
def endless_url() -> Iterator[str]:
    """A server of this machine that sends for ever, slowly."""
    stop = threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not stop.wait(0.01):
                try:
                    self.wfile.write(bytes(10_000))
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/clip.mp4"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("limit", [{"max_bytes": 100_000}, {"timeout_s": 0.5}])
def test_an_endless_download(
    limit: dict[str, float], endless_url: str, ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MediaLimits(allow_private_hosts=True, **limit)
    monkeypatch.setattr(MediaOptions, "media_limits", lambda _: limits)
    assert endless_url in ask(endless_url, "What is this?", "--allow-private-hosts")


def test_a_download_ends_within_a_minute_by_default() -> None:
    # The rest of the minute is for starting and for loading the model.
    assert MediaLimits().timeout_s <= 50


# --- questions and options ---


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question(question: str, ask: Callable[..., str], clip: Path) -> None:
    assert "question is empty" in ask(clip, question)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "0"], "frames is 0"),
        (["--frames", "-3"], "frames is -3"),
        (["--fps", "0"], "fps is 0"),
        (["--fps", "nan"], "fps is nan"),
        (["--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--max-new-tokens", "-5"], "max_new_tokens is -5"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--temperature", "inf"], "temperature is inf"),
        (["--top-p", "2"], "top_p is 2"),
        (["--seed", "-1"], "seed is -1"),
        (["--system", ""], "system is ''"),
        (["--device", "cuda:9"], "'cuda:9' is not on this machine"),
        (["--device", "tpu"], "'tpu' is not on this machine"),
        (["--dtype", "float7"], "'float7' does not exist"),
    ],
)
def test_an_impossible_option(flags: list[str], message: str, ask: Callable[..., str], clip: Path) -> None:
    assert message in ask(clip, "What is this?", *flags)


def test_a_prompt_longer_than_the_context(ask: Callable[..., str], picture: Path) -> None:
    assert "context holds 1024" in ask(picture, "very " * 1000)


# --- models ---


@pytest.fixture
def copied_model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no/such/model", "./no/such/model does not exist"),
        ("/dev/null", "/dev/null is a file"),
        (".", "config.json"),
        ("not a name", "not a name does not exist"),
    ],
)
def test_a_model_that_does_not_exist(name: str, message: str, capfd: Captured, clip: Path) -> None:
    assert message in refused(capfd, "ask", "--model", name, clip, "What is this?")


def test_a_missing_shard_is_named(copied_model: Path, capfd: Captured, clip: Path) -> None:
    from videolm.families import auto

    sharded = copied_model.parent / "sharded"
    processor = auto.load_processor(copied_model)
    auto.save_model(auto.load_model(copied_model), processor, sharded, max_shard_size=100_000)
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refused(capfd, "ask", "--model", sharded, clip, "What is this?")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_file_is_named(name: str, damage: str, copied_model: Path, capfd: Captured, clip: Path) -> None:
    file = copied_model / name
    whole = file.read_bytes()
    file.unlink()
    if name == "preprocessor_config.json":
        (copied_model / "video_preprocessor_config.json").unlink()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    assert str(copied_model) in refused(capfd, "ask", "--model", copied_model, clip, "What is this?")


def test_a_wrong_value_in_a_models_configuration(copied_model: Path, capfd: Captured, clip: Path) -> None:
    file = copied_model / "config.json"
    file.write_text(file.read_text().replace('"vision_feature_layer": -2', '"vision_feature_layer": "last"'))
    assert "vision_feature_layer" in refused(capfd, "ask", "--model", copied_model, clip, "What is this?")


# --- the other commands ---


def test_the_other_commands_refuse_the_same(capfd: Captured, tiny_model_folder: Path, clip: Path) -> None:
    model = ["--model", tiny_model_folder]
    for command in (["chat"], ["inspect", "--json"]):
        assert "missing.mp4 does not exist" in refused(capfd, *command, *model, "missing.mp4")
        assert "frames is 0" in refused(capfd, *command, *model, clip, "--frames", "0")
    # To inspect takes no weights, so there is no device to name.
    assert "'cuda:9' is not on this machine" in refused(capfd, "chat", *model, clip, "--device", "cuda:9")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "moving-shape"], "moving-shape"),
        (["--task", "moving-shapes", "--limit", "0"], "limit is 0"),
        (["--task", "moving-shapes", "--model", "./nowhere"], "./nowhere does not exist"),
    ],
)
def test_an_evaluation_that_cannot_be(flags: list[str], message: str, capfd: Captured, tiny_model_folder: Path) -> None:
    assert message in refused(capfd, "evaluate", "--model", tiny_model_folder, *flags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "run.yaml"),
        ("steps: [1", "run.yaml is not valid YAML"),
        ("just text", "expected a mapping"),
        ("stpes: 10", "Did you mean 'steps'?"),
        ("steps: many", "lacks"),
    ],
)
def test_a_training_configuration_that_is_wrong(
    text: str | None, message: str, capfd: Captured, workplace: Path
) -> None:
    if text is not None:
        (workplace / "run.yaml").write_text(text)
    assert message in refused(capfd, "train", "sft", "run.yaml")


# --- the real command ---


def test_the_installed_command_prints_no_traceback(tiny_model_folder: Path) -> None:
    words = ["ask", "--model", str(tiny_model_folder), "missing.mp4", "What is this?"]
    done = subprocess.run(
        [sys.executable, "-m", "videolm.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("videolm: missing.mp4 does not exist")
    assert done.stderr.count("\n") == 1


# --- answered all the same ---


def test_a_damaged_clip_is_answered_with_a_warning(
    clip: Path, tiny_model_folder: Path, tmp_path: Path, capfd: Captured
) -> None:
    path = tmp_path / "damaged.mkv"
    path.write_bytes(damaged_clip())
    words = [
        "ask",
        "--model",
        str(tiny_model_folder),
        "--frames",
        "8",
        "--max-new-tokens",
        "3",
        str(path),
        "What is it?",
    ]
    assert main(words) == 0
    printed = capfd.readouterr()
    assert printed.out.strip()
    assert "bad" in printed.err or "damage" in printed.err


def damaged_clip() -> bytes:
    """A clip of a moving square with holes in the middle of its data."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
        for index in range(40):
            pixels = np.roll(noise, 3 * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    data = bytearray(buffer.getvalue())
    for place in range(len(data) // 3, 2 * len(data) // 3, len(data) // 30):
        data[place : place + 200] = bytes(200)
    return bytes(data)
