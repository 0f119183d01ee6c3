"""Clients that leave, wait, come in crowds or too late: what each is told, and what is left of its request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from .asking import LONG, MODEL, PATH


@pytest.fixture
def slow() -> Callable[..., Any]:
    """Makes each step of a server's engine take longer."""

    def slow_down(running: Any, step_s: float) -> Any:
        engine = running.backend.engine._engine
        step = engine.step

        def slow_step() -> Any:
            time.sleep(step_s)
            return step()

        engine.step = slow_step
        return running

    return slow_down


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return error


def events_of(response: Any) -> Iterator[str]:
    return (event for event in response.read().decode().split("\n\n") if event)


def is_idle(running: Any) -> bool:
    stats = running.backend.engine.stats()
    unanswered = running.backend.admission.num_unanswered
    return (stats.num_running, stats.num_waiting, stats.num_used_blocks, unanswered) == (0, 0, 0, 0)


def test_a_closed_stream_is_given_up_within_a_step(serve: Any, slow: Any, eventually: Any) -> None:
    running = slow(serve(), 0.02)
    with running.openai() as client:
        stream = client.chat.completions.create(**LONG, stream=True)
        next(stream)
        assert not is_idle(running)
        stream.close()
        eventually(lambda: is_idle(running))
    stats = running.backend.engine.stats()
    assert stats.num_ended["abort"] == 1
    assert stats.generated_tokens < LONG["max_tokens"] / 2


def test_a_closed_connection_ends_an_answer_that_is_not_streamed(serve: Any, slow: Any, eventually: Any) -> None:
    running = slow(serve(), 0.02)
    with running.http() as http, pytest.raises(httpx2.ReadTimeout):
        http.post(PATH, json=LONG | {"n": 3}, timeout=0.5)
    eventually(lambda: is_idle(running))
    assert running.backend.engine.stats().num_ended["abort"] == 3


def test_a_client_that_leaves_while_media_are_read_is_given_up(
    serve: Any, eventually: Any, clip_part: dict[str, Any]
) -> None:
    running = serve()
    began, goes_on = threading.Event(), threading.Event()

    def load(*args: Any, **options: Any) -> Any:
        began.set()
        assert goes_on.wait(30)
        raise AssertionError("nobody waits for this")

    object.__setattr__(running.backend.reader, "load", load)
    message = {"role": "user", "content": [clip_part, {"type": "text", "text": "What?"}]}
    body = json.dumps({"model": MODEL, "messages": [message]}).encode()
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert began.wait(30)
    eventually(lambda: running.backend.admission.num_unanswered == 0)
    goes_on.set()
    assert running.backend.engine.stats().num_steps == 0


def test_a_silent_stream_says_that_it_is_alive(serve: Any, slow: Any) -> None:
    running = slow(serve(keepalive_s=0.05), 0.3)
    body = LONG | {"max_tokens": 2, "stream": True}
    with running.http() as http, http.stream("POST", PATH, json=body) as response:
        events = list(events_of(response))
    assert events[:3] == [": keep-alive"] * 3
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]
    with running.openai() as client:
        assert len(list(client.chat.completions.create(**body))) == 2


def test_an_error_after_the_first_sign_of_life_is_told_by_an_event(serve: Any) -> None:
    running = serve(keepalive_s=0.05)

    def load(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        raise RuntimeError("with words of the request")

    object.__setattr__(running.backend.reader, "load", load)
    picture = {"type": "image_url", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    message = {"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}
    body = {"model": MODEL, "messages": [message], "stream": True}
    with running.http() as http, http.stream("POST", PATH, json=body) as response:
        assert response.status_code == 200
        *alive, failed, done = events_of(response)
    assert set(alive) == {": keep-alive"}
    assert json.loads(failed.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "words of the request" not in failed
    assert done == "data: [DONE]"


def test_requests_beyond_the_queue_are_refused(serve: Any, slow: Any, eventually: Any) -> None:
    running = slow(serve(max_running=1, max_queue=1), 0.05)
    with running.openai() as client, running.http() as http:
        streams = [client.chat.completions.create(**LONG, stream=True)]
        next(streams[0])
        second = threading.Thread(target=http.post, args=(PATH,), kwargs={"json": LONG | {"max_tokens": 1}})
        second.start()
        eventually(lambda: running.backend.admission.num_unanswered == 2)
        refused = httpx2.post(running.url + PATH, json=LONG)
        error = error_of(refused, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert refused.headers["retry-after"] == "1"
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**LONG)
        streams[0].close()
        second.join()
        eventually(lambda: is_idle(running))
        assert client.chat.completions.create(**LONG | {"max_tokens": 1}).usage.completion_tokens == 1
        # More answers at once than there are places.
        error_of(http.post(PATH, json=LONG | {"n": 3}), 429)
    assert is_idle(running)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_given_up(serve: Any, slow: Any, eventually: Any, stream: bool) -> None:
    running = slow(serve(request_timeout_s=2.0), 0.05)
    with running.http() as http:
        response = http.post(PATH, json=LONG | {"stream": stream})
        if stream:
            *chunks, failed, done = events_of(response)
            assert chunks
            assert done == "data: [DONE]"
            error = json.loads(failed.removeprefix("data: "))["error"]
        else:
            error = error_of(response, 504)
    assert (error["type"], error["code"]) == ("server_error", "request_timeout")
    eventually(lambda: is_idle(running))
    if stream:
        with running.openai() as client, pytest.raises(openai.APIError, match="--request-timeout"):
            list(client.chat.completions.create(**LONG, stream=True))


def test_a_step_that_fails_costs_its_own_requests(serve: Any, eventually: Any) -> None:
    running = serve()
    engine = running.backend.engine._engine
    run = engine._runner.run

    def fail(batch: Any) -> Any:
        engine._runner.run = run
        raise RuntimeError("a fault with words of the request")

    engine._runner.run = fail
    with running.http() as http:
        error = error_of(http.post(PATH, json=LONG), 500)
        assert error["type"] == "server_error"
        assert http.post(PATH, json=LONG | {"max_tokens": 1}).status_code == 200
    eventually(lambda: is_idle(running))


def test_running_answers_are_finished_at_the_end(serve: Any, slow: Any) -> None:
    running = slow(serve(shutdown_timeout_s=10.0), 0.01)
    with running.openai() as client:
        stream = client.chat.completions.create(**LONG | {"max_tokens": 40}, stream=True)
        first = next(stream)
        running.end()
        chunks = [first, *stream]
    assert chunks[-1].choices[0].finish_reason == "length"
    with pytest.raises(OSError):  # noqa: PT011 - whichever of them the system has
        socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=1).close()


def test_what_runs_too_long_at_the_end_is_told_so(serve: Any, slow: Any, eventually: Any) -> None:
    running = slow(serve(shutdown_timeout_s=1.0), 0.05)
    answers: dict[bool, Any] = {}

    def ask(stream: bool) -> None:
        answers[stream] = httpx2.post(running.url + PATH, json=LONG | {"stream": stream}, timeout=30)

    threads = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
    for thread in threads:
        thread.start()
    eventually(
        lambda: running.backend.engine.stats().generated_tokens > 5 and running.backend.engine.num_unfinished == 2
    )
    running.end()
    for thread in threads:
        thread.join(10)
    assert error_of(answers[False], 503)["code"] == "shutting_down"
    assert answers[True].status_code == 200
    *chunks, failed, done = events_of(answers[True])
    assert chunks
    assert json.loads(failed.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert done == "data: [DONE]"


def test_a_server_that_ends_takes_nothing_more_and_says_so(serve: Any, slow: Any, eventually: Any) -> None:
    running = slow(serve(shutdown_timeout_s=10.0), 0.02)
    with running.http() as http, running.openai() as client:
        assert http.get("/health").json() == {"status": "ok"}
        stream = client.chat.completions.create(**LONG | {"max_tokens": 60}, stream=True)
        next(stream)
        running.loop.call_soon_threadsafe(running.backend.admission.drain, 10.0)
        eventually(lambda: http.get("/health").status_code == 503)
        assert http.get("/health").json() == {"status": "draining"}
        assert http.get("/health/live").json() == {"status": "ok"}
        refused = http.post(PATH, json=LONG)
        assert error_of(refused, 503)["code"] == "shutting_down"
        assert refused.headers["retry-after"] == "5"
        assert list(stream)[-1].choices[0].finish_reason == "length"
