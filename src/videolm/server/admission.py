"""How many requests are unanswered: those beyond a bound are refused, and those still running at the end are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from videolm.server.errors import ApiError

__all__ = ["Admission", "Place", "shutting_down"]


class Admission:
    """Counts the answers that are being made; for the event loop alone."""

    def __init__(self, max_unanswered: int) -> None:
        self._max_unanswered = max_unanswered
        self.num_unanswered = 0
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

    def take(self, count: int) -> None:
        """Count more answers, or refuse them."""
        if self.is_draining:
            raise shutting_down()
        if self.num_unanswered + count > self._max_unanswered:
            raise ApiError(
                429,
                f"{self.num_unanswered} answers are being made or waited for, and {count} more would be too many: "
                f"expected at most {self._max_unanswered} (--max-running and --max-queue). Ask again in a moment.",
                type="rate_limit_error",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        self.num_unanswered += count

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

    def take(self, count: int) -> None:
        """Count so many answers more."""
        self._admission.take(count)
        self.size += count


def shutting_down() -> ApiError:
    """Why a request is not answered any more."""
    return ApiError(
        503,
        "The server is shutting down: requests are expected before that. Ask again in a moment, or ask another server.",
        type="server_error",
        code="shutting_down",
        headers={"retry-after": "5", "connection": "close"},
    )
