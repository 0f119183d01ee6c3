"""Starts the peer's server and streams answers from it, several requests at once."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from peers import environment, peer_python
from reports import ROOT

READY_S = 300


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """One answer: its text, and seconds from sending the request."""

    text: str
    num_tokens: int
    first_s: float
    last_s: float


class PeerServer:
    """``transformers serve`` with one model on a free port."""

    def __init__(self, folder: Path, dtype: str = "bfloat16") -> None:
        self.model, self.port = str(folder), _free_port()
        self.process = subprocess.Popen(
            [
                peer_python(), str(ROOT / "benchmarks" / "peer_serve.py"), self.model, "--continuous-batching",
                "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", "--dtype", dtype,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
                    connection.request("GET", "/health")
                    with connection.getresponse() as response:
                        if response.status == 200:
                            return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"The peer's server is not ready after {READY_S} s: run benchmarks/peer_serve.py by hand.")

    def ask_at_once(self, bodies: Sequence[dict[str, Any]]) -> list[Streamed]:
        """Send all requests at the same time and read their streams."""
        answers: dict[int, Streamed | Exception] = {}

        def ask(index: int, body: dict[str, Any]) -> None:
            try:
                answers[index] = stream("127.0.0.1", self.port, {"model": self.model, **body})
            except Exception as error:
                answers[index] = error

        threads = [threading.Thread(target=ask, args=each) for each in enumerate(bodies)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = []
        for index in range(len(bodies)):
            answer = answers[index]
            if isinstance(answer, Exception):
                raise SystemExit(f"The peer's server failed: {answer}")
            found.append(answer)
        return found

    def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait()


def video_body(path: Path, question: str, *, num_frames: int, num_new: int) -> dict[str, Any]:
    """A request of the OpenAI form, as ``transformers serve`` takes it."""
    generation = {
        "do_sample": False, "max_new_tokens": num_new, "min_new_tokens": num_new, "pad_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    video, text = {"type": "video_url", "video_url": {"url": str(path)}}, {"type": "text", "text": question}
    return {
        "stream": True,
        "messages": [{"role": "user", "content": [video, text]}],
        "generation_config": json.dumps(generation),
        "chat_template_kwargs": {"num_frames": num_frames},
    }


def stream(host: str, port: int, body: dict[str, Any]) -> Streamed:
    """Send one request and read its stream to the end."""
    start, text, first_s, num_tokens = time.perf_counter(), "", 0.0, 0
    with closing(http.client.HTTPConnection(host, port, timeout=3600)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"status {response.status}: {response.read(300)!r}")
        for line in response:
            chunk = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if "error" in chunk:
                raise OSError(str(chunk["error"]))
            for choice in chunk.get("choices", ()):
                piece = choice["delta"].get("content") or ""
                text += piece
                first_s = first_s or (time.perf_counter() - start if piece else 0.0)
            num_tokens = (chunk.get("usage") or {}).get("completion_tokens", num_tokens)
    return Streamed(text=text, num_tokens=num_tokens, first_s=first_s, last_s=time.perf_counter() - start)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
