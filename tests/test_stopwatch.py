"""The stopwatch: stages inside stages are counted once, and time that is not ours is not counted."""

from __future__ import annotations

import pytest
import torch

from videolm import stopwatch
from videolm.stopwatch import Stopwatch


class Clock:
    """Stands in for ``time``."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_a_stage_inside_a_stage_counts_for_itself_alone(clock: Clock) -> None:
    watch = Stopwatch(torch.device("cpu"))
    with watch.measure("decode"):
        clock.now += 1
        for _ in range(2):
            with watch.measure("preprocess"):
                clock.now += 3
        clock.now += 2
    with watch.measure("preprocess"):
        clock.now += 5
    assert dict(watch.seconds) == {"decode": 3, "preprocess": 11}
    assert watch.elapsed_s() == 14


def test_a_stage_that_fails_is_counted(clock: Clock) -> None:
    watch = Stopwatch(torch.device("cpu"))

    def decode() -> None:
        with watch.measure("decode"):
            clock.now += 2
            raise KeyError

    with pytest.raises(KeyError):
        decode()
    assert watch.seconds["decode"] == 2


def test_a_resumed_watch_leaves_out_the_time_between(clock: Clock) -> None:
    watch = Stopwatch(torch.device("cpu"))
    clock.now += 2
    reading = watch.elapsed_s()
    clock.now += 50
    watch.resume(reading)
    clock.now += 1
    assert watch.elapsed_s() == 3
