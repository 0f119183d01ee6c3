"""An application in, a server on the network until it is told to end: running requests are finished, or told why."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from videolm.errors import ArgumentError
from videolm.server.admission import Admission
from videolm.server.protocol import GuardedProtocol
from videolm.server.settings import ServerSettings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TELLING_S = 0.5
"""How long those that did not finish have to be told so, before uvicorn cancels them."""
_BEYOND_S = 4.0
"""How long after the last request was ended the process may still live; with the longest wait, under 20 s in all."""

__all__ = ["Server", "listen", "url_of"]


def listen(settings: ServerSettings) -> socket.socket:
    """A socket at the address of the settings."""
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ArgumentError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}): expected an address of this machine and "
            "a free port. Choose another --host or --port; --port 0 takes any that is free."
        ) from error


def url_of(listener: socket.socket) -> str:
    """Where to reach it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves one application; ``SIGTERM`` and ``SIGINT`` end it in good order, and with status 0."""

    def __init__(
        self, app: Starlette, settings: ServerSettings, admission: Admission, *, on_ready: Callable[[], None]
    ) -> None:
        protocol = type("Protocol", (GuardedProtocol,), {"timeout_s": settings.body_timeout_s})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=settings.max_header_bytes,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_s) + 1,
            )
        )
        self._shutdown_timeout_s = settings.shutdown_timeout_s
        self._admission = admission
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called before the first request."""
        await super().startup(sockets)
        self._on_ready()

    def end(self) -> None:
        """Take no more requests, and end when those that run are over; to be called in the event loop."""
        if not self.should_exit:
            self._admission.drain(self._shutdown_timeout_s)
            asyncio.get_running_loop().call_later(self._shutdown_timeout_s + _TELLING_S, self._cut_off)
        self.should_exit = True

    def _cut_off(self) -> None:
        """Close what is left: connections whose clients neither send on nor read what they were told."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called around serving. uvicorn's own would have the process die of the signal in the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._end_by_signal)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _end_by_signal(self) -> None:
        if not self.should_exit:
            # A step of a large model, a download or a decoder cannot be interrupted: nobody waits for them then.
            last = threading.Timer(self._shutdown_timeout_s + _BEYOND_S, os._exit, (0,))
            last.daemon = True
            last.start()
        self.end()
