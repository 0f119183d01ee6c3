"""What a load found, as numbers; a comparison of two of them, as a row of one wide table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from engine_rows import EngineRow, SubRow, share_text
from reports import Section
from serve_plan import Asked, Workload

_WORKLOADS: dict[Workload, str] = {"same": "the same clips", "distinct": "distinct clips"}
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One load of one server."""

    total_s: float
    texts: tuple[str, ...]
    problems: tuple[str, ...]
    first_s: tuple[float, ...]
    """From sending to the first token, for each request that was answered."""
    between_s: tuple[float, ...]
    """Between two pieces of an answer."""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """What ``load_process`` prints."""
        answers = found["answers"]
        times = [answer["times_s"] for answer in answers if answer["times_s"]]
        return cls(
            total_s=found["total_s"],
            texts=tuple(answer["text"] for answer in answers),
            problems=tuple(answer["problem"] for answer in answers if answer["problem"]),
            first_s=tuple(each[0] for each in times),
            between_s=tuple(later - earlier for each in times for earlier, later in pairwise(each)),
        )

    def check(self, name: str) -> None:
        """End the benchmark where a request failed."""
        if self.problems:
            raise SystemExit(f"{name}: {len(self.problems)} of {len(self.texts)} requests failed: {self.problems[0]}")


@dataclass(frozen=True, kw_only=True)
class ServeSubRow(SubRow):
    """One load of both servers; ``ours`` and ``peer`` are seconds a request."""

    kind: str
    workload: Workload
    num_clients: int
    """0 where nobody waits for an answer."""
    loads: Mapping[str, Loaded]

    @classmethod
    def of(
        cls, kind: str, workload: Workload, num_clients: int, aim: float,
        values: tuple[tuple[float, ...], tuple[float, ...]], found: Mapping[str, Loaded], asked: Sequence[Asked],
        alone: Mapping[Asked, str],
    ) -> Self:  # fmt: skip
        """Check what was answered; the outputs of ours must be those given alone, where these are known."""
        found["ours"].check(f"{kind}, {workload}, {num_clients} clients")
        outputs = "none failed"
        if alone:
            wrong = [each for each, text in zip(asked, found["ours"].texts, strict=True) if alone[each] != text]
            if wrong:
                raise SystemExit(f"{len(wrong)} of {len(asked)} answers differ from those given alone: {wrong[0]}")
            outputs = "all as given alone"
        if found["peer"].problems:
            outputs += f"; the peer failed {len(found['peer'].problems)}"
        clients = f"{num_clients} at once" if num_clients else "Poisson"
        return cls(
            name=f"{kind}, {_WORKLOADS[workload]}, {clients}", aim=aim if num_clients else 0.0, ours=values[0],
            peer=values[1], unit="s a request", outputs=f"{len(asked)}, {outputs}", kind=kind, workload=workload,
            num_clients=num_clients, loads=found,
        )  # fmt: skip

    def as_object(self) -> dict[str, Any]:
        """With the percentiles of both sides."""
        return super().as_object() | {
            f"{name}_{what}": dict(zip(("p50", "p95", "p99"), percentiles(values), strict=False))
            for name, load in self.loads.items()
            for what, values in (("first_s", load.first_s), ("between_s", load.between_s))
        }

    def as_row(self) -> tuple[str, ...]:
        """Rates, their ratio, and percentiles in milliseconds."""
        rates = [f"{1 / statistics.median(values):.3g}" for values in (self.ours, self.peer)]
        ratio = f"{self.ratio:.2f}" if self.num_clients else ""
        aim = f"{self.aim:g}{'' if self.ratio >= self.aim else ', missed'}" if self.num_clients else ""
        times = [
            _milliseconds(values)
            for what in ("first_s", "between_s")
            for values in (getattr(self.loads[name], what) for name in ("ours", "peer"))
        ]
        return (self.name, *rates, ratio, aim, *times, self.outputs)


class ServeRow(EngineRow):
    """All loads, in a table of their own."""

    def as_section(self) -> Section:
        """Requests a second rather than seconds a request."""
        return Section(
            title=self.name,
            question=self.question,
            setting=self.setting + share_text(self.others_share),
            columns=(
                "load", "requests/s, ours", "transformers", "times better", "aim",
                "first token, ms, p50/p95/p99, ours", "transformers", "between tokens, ms, ours", "transformers",
                "answers of ours",
            ),
            rows=tuple(row.as_row() for row in self.rows if isinstance(row, ServeSubRow)),
            reading=self.reading,
        )  # fmt: skip


def percentiles(values: Sequence[float]) -> list[float]:
    """The 50th, 95th and 99th; none where there are no values."""
    return [float(each) for each in np.percentile(values, _PERCENTILES)] if values else []


def _milliseconds(values: Sequence[float]) -> str:
    return " / ".join(f"{1000 * each:.0f}" for each in percentiles(values)) or "-"
