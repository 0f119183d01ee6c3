"""Items to prepare in, prepared ones out: made ahead by a few threads while the model works, within bounds.

What is ready is handed out the earliest first, so that a slow source holds nobody else up; ``in_order`` keeps the order
of its items instead. An error belongs to its own item. Cancelling frees a waiting or finished item at once; one that is
being prepared cannot be interrupted, so its place is free when it is done.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from videolm.errors import EngineError
from videolm.generation.params import check_whole

Item = TypeVar("Item")
Value = TypeVar("Value")

__all__ = ["PreparationPool", "Prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[Item, Value]):
    """What became of one item: a value, or the error that it raised."""

    ticket: int
    item: Item
    value: Value | None = None
    error: Exception | None = None

    def result(self) -> Value:
        """The value; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class PreparationPool(Generic[Item, Value]):
    """Prepares items in threads, ahead of whoever takes them."""

    def __init__(
        self,
        prepare: Callable[[Item], Value],
        *,
        num_workers: int = 2,
        max_ahead: int = 8,
        max_bytes: int = 1 << 30,
        size_of: Callable[[Value], int] = lambda value: 0,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a pool; threads start with the first item.

        Args:
            prepare: Called in several threads at once.
            max_ahead: Most items that are being prepared or wait to be taken.
            max_bytes: No further item is begun while those that wait to be taken have so many bytes.
            size_of: The bytes of a prepared item.
            on_ready: Called after an item has become ready, in the thread that prepared it.
        """
        check_whole("num_workers", num_workers, 1)
        check_whole("max_ahead", max_ahead, 1)
        check_whole("max_bytes", max_bytes, 1)
        self._prepare = prepare
        self._num_workers, self._max_ahead, self._max_bytes = num_workers, max_ahead, max_bytes
        self._size_of, self._on_ready = size_of, on_ready
        self._changed = threading.Condition()
        self._tickets = itertools.count()
        self._waiting: dict[int, Item] = {}
        self._running: set[int] = set()
        self._cancelled: set[int] = set()
        self._ready: dict[int, Prepared[Item, Value]] = {}
        self._bytes: dict[int, int] = {}
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def __enter__(self) -> PreparationPool[Item, Value]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(timeout_s=None if kind is None else 0.0)

    def submit(self, item: Item) -> int:
        """Queue an item; gives the ticket that it is known by. Never waits."""
        with self._changed:
            if self._is_closed:
                raise EngineError("The pool is closed: items are expected before that. Make a new one.")
            ticket = next(self._tickets)
            self._waiting[ticket] = item
            if len(self._threads) < self._num_workers:
                self._threads.append(threading.Thread(target=self._work, name="videolm-preparation", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: int) -> bool:
        """Give an item up; False where it was taken, or given up, before."""
        with self._changed:
            is_known = ticket in self._waiting or ticket in self._ready or ticket in self._running - self._cancelled
            self._waiting.pop(ticket, None)
            self._ready.pop(ticket, None)
            self._bytes.pop(ticket, None)
            if ticket in self._running:
                self._cancelled.add(ticket)
            self._changed.notify_all()
        return is_known

    @property
    def num_pending(self) -> int:
        """Items that were neither taken nor cancelled yet."""
        with self._changed:
            return self._count_pending()

    def take(self, timeout_s: float | None = 0.0) -> list[Prepared[Item, Value]]:
        """All that is ready, the earliest first.

        Args:
            timeout_s: How long to wait for the first one while anything is pending; None: as long as it takes.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self._count_pending(), timeout_s)
            taken = [self._ready[ticket] for ticket in sorted(self._ready)]
            self._ready.clear()
            self._bytes.clear()
            self._changed.notify_all()
        return taken

    def in_order(self, items: Iterable[Item]) -> Iterator[Prepared[Item, Value]]:
        """Prepare items ahead of the loop over them, in their order; nobody else may use the pool meanwhile."""
        source, expected = iter(items), deque[int]()
        while True:
            for item in itertools.islice(source, self._max_ahead - len(expected)):
                expected.append(self.submit(item))
            if not expected:
                return
            yield self._take_one(expected.popleft())

    def close(self, *, timeout_s: float | None = None) -> None:
        """Give up all that is not taken.

        Args:
            timeout_s: How long to wait for what is being prepared now, which cannot be interrupted; None: to its end.
        """
        with self._changed:
            self._is_closed = True
            for items in (self._waiting, self._ready, self._bytes):
                items.clear()
            self._changed.notify_all()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def _take_one(self, ticket: int) -> Prepared[Item, Value]:
        with self._changed:
            self._changed.wait_for(lambda: ticket in self._ready)
            self._bytes.pop(ticket)
            taken = self._ready.pop(ticket)
            self._changed.notify_all()
        return taken

    def _count_pending(self) -> int:
        return len(self._waiting) + len(self._ready) + len(self._running - self._cancelled)

    # --- in a worker's thread ---

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._may_begin())
                if self._is_closed:
                    return
                ticket = next(iter(self._waiting))
                item = self._waiting.pop(ticket)
                self._running.add(ticket)
            done, num_bytes = self._prepared(ticket, item)
            with self._changed:
                self._running.remove(ticket)
                if ticket in self._cancelled or self._is_closed:
                    self._cancelled.discard(ticket)
                else:
                    self._ready[ticket], self._bytes[ticket] = done, num_bytes
                self._changed.notify_all()
            self._on_ready()

    def _prepared(self, ticket: int, item: Item) -> tuple[Prepared[Item, Value], int]:
        try:
            value = self._prepare(item)
            return Prepared(ticket=ticket, item=item, value=value), self._size_of(value)
        except Exception as error:  # Whatever it is, it is told to whoever takes the item.
            return Prepared(ticket=ticket, item=item, error=error), 0
        except BaseException as panic:  # A panic in a library that is not written in Python.
            fault = EngineError(f"The preparation failed ({type(panic).__name__}): an item was expected. Try another.")
            fault.__cause__ = panic
            return Prepared(ticket=ticket, item=item, error=fault), 0

    def _may_begin(self) -> bool:
        num_ahead = len(self._running) + len(self._ready)
        return bool(self._waiting) and num_ahead < self._max_ahead and sum(self._bytes.values()) < self._max_bytes
