"""How long the stages of a piece of work take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Seconds by stage; a stage measured inside another does not count for the outer one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._start = time.perf_counter()
        self._inner = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time inside as ``stage``."""
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        try:
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[stage] += elapsed - self._inner
            self._inner = outer + elapsed

    def elapsed_s(self) -> float:
        """Since it was made, or last resumed."""
        return time.perf_counter() - self._start

    def resume(self, elapsed_s: float) -> None:
        """Go on from this reading, as if the time in between had not passed."""
        self._start = time.perf_counter() - elapsed_s
