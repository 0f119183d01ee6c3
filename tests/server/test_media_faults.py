"""Media that hang, kill or fill what they can: each costs its own request, and the server goes on."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from videolm.media.limits import MediaLimits
from videolm.media.worker_pool import DecodePool
from videolm.processing.pixels import fit_frame
from videolm.session import Session

PATH = "/v1/inspect"


def error_of(response: Any, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return response.json()["error"]


@pytest.fixture
def pool_of(session: Session) -> Iterator[Callable[..., DecodePool]]:
    """Starts decode pools of the test's own."""
    pools = []

    def make(**options: Any) -> DecodePool:
        prepare_frame = partial(fit_frame, settings=session.processor.video_pixels)
        pools.append(DecodePool(prepare_frame, **{"num_workers": 2, "timeout_s": 60, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def decoders_of(pool: DecodePool) -> list[int]:
    pid = pool._forks._process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stopped_decoder(pool: DecodePool, http: Any, part: dict[str, Any]) -> int:
    """A decoder that was started by a first request, and stands still from now on."""
    assert http.post(PATH, json={"content": [part]}).status_code == 200
    (pid,) = decoders_of(pool)
    os.kill(pid, signal.SIGSTOP)
    return pid


def chat(part: dict[str, Any]) -> dict[str, Any]:
    content = [part, {"type": "text", "text": "What do you see?"}]
    return {"model": "videolm-mini", "max_tokens": 4, "messages": [{"role": "user", "content": content}]}


def test_a_killed_decoder_costs_one_request(
    start: Any, session: Session, pool_of: Any, clip_part: Any, eventually: Any
) -> None:
    pool = pool_of()
    with start.func(session, pool) as running, running.http() as http, ThreadPoolExecutor(1) as threads:
        pid = stopped_decoder(pool, http, clip_part)
        hanging = threads.submit(http.post, "/v1/chat/completions", json=chat(clip_part))
        eventually(lambda: pool._num_busy == 1)
        with running.http() as other:  # Meanwhile another decoder answers others.
            assert other.post(PATH, json={"content": [clip_part]}).status_code == 200
        assert not hanging.done()
        os.kill(pid, signal.SIGKILL)
        error = error_of(hanging.result())
        assert (error["param"], error["code"]) == ("messages[0].content[0]", "invalid_media")
        assert "ended its process (by SIGKILL)" in error["message"]
        assert http.post("/v1/chat/completions", json=chat(clip_part)).status_code == 200
        assert pid not in decoders_of(pool)


def test_a_hanging_decoder_ends_by_the_deadline(start: Any, session: Session, pool_of: Any, clip_part: Any) -> None:
    pool = pool_of(timeout_s=2, num_workers=1)
    with start.func(session, pool) as running, running.http() as http:
        pid = stopped_decoder(pool, http, clip_part)
        begun = time.monotonic()
        error = error_of(http.post(PATH, json={"content": [clip_part]}))
        assert 2 <= time.monotonic() - begun < 20
        assert (error["param"], error["code"]) == ("content[0]", "media_limit_exceeded")
        assert "start the server with a higher --decode-timeout" in error["message"]
        assert http.post(PATH, json={"content": [clip_part]}).status_code == 200
        assert pid not in decoders_of(pool)


def test_a_client_that_leaves_while_its_medium_hangs_leaves_nothing_behind(
    start: Any, session: Session, pool_of: Any, clip_part: Any, eventually: Any
) -> None:
    pool = pool_of(timeout_s=2, num_workers=1)
    with start.func(session, pool) as running:
        with running.http() as http:
            pid = stopped_decoder(pool, http, clip_part)
            with pytest.raises(Exception, match=r"(?i)timed? ?out"):
                http.post(PATH, json={"content": [clip_part]}, timeout=0.3)
        eventually(lambda: running.backend.admission.num_unanswered == 0)
        eventually(lambda: pool._num_busy == 0)
        assert pid not in decoders_of(pool)
        with running.http() as http:
            assert http.post(PATH, json={"content": [clip_part]}).status_code == 200


def test_local_files_are_read_below_the_root_alone(serve: Any, demo_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(demo_clip.read_bytes())
    (tmp_path / "out.mp4").symlink_to(demo_clip)
    with serve(allowed_media_root=tmp_path).http() as http:

        def ask(path: object) -> Any:
            part = {"type": "video_url", "video_url": {"url": f"file://{path}"}}
            return http.post("/v1/chat/completions", json=chat(part))

        assert ask(tmp_path / "clip.mp4").status_code == 200
        for path in (tmp_path / "out.mp4", demo_clip, f"{tmp_path}/../{tmp_path.name}/../x.mp4"):
            error = error_of(ask(path))
            assert (error["code"], error["param"]) == ("local_media_refused", "messages[0].content[0].video_url.url")


class Film(BaseHTTPRequestHandler):
    """Serves a film, or a redirect to it."""

    film = b""

    def do_GET(self) -> None:
        is_redirect = self.path == "/redirect"
        self.send_response(302 if is_redirect else 200)
        if is_redirect:
            self.send_header("Location", "/film.mp4?secret")
        self.send_header("Content-Length", str(0 if is_redirect else len(self.film)))
        self.end_headers()
        if not is_redirect:
            self.wfile.write(self.film)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def film(demo_clip: Path) -> Iterator[str]:
    handler = type("Handler", (Film,), {"film": demo_clip.read_bytes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_are_fetched_where_that_is_allowed(serve: Any, film: str) -> None:
    def ask(path: str, **options: Any) -> Any:
        with serve(**options).http() as http:
            return http.post(PATH, json={"content": [{"type": "video_url", "video_url": film + path}]})

    for path in ("/film.mp4?secret", "/redirect"):
        (facts,) = ask(path, allow_private_hosts=True).json()["media"]
        assert facts["num_frames"] == 8
        assert "secret" not in facts["source"]
    assert "--allow-private-hosts" in error_of(ask("/film.mp4"))["message"]
    error = error_of(ask("/film.mp4", allow_private_hosts=True, no_remote_media=True))
    assert (error["code"], error["param"]) == ("remote_media_off", "content[0].video_url")
    error = error_of(ask("/film.mp4", allow_private_hosts=True, media=MediaLimits(max_bytes=1000)))
    assert "start the server with a higher --max-media-bytes" in error["message"]


def test_nothing_of_a_request_is_logged(serve: Any, caplog: pytest.LogCaptureFixture, film: str) -> None:
    secret = base64.b64encode(b"secret" * 10).decode()
    with serve(allow_private_hosts=True).http() as http:
        for url in (f"{film}/film.mp4?secret", "http://127.0.0.1:1/secret", f"data:video/mp4;base64,{secret}"):
            http.post("/v1/chat/completions", json=chat({"type": "video_url", "video_url": url}))
        http.post(
            "/v1/files",
            content=b"--XX\r\nsecret\r\n--XX--",
            headers={"content-type": "multipart/form-data; boundary=XX"},
        )
        http.post("/v1/files", files={"file": ("secret.mp4", b"secret film")})
    told = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert [line for line in told if "secret" in line or secret in line] == []


# --- a full disk ---

UPLOAD = """
import resource, sys
from pathlib import Path
from videolm.server.errors import ApiError
from videolm.server.file_store import FileStore
from videolm.server.settings import ServerSettings
from videolm.server.uploads import UploadForm

store = FileStore(ServerSettings(files_dir=Path(sys.argv[1])))
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

def upload(size):
    form = UploadForm(store, "multipart/form-data; boundary=XX")
    try:
        form.feed(b'--XX\\r\\nContent-Disposition: form-data; name="file"; filename="a"\\r\\n\\r\\n')
        for _ in range(size // 1000):
            form.feed(bytes(1000))
        form.feed(b"\\r\\n--XX--\\r\\n")
        return form.finish().bytes
    except ApiError as error:
        return error.status, error.code
    finally:
        form.close()

print(upload(1_000_000), upload(50_000), upload(1_000_000), store.num_bytes)
"""


def assert_full_is_survived(folder: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD, str(folder), how], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "(507, 'storage_full') 50000 (507, 'storage_full') 50000\n"
    names = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    assert len(names) == 2
    assert names[1] == f"{names[0]}.json"


def test_a_file_that_the_system_does_not_let_grow_leaves_nothing(tmp_path: Path) -> None:
    assert_full_is_survived(tmp_path, "limit")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        assert_full_is_survived(small, "disk")
    finally:
        subprocess.run(["umount", str(small)], check=True)
