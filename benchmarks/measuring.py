"""Times functions side by side: wall and CPU milliseconds, and how busy everything else kept the machine meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One call."""

    wall_ms: float
    cpu_ms: float
    """Of this process, all its threads."""
    others_cpu_ms: float | None
    """CPU time that everything else on the machine used meanwhile; None where the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Several calls of one function."""

    samples: tuple[Sample, ...]

    @property
    def wall_ms(self) -> float:
        return statistics.median(sample.wall_ms for sample in self.samples)

    @property
    def cpu_ms(self) -> float:
        return statistics.median(sample.cpu_ms for sample in self.samples)

    @property
    def wall_text(self) -> str:
        """Median and range, for a table."""
        return spread_text([sample.wall_ms for sample in self.samples])

    @property
    def cpu_text(self) -> str:
        return spread_text([sample.cpu_ms for sample in self.samples])

    @property
    def others_share(self) -> float | None:
        """The part of the wall time of all cores that others used."""
        others = [sample.others_cpu_ms for sample in self.samples if sample.others_cpu_ms is not None]
        wall_ms = sum(sample.wall_ms for sample in self.samples)
        return sum(others) / (wall_ms * (os.cpu_count() or 1)) if others and wall_ms else None


def spread_text(values: list[float]) -> str:
    """Median and range, in as many digits as make sense."""
    digits = 0 if statistics.median(values) >= 100 else 1
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def measure(function: Callable[[], object]) -> Sample:
    """One call of ``function``."""
    busy_ms, cpu_s, wall_s = machine_busy_ms(), time.process_time(), time.perf_counter()
    function()
    wall_s, cpu_s, busy_after_ms = time.perf_counter() - wall_s, time.process_time() - cpu_s, machine_busy_ms()
    others = None if busy_ms is None or busy_after_ms is None else max(busy_after_ms - busy_ms - cpu_s * 1000, 0.0)
    return Sample(wall_ms=wall_s * 1000, cpu_ms=cpu_s * 1000, others_cpu_ms=others)


def alternate(functions: Mapping[str, Callable[[], object]], repeats: Mapping[str, int]) -> dict[str, Timing]:
    """Call the functions in turn until each has been called as often as ``repeats`` says."""
    samples: dict[str, list[Sample]] = {name: [] for name in functions}
    for round_index in range(max(repeats.values())):
        for name, function in functions.items():
            if round_index < repeats[name]:
                samples[name].append(measure(function))
    return {name: Timing(samples=tuple(taken)) for name, taken in samples.items()}


def machine_busy_ms() -> float | None:
    """CPU milliseconds since boot that were neither idle nor waiting, over all cores (Linux)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, interrupt, soft_interrupt, steal = (int(field) for field in fields[:8])
    return (user + nice + system + interrupt + soft_interrupt + steal) * 1000 / os.sysconf("SC_CLK_TCK")
