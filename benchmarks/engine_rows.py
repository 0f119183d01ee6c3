"""What every row about the engine has in common: sub-rows of alternating samples, ratios, one object and one table."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import machine_busy_ms, spread_text
from reasons import WHY_MISSED
from reports import Section

# A sample during which others used more of the machine is no measurement.
MOST_OTHERS = 0.12


@dataclass(frozen=True, kw_only=True)
class SubRow:
    """One comparison; ``ratio`` says how many times better ours is."""

    name: str
    aim: float | None
    """None: none is set."""
    ours: tuple[float, ...]
    """Empty where it was not measured; ``peer`` too."""
    peer: tuple[float, ...]
    unit: str
    outputs: str
    """What comparing the outputs found, or why a value is missing."""

    @property
    def is_measured(self) -> bool:
        """Whether both sides have values."""
        return bool(self.ours and self.peer)

    @property
    def ratio(self) -> float:
        return statistics.median(self.peer) / statistics.median(self.ours)

    @property
    def misses_aim(self) -> bool:
        """Whether it was measured and is below the aim."""
        return self.is_measured and self.aim is not None and self.ratio < self.aim

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest ratio of any two samples."""
        return min(self.peer) / max(self.ours), max(self.peer) / min(self.ours)

    def as_object(self) -> dict[str, Any]:
        """What was not measured is None."""
        return {
            "name": self.name, "aim": self.aim, "ratio": self.ratio if self.is_measured else None,
            "spread": list(self.spread) if self.is_measured else None,
            "ours": statistics.median(self.ours) if self.ours else None,
            "peer": statistics.median(self.peer) if self.peer else None, "unit": self.unit, "outputs": self.outputs,
        }  # fmt: skip

    def as_cells(self) -> tuple[str, ...]:
        """Its line of the table; what was not measured is an empty cell."""
        ours, peer = (spread_text(list(values)) if values else "" for values in (self.ours, self.peer))
        ratio, missed = "", ""
        if self.is_measured:
            ratio = f"{self.ratio:.2f} ({self.spread[0]:.2f} to {self.spread[1]:.2f})"
            missed = ", missed" if self.misses_aim else ""
        aim = "" if self.aim is None else f"{self.aim:g}{missed}"
        return self.name, ours, peer, self.unit, ratio, aim, self.outputs


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One benchmark of the engine."""

    name: str
    question: str
    setting: str
    rows: tuple[SubRow, ...]
    reading: tuple[str, ...] = ()
    others_share: float | None = None
    draw: Callable[[Path], None] | None = None
    """Writes a plot into a PNG file."""
    accelerator: str = ""
    """What it ran on beside the processor."""
    reason: str = ""
    """Why nothing was measured."""

    def as_object(self) -> dict[str, Any]:
        """The first sub-row speaks for all."""
        whole = {**self.rows[0].as_object(), "name": self.name, "rows": [row.as_object() for row in self.rows]}
        return whole | ({"reason": self.reason} if self.reason else {})

    def why_missed(self) -> tuple[str, ...]:
        """What is known of the reasons, if any aim is missed."""
        if not any(row.misses_aim for row in self.rows):
            return ()
        return tuple(f"Missed: {sentence}" for sentence in WHY_MISSED.get(self.name, ()))

    def as_section(self) -> Section:
        """The row in a report."""
        return Section(
            title=self.name,
            question=self.question,
            setting=self.setting + share_text(self.others_share),
            columns=("setting", "ours", "transformers", "unit", "times better", "aim", "outputs"),
            rows=tuple(row.as_cells() for row in self.rows),
            reading=(*([self.reason] if self.reason else []), *self.reading, *self.why_missed()),
        )


@dataclass(kw_only=True)
class Sampler:
    """Takes samples of both sides in turn, and again where others kept the machine busy."""

    repeats: int
    peer_cpu_s: Callable[[], float]
    attempts: int = 3
    """How often a sample is taken until it is undisturbed; the least disturbed one counts."""
    busy: list[float] = field(default_factory=list)
    """Share of the cores that others used, a number a sample that was kept."""

    def pairs(
        self, ours: Callable[[int], float], peer: Callable[[int], float]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Both are called with the number of the repeat and give what they measured."""
        taken = self.rounds((ours, peer))
        return taken[0], taken[1]

    def rounds(self, functions: Sequence[Callable[[int], float]]) -> list[tuple[float, ...]]:
        """The same for any number of functions; what each of them measured."""
        taken: list[list[float]] = [[] for _ in functions]
        for repeat in range(self.repeats):
            for values, function in zip(taken, functions, strict=True):
                values.append(self._sample(function, repeat))
        return [tuple(values) for values in taken]

    def _sample(self, function: Callable[[int], float], repeat: int) -> float:
        tries = []
        for attempt in range(self.attempts):
            before = (time.perf_counter(), machine_busy_ms(), time.process_time() + self.peer_cpu_s())
            value = function(repeat + 100 * attempt)
            wall_s = time.perf_counter() - before[0]
            own_s = time.process_time() + self.peer_cpu_s() - before[2]
            now_ms = machine_busy_ms()
            if now_ms is None or before[1] is None:
                return value
            others = max((now_ms - before[1]) / 1000 - own_s, 0.0) / (wall_s * (os.cpu_count() or 1))
            tries.append((others, value))
            if others <= MOST_OTHERS:
                break
        others, value = min(tries)
        self.busy.append(others)
        return value

    @property
    def others_share(self) -> float | None:
        return max(self.busy) if self.busy else None


def share_text(share: float | None) -> str:
    """A sentence about what else used the cores."""
    if share is None:
        return ""
    return f" In no sample that was kept did anything else use more than {share:.0%} of the cores."
