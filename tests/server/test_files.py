"""``/v1/files`` over the network: uploads that go well, break off, are too large, too slow, or nobody's business."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

MODEL = "videolm-mini"
PATH = "/v1/files"
TYPE = "multipart/form-data; boundary=XX"
NOISE = os.urandom(300_000)


def form(data: bytes, filename: str = "clip.mp4") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    return head.encode() + data + b"\r\n--XX--\r\n"


def kept(running: Any) -> list[str]:
    return sorted(path.name for path in running.backend.files.folder.iterdir() if path.name != ".lock")


def is_empty(running: Any) -> bool:
    return kept(running) == [] and running.backend.files.num_bytes == 0


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return error


@contextmanager
def connected(running: Any) -> Iterator[socket.socket]:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        yield sock


def head(length: int) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {length}\r\n\r\n".encode()


def answer_of(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    with sock.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = dict(iter(lambda: tuple(stream.readline().strip().lower().partition(b": ")[::2]), (b"", b"")))
        return status, json.loads(stream.read(int(headers[b"content-length"])))


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with server.http() as http:
        yield http


# --- as clients use it ---


def test_the_real_client_uploads_asks_looks_up_and_deletes(
    client: openai.OpenAI, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    now = time.time()
    file = client.files.create(file=demo_clip, purpose="vision")
    assert (file.object, file.bytes, file.filename) == ("file", demo_clip.stat().st_size, "clip.mp4")
    assert (file.purpose, file.status) == ("vision", "processed")
    assert abs(file.created_at - now) < 60
    assert file.expires_at == file.created_at + 24 * 3600
    assert client.files.retrieve(file.id) == file

    def ask(part: dict[str, Any]) -> str | None:
        content = [part, {"type": "text", "text": "What do you see?"}]
        messages: Any = [{"role": "user", "content": content}]
        return client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content

    expected = ask(clip_part)
    assert expected
    assert ask({"type": "file", "file": {"file_id": file.id}}) == expected
    assert ask({"type": "video_url", "video_url": {"url": f"file://{file.id}"}}) == expected

    deleted = client.files.delete(file.id)
    assert deleted.model_dump() == {"id": file.id, "object": "file", "deleted": True}
    for again in (client.files.retrieve, client.files.delete):
        with pytest.raises(openai.NotFoundError) as error:
            again(file.id)
        assert error.value.code == "file_not_found"
    with pytest.raises(openai.NotFoundError) as error:
        ask({"type": "file", "file": {"file_id": file.id}})
    assert error.value.param == "messages[0].content[0].file.file_id"


def test_an_upload_needs_no_purpose_and_comes_in_any_pieces(http: Any, server: Any) -> None:
    def pieces() -> Iterator[bytes]:
        body = form(NOISE)
        for at in range(0, len(body), 7001):
            yield body[at : at + 7001]

    response = http.post(PATH, content=pieces(), headers={"content-type": TYPE})
    assert response.status_code == 200
    assert response.headers["x-content-type-options"] == "nosniff"
    file = response.json()
    assert (file["purpose"], file["bytes"]) == ("user_data", len(NOISE))
    assert server.backend.files.open(file["id"]).rewound().read() == NOISE
    assert http.delete(f"{PATH}/{file['id']}").json() == {"id": file["id"], "object": "file", "deleted": True}


def test_nothing_is_ever_served_back(http: Any) -> None:
    page = b"GIF89a<script>alert(1)</script>"
    file = http.post(PATH, files={"file": ("<script>.html", page, "text/html")}).json()
    response = http.get(f"{PATH}/{file['id']}")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["filename"] == "<script>.html"
    for path in (
        f"{PATH}/{file['id']}/content",
        f"{PATH}/{file['id']}.json",
        f"/{file['id']}",
        f"/static/{file['id']}",
    ):
        assert error_of(http.get(path), 404)
    assert error_of(http.get(PATH), 405)
    assert error_of(http.put(f"{PATH}/{file['id']}", content=b"x"), 405)
    http.delete(f"{PATH}/{file['id']}")


@pytest.mark.parametrize("file_id", ["file-" + "0" * 32, "x", ".lock", "..%2F..%2Fetc%2Fpasswd", "%00", "a" * 5000])
def test_guessed_ids_are_not_found(http: Any, file_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert error_of(http.request(method, f"{PATH}/{file_id}"), 404)


def test_everything_about_files_needs_the_key(serve: Any) -> None:
    running = serve(api_key="secret")
    with running.http() as http, running.http("secret") as owner:
        assert error_of(http.post(PATH, files={"file": NOISE}), 401)
        assert is_empty(running)
        file = owner.post(PATH, files={"file": ("a.mp4", NOISE)}).json()
        for method in ("GET", "DELETE"):
            assert error_of(http.request(method, f"{PATH}/{file['id']}"), 401)
        assert owner.get(f"{PATH}/{file['id']}").json() == file


# --- what goes wrong ---


def test_a_wrong_form_is_refused(serve: Any) -> None:
    running = serve()
    with running.http() as http:
        for content, content_type, param in (
            (b"{}", "application/json", None),
            (b"--YY--\r\n", TYPE, None),
            (form(NOISE)[:-10], TYPE, None),
            (form(b""), TYPE, "file"),
            (form(b"#EXTM3U\nfile:///etc/passwd"), TYPE, "file"),
            (form(b"ffconcat version 1.0\nfile a"), TYPE, "file"),
            (form(NOISE).replace(b'name="file"', b'name="film"'), TYPE, "film"),
        ):
            error = error_of(http.post(PATH, content=content, headers={"content-type": content_type}), 400)
            assert error["type"] == "invalid_request_error"
            assert error["param"] == param
        assert error_of(http.post(PATH, content=form(NOISE)), 400)["code"] == "invalid_form"
    assert is_empty(running)


def test_an_upload_that_breaks_off_leaves_nothing(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve()
    with connected(running) as sock:
        sock.sendall(head(10_000_000) + form(NOISE * 3)[:-12])
        eventually(lambda: [name for name in kept(running) if name.endswith(".part")])
    eventually(lambda: is_empty(running))
    with running.http() as http:
        assert http.post(PATH, content=form(NOISE), headers={"content-type": TYPE}).status_code == 200


def test_a_server_that_ends_leaves_nothing_unfinished(
    start: Any, eventually: Callable[..., None], tmp_path: Path
) -> None:
    with start(files_dir=tmp_path) as running, connected(running) as sock:
        sock.sendall(head(10_000_000) + form(NOISE * 3)[:-12])
        eventually(lambda: kept(running))
        running.end()
        eventually(lambda: is_empty(running))


def test_an_upload_that_is_too_slow_is_given_up(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve(body_timeout_s=0.3)
    with connected(running) as sock:
        sock.sendall(head(10_000_000) + form(b"slow " * 10)[:-12])
        start = time.monotonic()
        status, body = answer_of(sock)
    assert (status, body["error"]["code"]) == (408, "body_timeout")
    assert "--body-timeout" in body["error"]["message"]
    assert 0.3 <= time.monotonic() - start < 5
    eventually(lambda: is_empty(running))


def test_an_upload_may_take_longer_while_it_comes(serve: Any) -> None:
    running = serve(body_timeout_s=0.3)
    body = form(NOISE)
    with connected(running) as sock:
        sock.sendall(head(len(body)))
        for at in range(0, len(body), 50_000):  # 0.9 s in all, at more than 64 KiB/s
            sock.sendall(body[at : at + 50_000])
            time.sleep(0.15)
        assert answer_of(sock)[0] == 200


def test_a_file_that_is_too_large_is_refused_before_it_comes_or_on_the_way(serve: Any) -> None:
    running = serve(files_max_bytes=200_000)
    with running.http() as http:
        # With its length, and without.
        for content in (form(NOISE), iter([form(NOISE)[:150_000], form(NOISE)[150_000:]])):
            error = error_of(http.post(PATH, content=content, headers={"content-type": TYPE}), 413)
            assert (error["code"], error["param"]) == ("file_too_large", "file")
            assert "at most 200000 (--files-max-bytes)" in error["message"]
        assert is_empty(running)
        for expected in (200, 507):
            response = http.post(PATH, content=form(NOISE[:150_000]), headers={"content-type": TYPE})
            assert response.status_code == expected
    assert len(kept(running)) == 2


def test_only_so_many_uploads_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any) -> None:
    from videolm.server import files

    monkeypatch.setattr(files, "MAX_UPLOADS", 1)
    running = serve()
    with running.http() as http:
        with connected(running) as sock:
            sock.sendall(head(10_000_000) + form(NOISE)[:-12])
            eventually(lambda: kept(running))
            response = http.post(PATH, content=form(NOISE), headers={"content-type": TYPE})
            assert error_of(response, 429)["code"] == "too_many_uploads"
            assert response.headers["retry-after"] == "1"
        # The place is free a moment after the file has gone.
        eventually(lambda: http.post(PATH, content=form(NOISE), headers={"content-type": TYPE}).status_code == 200)


def test_old_uploads_go_though_nobody_asks(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve(files_max_age_s=0.5)
    with running.http() as http:
        file = http.post(PATH, files={"file": ("a.mp4", NOISE)}).json()
        eventually(lambda: is_empty(running))
        assert error_of(http.get(f"{PATH}/{file['id']}"), 404)["code"] == "file_not_found"
