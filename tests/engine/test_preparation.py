"""Preparing ahead: slow sources hold nobody up, bounds hold, errors and cancelling stay with their item."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from videolm.engine.preparation import PreparationPool, Prepared
from videolm.errors import ArgumentError, EngineError, MediaError

WAIT_S = 20.0
"""Far longer than anything here takes."""


class Gate:
    """A ``prepare`` that gives an item back once its gate is open, and counts what it holds at a time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most_at_once = 0
        self._open: dict[str, threading.Event] = {}
        self._inside = 0
        self._lock = threading.Lock()

    def gate(self, item: str) -> threading.Event:
        with self._lock:
            return self._open.setdefault(item, threading.Event())

    def __call__(self, item: str) -> str:
        with self._lock:
            self.begun.append(item)
            self._inside += 1
            self.most_at_once = max(self.most_at_once, self._inside)
        assert self.gate(item).wait(WAIT_S)
        with self._lock:
            self._inside -= 1
        if item.startswith("bad"):
            raise MediaError(f"{item} cannot be read.")
        return item.upper()

    def open(self, *items: str) -> None:
        for item in items:
            self.gate(item).set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open(*made.begun)


def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def values(taken: list[Prepared[str, str]]) -> list[str]:
    return [each.result() for each in taken]


def test_a_slow_source_does_not_block_a_fast_one(gate: Gate) -> None:
    with PreparationPool(gate, num_workers=2) as pool:
        for item in ("slow", "fast", "faster"):
            pool.submit(item)
        gate.open("fast", "faster")
        taken: list[str] = []
        while len(taken) < 2:
            taken += values(pool.take(WAIT_S))
        assert taken == ["FAST", "FASTER"]
        assert (pool.num_pending, pool.take()) == (1, [])
        gate.open("slow")
        assert values(pool.take(WAIT_S)) == ["SLOW"]
        assert (pool.num_pending, pool.take(None)) == (0, [])


def test_what_is_ready_comes_the_earliest_first(gate: Gate) -> None:
    with PreparationPool(gate, num_workers=3) as pool:
        tickets = [pool.submit(item) for item in "abc"]
        for item in "cba":
            gate.open(item)
            eventually(lambda item=item: item.upper() in {each.value for each in pool._ready.values()})
        taken = pool.take()
        assert ([each.ticket for each in taken], values(taken)) == (tickets, ["A", "B", "C"])


def test_no_more_is_prepared_ahead_than_allowed(gate: Gate) -> None:
    items = [str(index) for index in range(9)]
    gate.open(*items)
    with PreparationPool(gate, num_workers=4, max_ahead=3) as pool:
        for item in items:
            pool.submit(item)
        eventually(lambda: len(pool._ready) == 3)
        time.sleep(0.05)
        assert sorted(gate.begun) == ["0", "1", "2"]
        assert values(pool.take()) == ["0", "1", "2"]
        taken: list[str] = []
        while pool.num_pending:
            taken += values(pool.take(WAIT_S))
        assert sorted(taken) == items[3:]
    assert gate.most_at_once <= 3


def test_no_more_is_begun_while_too_many_bytes_wait(gate: Gate) -> None:
    gate.open("a", "b", "c")
    with PreparationPool(gate, num_workers=1, max_bytes=10, size_of=lambda value: 6) as pool:
        for item in "abc":
            pool.submit(item)
        eventually(lambda: len(pool._ready) == 2)
        time.sleep(0.05)
        assert gate.begun == ["a", "b"]
        assert values(pool.take()) == ["A", "B"]
        assert values(pool.take(WAIT_S)) == ["C"]


def test_an_error_belongs_to_its_item(gate: Gate) -> None:
    gate.open("good", "bad", "better")
    with PreparationPool(gate, num_workers=1) as pool:
        taken = list(pool.in_order(["good", "bad", "better"]))
    assert [each.value for each in taken] == ["GOOD", None, "BETTER"]
    with pytest.raises(MediaError, match=r"bad cannot be read\."):
        taken[1].result()


def test_cancelled_items_are_never_given_out(gate: Gate) -> None:
    with PreparationPool(gate, num_workers=1, max_ahead=2) as pool:
        running, waiting, last = (pool.submit(item) for item in ("running", "waiting", "last"))
        eventually(lambda: gate.begun == ["running"])
        assert (pool.cancel(waiting), pool.cancel(waiting)) == (True, False)
        assert (pool.cancel(running), pool.cancel(running)) == (True, False)
        assert pool.num_pending == 1
        gate.open("running", "last")
        assert values(pool.take(WAIT_S)) == ["LAST"]
        assert gate.begun == ["running", "last"]
        assert pool.cancel(last) is False
        ready = pool.submit("last")
        eventually(lambda: bool(pool._ready))
        assert (pool.cancel(ready), pool.num_pending, pool.take()) == (True, 0, [])


def test_items_in_order_are_prepared_ahead_of_the_loop(gate: Gate) -> None:
    with PreparationPool(gate, num_workers=2, max_ahead=2) as pool:
        gate.open("b", "c", "d")
        loop = pool.in_order("abcd")
        threading.Timer(0.05, gate.open, ["a"]).start()
        assert next(loop).value == "A"
        eventually(lambda: "b" in gate.begun)
        assert [each.value for each in loop] == ["B", "C", "D"]
    assert gate.most_at_once <= 2


def test_closing_gives_up_what_waits(gate: Gate) -> None:
    pool = PreparationPool(gate, num_workers=1)
    pool.submit("a")
    pool.submit("b")
    eventually(lambda: gate.begun == ["a"])
    threading.Timer(0.05, gate.open, ["a"]).start()
    pool.close()
    assert (gate.begun, pool.take()) == (["a"], [])
    with pytest.raises(EngineError, match="The pool is closed"):
        pool.submit("c")


@pytest.mark.parametrize("bounds", [{"num_workers": 0}, {"max_ahead": 0}, {"max_bytes": 0}])
def test_impossible_bounds_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(bounds))):
        PreparationPool(str, **bounds)
