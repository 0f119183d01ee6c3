"""Events in, a response of server-sent events out: alive while there is nothing to say, and whole after an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.types import Send

from videolm.server.errors import ApiError, as_api_error, error_body, timed_out

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that buffer would hold the answer back.
    (b"x-accel-buffering", b"no"),
]
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

__all__ = ["DONE", "KEEP_ALIVE", "EventSender"]


class EventSender:
    """Sends events to one client. The response begins with the first event, or the first time of silence."""

    def __init__(self, send: Send, *, keepalive_s: float) -> None:
        self._send = send
        self._keepalive_s = keepalive_s
        self.is_begun = False

    async def send_all(
        self, events: AsyncGenerator[bytes, None], *, timeout_s: float, ended: Callable[[], ApiError | None]
    ) -> None:
        """Send each event's data, and the mark of the end.

        An error before the first event is raised: the response can still have its status. A later one is told by an
        event.

        Args:
            timeout_s: For all of it.
            ended: Why this task was cancelled, where the client is to be told; None where nobody is there to hear.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._send_events(events)
        except asyncio.CancelledError:
            reason = ended()
            if reason is None:
                raise
            await self._fail(reason)
        except TimeoutError:
            await self._fail(timed_out(timeout_s))
        except Exception as error:
            await self._fail(as_api_error(error))

    async def _send_events(self, events: AsyncGenerator[bytes, None]) -> None:
        following = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=self._keepalive_s)
                if not done:
                    await self._write(KEEP_ALIVE)
                    continue
                event = following.result()
                if event is None:
                    break
                following = asyncio.ensure_future(anext(events, None))
                await self._write(b"data: " + event + b"\n\n")
        finally:
            following.cancel()
            await asyncio.wait({following})
            await events.aclose()
        await self._write(DONE, is_last=True)

    async def _fail(self, error: ApiError) -> None:
        if not self.is_begun:
            raise error
        await self._write(b"data: " + error_body(error) + b"\n\n")
        await self._write(DONE, is_last=True)

    async def _write(self, data: bytes, *, is_last: bool = False) -> None:
        if not self.is_begun:
            self.is_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})
