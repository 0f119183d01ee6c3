"""One HTTP/1.1 request out, its answer in with the time of each piece: a client that takes little of the processor.

A load shares the processor with the server that it measures, so what a general client does beside is left out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

CHAT = "/v1/chat/completions"
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one chat request; seconds since it was sent."""

    status: int
    text: str
    times_s: tuple[float, ...] = ()
    """When each piece of the text came."""
    total_s: float
    problem: str | None = None
    """Why it is no whole answer."""


class Exchange:
    """One request on a connection of its own, which is open for as long as the context is."""

    def __init__(
        self, address: Address, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json"
    ) -> None:
        self._address = address
        head = [f"{method} {path} HTTP/1.1", f"Host: {address.host}", "Connection: close"]
        if body or method == "POST":
            head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        self._bytes = "\r\n".join([*head, "", ""]).encode() + body
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Send the request, and read the head of the answer."""
        opening = asyncio.open_connection(self._address.host, self._address.port, limit=_LONGEST_LINE)
        self._reader, self._writer = await opening
        try:
            self._writer.write(self._bytes)
            await self._writer.drain()
            await self._read_head()
        except BaseException:
            self._writer.transport.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        if self.headers.get("transfer-encoding") != "chunked":
            yield await self._reader.readexactly(int(self.headers["content-length"]))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            part = await self._reader.readexactly(size + 2)
            yield part[:-2]
        await self._reader.readuntil(b"\r\n")

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([part async for part in self.parts()])

    async def _read_head(self) -> None:
        line, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(line.split(" ", 2)[1])
        pairs = (each.split(":", 1) for each in rest if each)
        self.headers = {name.strip().lower(): value.strip() for name, value in pairs}


async def ask(address: Address, body: dict[str, Any]) -> Answer:
    """Ask for one answer, streamed or whole; whatever goes wrong is told as its problem."""
    start, times = time.perf_counter(), list[float]()
    status, text, problem = 0, "", None
    try:
        async with Exchange(address, "POST", CHAT, json.dumps(body).encode()) as exchange:
            status = exchange.status
            if exchange.headers.get("content-type", "").startswith("text/event-stream"):
                is_finished = False
                async for data in events(exchange):
                    piece, is_last = _read_event(data)
                    text, is_finished = text + piece, is_finished or is_last
                    times += [time.perf_counter() - start] * bool(piece)
                problem = None if is_finished else "the stream ended early"
            else:
                text = _read_whole(await exchange.body(), status)
                times.append(time.perf_counter() - start)
    except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    return Answer(
        status=status, text=text, times_s=tuple(times), total_s=time.perf_counter() - start, problem=problem
    )  # fmt: skip


async def events(exchange: Exchange) -> AsyncIterator[bytes]:
    """What each server-sent event says."""
    left = b""
    async for part in exchange.parts():
        *whole, left = (left + part).split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                yield event.removeprefix(b"data: ")


def _read_event(data: bytes) -> tuple[str, bool]:
    """Text of a chunk, and whether it ends its answer."""
    if data == b"[DONE]":
        return "", False
    chunk = json.loads(data)
    if "error" in chunk:
        raise ValueError(str(chunk["error"]))
    if not chunk["choices"]:
        return "", False
    choice = chunk["choices"][0]
    return choice["delta"].get("content") or "", choice.get("finish_reason") is not None


def _read_whole(body: bytes, status: int) -> str:
    if status != 200:
        raise ValueError(f"status {status}: {body[:300].decode(errors='replace')}")
    return str(json.loads(body)["choices"][0]["message"]["content"])
