"""Clients and faults that do harm: what each costs, which is no other request, and nothing that stays."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"
HELLO: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Is there a circle?"}],
    "max_tokens": 8,
}
# Drawn so freely that the end comes late, with so much beside each token that no buffer holds it.
MUCH = HELLO | {"temperature": 1000, "seed": 1, "max_tokens": 500, "logprobs": True, "top_logprobs": 20, "n": 16}
JSON_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

Connect = Callable[[Any], socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A bare connection to a server."""
    with ExitStack() as stack:

        def open_connection(running: Any) -> socket.socket:
            host, port = running.url.removeprefix("http://").split(":")
            return stack.enter_context(closing(socket.create_connection((host, int(port)), timeout=20)))

        yield open_connection


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


def is_idle(running: Any) -> bool:
    stats = running.backend.engine.stats()
    unanswered = running.backend.admission.num_unanswered
    return (stats.num_running, stats.num_waiting, stats.num_used_blocks, unanswered) == (0, 0, 0, 0)


def answer(running: Any, **fields: Any) -> str:
    with running.http() as http:
        response = http.post(PATH, json=HELLO | fields)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_a_client_that_never_reads_is_cut_off(serve: Any, connect: Connect, eventually: Any) -> None:
    running = serve(body_timeout_s=0.5)
    expected = answer(running)
    # What is accepted inherits it: buffers that are soon full.
    running.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    connection = connect(running)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    body = json.dumps(MUCH | {"stream": True}).encode()
    connection.sendall(f"{JSON_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    eventually(lambda: running.backend.engine.stats().num_running > 0)
    assert answer(running) == expected
    eventually(lambda: is_idle(running))
    assert running.backend.engine.stats().num_ended["abort"] >= 1


def test_headers_that_come_byte_by_byte_are_not_waited_for(serve: Any, connect: Connect) -> None:
    running = serve(body_timeout_s=0.5)
    connection, start = connect(running), time.monotonic()
    with suppress(OSError):
        for byte in JSON_HEAD.encode() * 20:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert read_all(connection) == b""
    assert time.monotonic() - start < 10
    assert answer(running) != ""


def test_a_body_that_comes_byte_by_byte_is_refused(serve: Any, connect: Connect) -> None:
    running = serve(body_timeout_s=0.5)
    connection, start = connect(running), time.monotonic()
    connection.sendall(f"{JSON_HEAD}Content-Length: 1000\r\n\r\n".encode())
    with suppress(OSError):
        while time.monotonic() - start < 3:
            connection.sendall(b" ")
            time.sleep(0.05)
    told = read_all(connection)
    assert (status_of(told), code_of(told)) == (408, "body_timeout")


def test_a_body_that_is_shorter_than_it_says_is_given_up(server: Any, connect: Connect, eventually: Any) -> None:
    for body in (b"", json.dumps(HELLO).encode()):
        connection = connect(server)
        connection.sendall(f"{JSON_HEAD}Content-Length: {len(body) + 10}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        assert b"200 OK" not in read_all(connection)
    eventually(lambda: is_idle(server))


def test_what_follows_a_body_is_no_part_of_it(server: Any, connect: Connect) -> None:
    body = json.dumps(HELLO).encode()
    connection = connect(server)
    connection.sendall(
        f"{JSON_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"more than was said\r\n\r\n"
    )
    told = read_all(connection)
    assert status_of(told) == 200
    assert (told.count(b"HTTP/1.1 200 "), told.count(b"HTTP/1.1 400 ")) == (1, 1)


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: -1",
        "Content-Length: ten",
        "Content-Length: 2\r\nContent-Length: 3",
        "Transfer-Encoding: gzip",
    ],
)
def test_a_length_that_is_none_is_refused(server: Any, connect: Connect, lines: str) -> None:
    connection = connect(server)
    connection.sendall(f"{JSON_HEAD}{lines}\r\n\r\n{{}}".encode())
    told = read_all(connection)
    assert 400 <= status_of(told) <= 501
    assert list(json.loads(told.partition(b"\r\n\r\n")[2].splitlines()[-1])) == ["error"]


def test_a_chunk_that_is_none_is_refused(server: Any, connect: Connect, eventually: Any) -> None:
    connection = connect(server)
    connection.sendall(f"{JSON_HEAD}Transfer-Encoding: chunked\r\n\r\nnothing\r\n\r\n".encode())
    assert b"200 OK" not in read_all(connection)
    eventually(lambda: is_idle(server))


def test_a_body_without_an_end_is_refused_at_its_bound(serve: Any, connect: Connect) -> None:
    running = serve(max_body_bytes=1 << 16, body_timeout_s=0.5)
    connection = connect(running)
    connection.sendall(f"{JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
    with suppress(OSError):
        for _ in range(100):
            connection.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
    told = read_all(connection)
    # A client that still sends may lose the answer with the connection.
    assert told == b"" or (status_of(told), code_of(told)) == (413, "body_too_large")
    with running.http() as http:
        assert http.post(PATH, content=b" " * (1 << 17)).status_code == 413
    assert answer(running) != ""


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ('{"model": %s}', "[" * 1_000_000),
        ('{"messages": %s}', '{"a":' * 200_000),
        ('{"model": "videolm-mini", "messages": [{"role": "user", "content": %s', "[" * 500_000),
        ('{"model": "videolm-mini", "messages": %s}', "[" + "{}," * 500_000 + "{}]"),
        ('{"model": "videolm-mini", "messages": [], "seed": %s}', "9" * 1_000_000),
        ('{"model": "videolm-mini", "messages": [], "temperature": %s}', "1e" + "9" * 100_000),
        ('{"model": %s}', '"' + "\\u0000" * 200_000 + '"'),
    ],
)
def test_bombs_of_json_are_refused_soon(server: Any, where: str, what: str) -> None:
    start = time.monotonic()
    with server.http() as http:
        response = http.post(PATH, content=where % what, headers={"content-type": "application/json"})
    assert response.status_code in (400, 404), response.text[:300]
    assert len(response.content) < 1000
    assert time.monotonic() - start < 10


def test_a_thousand_fields_are_refused_by_the_first(server: Any) -> None:
    many = {f"field_{number}": number for number in range(1000)}
    messages = [{"role": "user", "content": "Hello"} | many]
    with server.http() as http:
        outside = http.post(PATH, json=HELLO | many).json()["error"]
        inside = http.post(PATH, json=HELLO | {"messages": messages}).json()["error"]
    assert (outside["param"], inside["param"]) == ("field_0", "messages[0].field_0")


def test_a_fault_in_the_model_costs_the_request_that_has_it(serve: Any, eventually: Any) -> None:
    running = serve()
    words = [f"Tell me about the number {number}." for number in range(8)]
    expected = [answer(running, messages=[{"role": "user", "content": each}]) for each in words]
    engine = running.backend.engine._engine
    run, bad = engine._runner.run, engine.processor.tokenizer.encode("zebra", special=False)

    def spoiled(batch: Any) -> Any:
        if all(each in batch.input_ids.tolist() for each in bad):
            raise RuntimeError("a fault")
        time.sleep(0.01)  # So that they meet in one batch.
        return run(batch)

    engine._runner.run = spoiled

    def ask(text: str, stream: bool = False) -> Any:
        with running.http() as http:
            return http.post(PATH, json=HELLO | {"messages": [{"role": "user", "content": text}], "stream": stream})

    with ThreadPoolExecutor(16) as pool:
        good = [pool.submit(ask, text) for text in words]
        broken = [pool.submit(ask, f"zebra {number} zebra", number % 2 == 0) for number in range(4)]
    assert [each.result().json()["choices"][0]["message"]["content"] for each in good] == expected
    for each in broken:
        assert each.result().status_code == 500
        assert each.result().json()["error"]["type"] == "server_error"
    eventually(lambda: is_idle(running))
    assert running.backend.engine.stats().num_ended["error"] == 4


def test_a_storm_of_connections_leaves_nothing(serve: Any, connect: Connect, eventually: Any) -> None:
    running = serve(body_timeout_s=2.0)
    expected = answer(running)
    # Threads that answer requests stay for the next ones.
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    idle = [connect(running) for _ in range(200)]
    for number, connection in enumerate(idle):
        with suppress(OSError):
            connection.sendall([b"", b"GET", b"GET /health HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\r\n"][number % 5])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: answer(running), range(32)):
            assert found == expected
    for connection in idle[::2]:
        connection.close()
    for connection in idle[1::2]:
        read_all(connection)  # The server closes it.
        connection.close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before[0])
    assert answer(running) == expected
    assert is_idle(running)
