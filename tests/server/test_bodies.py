"""Bodies, headers and connections that are too large, too slow, incomplete or no HTTP at all."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"
HELLO = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}).encode()


@contextmanager
def connected(running: Any) -> Iterator[socket.socket]:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        yield sock


def head(length: int | str, *headers: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answers_of(sock: socket.socket) -> Iterator[tuple[int, dict[str, Any]]]:
    """Status and JSON of one response after another."""
    with sock.makefile("rb") as stream:
        while line := stream.readline():
            headers = dict(iter(lambda: tuple(stream.readline().strip().lower().partition(b": ")[::2]), (b"", b"")))
            yield int(line.split()[1]), json.loads(stream.read(int(headers[b"content-length"])))


def answer_of(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    return next(answers_of(sock))


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(65536) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with server.http() as http:
        yield http


def test_a_body_that_is_too_large_is_refused_by_its_length(serve: Any) -> None:
    running = serve(max_body_bytes=1000)
    with running.http() as http:
        for content in (b"x" * 1001, iter([b"x" * 600] * 2)):
            response = http.post(PATH, content=content)
            assert response.status_code == 413
            error = response.json()["error"]
            assert error["code"] == "body_too_large"
            assert "at most 1000 (--max-body-bytes)" in error["message"]
        assert http.post(PATH, content=HELLO).status_code == 200


def test_bodies_together_are_bounded(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve(max_bodies_bytes=3000)
    with connected(running) as first, running.http() as http:
        first.sendall(head(3000) + b"x" * 2990)
        eventually(lambda: running.backend.admission.num_bytes == 2990)
        refused = http.post(PATH, content=HELLO)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], refused.headers["retry-after"]) == (429, "queue_full", "1")
        assert "at most 3000 with this one (--max-bodies-bytes)" in error["message"]
        first.sendall(b"x" * 10)
        assert answer_of(first)[0] == 400
        eventually(lambda: running.backend.admission.num_bytes == 0)
        assert http.post(PATH, content=HELLO).status_code == 200


def test_a_slow_body_is_given_up(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve(body_timeout_s=0.4)
    with connected(running) as sock:
        start = time.monotonic()
        sock.sendall(head(len(HELLO)) + HELLO[:10])
        sock.sendall(HELLO[10:20])
        status, body = answer_of(sock)
        assert (status, body["error"]["code"]) == (408, "body_timeout")
        assert 0.3 < time.monotonic() - start < 9
        assert is_closed(sock)
    eventually(lambda: running.backend.admission.num_unanswered == 0)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_slow_headers_are_cut_off(serve: Any, sent: bytes) -> None:
    with connected(serve(body_timeout_s=0.3)) as sock:
        sock.sendall(sent)
        start = time.monotonic()
        assert is_closed(sock)
        assert 0.2 < time.monotonic() - start < 5


def test_a_connection_that_stays_open_after_its_answer_is_closed_in_time(serve: Any) -> None:
    with connected(serve(body_timeout_s=0.3)) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_of(sock) == (200, {"status": "ok"})
        assert is_closed(sock)


def test_a_body_shorter_than_promised_is_forgotten(server: Any, eventually: Callable[..., None]) -> None:
    with connected(server) as sock:
        sock.sendall(head(len(HELLO) + 5) + HELLO)
        eventually(lambda: server.backend.admission.num_unanswered == 1)
    eventually(lambda: server.backend.admission.num_unanswered == 0)


def test_bytes_beyond_the_promised_length_are_no_part_of_the_request(server: Any) -> None:
    with connected(server) as sock:
        sock.sendall(head(len(HELLO)) + HELLO + b"\x00garbage\r\n\r\n")
        (good, answer), (bad, refusal) = answers_of(sock)
        assert (good, answer["object"]) == (200, "chat.completion")
        assert (bad, refusal["error"]["code"]) == (400, "invalid_http")


@pytest.mark.parametrize("length", ["-1", "many", "1\r\nContent-Length: 2"])
def test_a_length_that_is_none_is_no_http(server: Any, length: str) -> None:
    with connected(server) as sock:
        sock.sendall(head(length) + HELLO)
        status, body = answer_of(sock)
        assert (status, body["error"]["code"]) == (400, "invalid_http")
        assert is_closed(sock)


@pytest.mark.parametrize("at_once", [True, False])
def test_headers_that_are_too_long_are_refused(server: Any, at_once: bool) -> None:
    with connected(server) as sock:
        long = head(len(HELLO), f"X-Long: {'x' * 40_000}") + HELLO
        if at_once:
            sock.sendall(long)
        else:
            sock.sendall(long[:34_000])
        status, body = answer_of(sock)
        assert status == 431
        assert "--max-header-bytes" in body["error"]["message"]


def test_the_bound_on_headers_can_be_set(serve: Any) -> None:
    with serve(max_header_bytes=600).http() as http:
        response = http.post(PATH, content=HELLO, headers={"x-long": "x" * 600})
        assert (response.status_code, response.json()["error"]["code"]) == (431, "headers_too_large")
        assert http.post(PATH, content=HELLO).status_code == 200


def test_a_client_that_never_reads_is_cut_off(serve: Any, eventually: Callable[..., None]) -> None:
    running = serve(body_timeout_s=0.5)
    with connected(running) as sock:
        # More answers than the buffers on the way hold.
        sock.sendall(b"GET /static/sample.mp4 HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        eventually(lambda: len(running.server.server_state.tasks) == 1)
        eventually(lambda: not running.server.server_state.connections)
        eventually(lambda: not running.server.server_state.tasks)


def test_a_body_that_is_refused_unread_does_not_hold_its_connection(serve: Any) -> None:
    with connected(serve(api_key="secret", body_timeout_s=0.5)) as sock:
        sock.sendall(head(10_000_000) + b"x" * 1000)
        status, body = answer_of(sock)
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert is_closed(sock)
