"""HTTP connections of one server: cut off where nothing comes, nothing is read, or what comes is no HTTP."""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from videolm.server.errors import ApiError, error_body

__all__ = ["GuardedProtocol"]


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol with a bound on each time that a client alone decides."""

    timeout_s: ClassVar[float] = 60.0
    """For a request's headers to come, for the rest of a refused body to come, and for what was sent to be read."""

    _waiting: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request that was sent ahead may be running by now.
        if not self._is_answering() and not self.transport.is_closing():
            self._wait_for_request()

    def pause_writing(self) -> None:
        """Called when the client leaves what it was sent in the buffers."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when there is room again."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP, in the shape of all other errors."""
        hint = getattr(sys.exception(), "error_status_hint", 400)
        status = hint if hint in STATUS_PHRASES else 400
        what = "The request's line and headers are too long" if status == 431 else "The request is no valid HTTP"
        error = ApiError(
            status,
            f"{what}: expected HTTP/1.1 within the server's limits (--max-header-bytes). Correct it.",
            code="invalid_http",
        )
        body = error_body(error)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.append((b"connection", b"close"))
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
