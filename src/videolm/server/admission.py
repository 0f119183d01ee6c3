"""How many requests are unanswered: those beyond a bound are refused, and those still running at the end are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from videolm.server.errors import ApiError

__all__ = ["Admission", "Place", "shutting_down"]


class Admission:
    """Counts the answers that are being made; for the event loop alone."""

    def __init__(self, max_unanswered: int, max_bytes: int) -> None:
        """``max_bytes``: of the bodies of all that is unanswered."""
        self._max_unanswered = max_unanswered
        self._max_bytes = max_bytes
        self.num_unanswered = 0
        self.num_bytes = 0
        self.is_draining = False
        """Whether no further request is taken."""
        self.is_over = False
        """Whether requests that still run were told to end."""
        self._running: set[asyncio.Task[object]] = set()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place for one answer, free again at the end; refused with 429 or, before the server ends, with 503."""
        place = Place(self)
        place.take(1)
        try:
            yield place
        finally:
            self.num_unanswered -= place.size
            self.num_bytes -= place.num_bytes

    def take(self, count: int) -> None:
        """Count more answers, or refuse them."""
        if self.is_draining:
            raise shutting_down()
        if self.num_unanswered + count > self._max_unanswered:
            raise _full(
                f"{self.num_unanswered} answers are being made or waited for, and {count} more would be too many: "
                f"expected at most {self._max_unanswered} (--max-running and --max-queue)"
            )
        self.num_unanswered += count

    def hold(self, num_bytes: int) -> None:
        """Count bytes of a body, or refuse them."""
        if self.num_bytes + num_bytes > self._max_bytes:
            raise _full(
                f"The bodies of requests that are unanswered have {self.num_bytes} bytes: expected at most "
                f"{self._max_bytes} with this one (--max-bodies-bytes)"
            )
        self.num_bytes += num_bytes

    @contextmanager
    def running(self, task: asyncio.Task[object]) -> Iterator[None]:
        """A task that is cancelled when the time for shutting down is over."""
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    def drain(self, timeout_s: float) -> None:
        """Take nothing more, and end what still runs after this time."""
        if not self.is_draining:
            self.is_draining = True
            asyncio.get_running_loop().call_later(timeout_s, self._end)

    def _end(self) -> None:
        self.is_over = True
        for task in self._running:
            task.cancel()


class Place:
    """What one request counts for."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.size = 0
        self.num_bytes = 0

    def take(self, count: int) -> None:
        """Count so many answers more."""
        self._admission.take(count)
        self.size += count

    def hold(self, num_bytes: int) -> None:
        """Count so many bytes more of its body, which stays in memory until it is answered."""
        self._admission.hold(num_bytes)
        self.num_bytes += num_bytes


def _full(problem: str) -> ApiError:
    return ApiError(
        429,
        f"{problem}. Ask again in a moment.",
        type="rate_limit_error",
        code="queue_full",
        headers={"retry-after": "1"},
    )


def shutting_down() -> ApiError:
    """Why a request is not answered any more."""
    return ApiError(
        503,
        "The server is shutting down: requests are expected before that. Ask again in a moment, or ask another server.",
        type="server_error",
        code="shutting_down",
        headers={"retry-after": "5", "connection": "close"},
    )
