"""The parts of the load and of the soak, against a small server of this test's own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soak
from http_exchange import Address, Exchange, ask
from load_process import closed_load, open_load
from PIL import Image
from processes import taken_by, tree
from soak_load import Client
from soak_media import make_files
from soak_report import section_of, write_report
from soak_requests import Question, make_mistakes, make_questions

from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        words = body["messages"][-1]["content"]
        if words == "fail":
            self._whole(503, b'{"error": "busy"}')
        elif not body.get("stream"):
            self._whole(200, json.dumps({"choices": [{"message": {"content": words}}]}).encode())
        else:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            last = "" if words == "torn" else 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
            for text in (*words.split(), ""):
                event = json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": None}]})
                self._chunk(f"data: {event}\n\n" if text else last + "data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        self._whole(200, b"here")

    def _whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunk(self, text: str) -> None:
        # In the middle of an event too.
        for part in (text.encode()[:9], text.encode()[9:]):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Address(host="127.0.0.1", port=server.server_port)
        server.shutdown()
        thread.join()


def body(words: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}], **more}


def test_an_answer_is_read_whole_and_in_pieces(address: Address) -> None:
    whole = asyncio.run(ask(address, body("one two")))
    assert (whole.status, whole.text, whole.problem, len(whole.times_s)) == (200, "one two", None, 1)
    streamed = asyncio.run(ask(address, body("one two", stream=True)))
    assert (streamed.text, streamed.problem, len(streamed.times_s)) == ("onetwo", None, 2)
    assert 0 < streamed.times_s[0] <= streamed.times_s[1] <= streamed.total_s


def test_what_is_no_whole_answer_is_a_problem(address: Address) -> None:
    assert asyncio.run(ask(address, body("torn", stream=True))).problem == "the stream ended early"
    assert asyncio.run(ask(address, body("fail"))).problem == 'ValueError: status 503: {"error": "busy"}'
    nowhere = replace(address, port=1)
    assert "ConnectionRefusedError" in str(asyncio.run(ask(nowhere, body("a"))).problem)


def test_other_requests_have_a_status_and_a_body(address: Address) -> None:
    async def get() -> tuple[int, bytes]:
        async with Exchange(address, "GET", "/x") as exchange:
            return exchange.status, await exchange.body()

    assert asyncio.run(get()) == (200, b"here")


def test_loads_answer_in_the_order_of_their_requests(address: Address) -> None:
    bodies = [body(f"number {number}") for number in range(9)]
    expected = [f"number {number}" for number in range(9)]
    assert [answer.text for answer in asyncio.run(closed_load(address, bodies, 4))] == expected
    at_s = [0.02 * (9 - number) for number in range(9)]
    assert [answer.text for answer in asyncio.run(open_load(address, bodies, at_s))] == expected


def test_what_a_process_takes_is_counted() -> None:
    before = taken_by(os.getpid())
    with open(os.devnull) as _, io.BytesIO():
        inside = taken_by(os.getpid())
    assert (inside.num_files - before.num_files, inside.num_sockets - before.num_sockets) == (1, 0)
    assert inside.num_processes == len(tree(os.getpid()))
    assert inside.memory_bytes > 1 << 20
    assert taken_by(1 << 30).num_processes == 0


def test_copies_of_media_are_other_bytes_of_the_same_frames(tmp_path: Path) -> None:
    dice = random.Random(0)
    files = make_files(tmp_path)
    for file in (files[0], files[-1]):
        copy = file.copy(dice)
        assert copy.content != file.content
        one, other = (load_media(each.content, sampling=FrameSampling(), kind=file.kind) for each in (file, copy))
        np.testing.assert_array_equal(np.stack(one.pixels), np.stack(other.pixels))


def test_questions_are_all_different(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    questions = make_questions(files)
    assert len(set(questions)) == len(questions) > 30
    assert {len(question.files) for question in questions} == {0, 1, 2, 3}
    assert len({mistake.name for mistake in make_mistakes("m", files)}) == 15
    told = Question(text="And now?", before=("What?", "This.")).body("m", [{"type": "x"}])
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user"]
    assert told["messages"][0]["content"][0] == {"type": "x"}


def test_a_soak_tells_what_grew_and_what_was_wrong(tmp_path: Path) -> None:
    taken = taken_by(os.getpid())
    more = replace(taken, num_threads=taken.num_threads + 1, memory_bytes=taken.memory_bytes * 105 // 100)
    client: Any = SimpleNamespace(problems=["question 3: 'a' instead of 'b'"], done={"asked": 9, "bad": 1})
    samples = [(float(second), 1000 + second) for second in range(100)]
    gauges = dict.fromkeys(soak._ZERO, 0.0)
    found = soak.Found(
        plan=soak.Plan(seconds=100), client=client, samples=samples, before=taken, after=more,
        gauges=gauges | {"videolm_cache_blocks_used": 2.0}, status=0, end_s=1.0,
    )  # fmt: skip
    assert found.growth == pytest.approx(0.05, abs=1e-3)
    assert found.growth_under_load == pytest.approx(1093 / 1040 - 1, abs=2e-3)
    assert found.faults() == [
        "question 3: 'a' instead of 'b'",
        "memory grew by 5.0%: at most 2% was expected",
        f"num_threads is {more.num_threads}: {taken.num_threads} was expected",
        "videolm_cache_blocks_used is 2 at rest: 0 was expected",
    ]
    assert "10 requests (9 asked, 1 bad)" in section_of(found).setting
    path = write_report(found, tmp_path)
    assert "![Memory of the server](soak_" in path.read_text()
    with Image.open(path.with_suffix(".png")) as image:
        assert image.size == (900, 400)
    flat = replace(
        found, client=SimpleNamespace(problems=[], done={}), after=taken, gauges=gauges, samples=[(99.0, 5)] * 9
    )
    assert flat.faults() == []
    fewer = replace(taken, num_processes=taken.num_processes - 1)
    assert replace(flat, after=fewer).faults() == [
        f"num_processes is {fewer.num_processes}: {taken.num_processes} was expected"
    ]


def test_a_wrong_answer_is_noted(address: Address) -> None:
    client = Client(
        address=address, model="m", files=[], questions=[Question(text="a")], mistakes=[], dice=random.Random(0),
        alone={0: "something else"},
    )  # fmt: skip
    asyncio.run(client._check(0, []))
    assert client.problems[0].startswith("question 0: ")
