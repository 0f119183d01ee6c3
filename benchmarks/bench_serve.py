"""Our server against ``transformers serve``: the same mixed, streamed requests from another process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine_model import model_folder
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler
from http_exchange import Address
from our_server import OurServer
from peers import THREADS
from reports import ROOT
from serve_plan import (
    AIMS,
    MID,
    QUICK,
    SMALL,
    Asked,
    Level,
    Weights,
    Workload,
    arrivals_s,
    one_about_each,
    requests_of,
    setting_of,
)
from serve_rows import Loaded, ServeRow, ServeSubRow
from servers import PeerServer

OPEN_SHARE = 0.7
"""Of what the peer answers a second with 8 clients, in the load in which nobody waits."""
OPEN_CLIENTS = 8


def serve(plan: EnginePlan, cache: Path) -> EngineRow:
    """Weights whose work takes most of the time."""
    return _compare("serve", replace(QUICK, dtype="bfloat16") if plan.kind == "small" else MID, cache)


def serve_tiny(plan: EnginePlan, cache: Path) -> EngineRow:
    """Weights whose work takes no time: what a server does beside it. Every answer must be as it is alone."""
    return _compare("serve_tiny", QUICK if plan.kind == "small" else SMALL, cache)


def _compare(name: str, weights: Weights, cache: Path) -> EngineRow:
    """Both workloads, all levels."""
    comparison = _Comparison(weights, cache)
    # The first row speaks for all.
    rows = sorted(comparison.rows(), key=lambda row: (row.num_clients != OPEN_CLIENTS, row.workload != "same"))
    return ServeRow(
        name=name,
        question="How many requests a second do the servers answer, and how soon?",
        setting=f"Random weights ({weights.kind}), {THREADS} threads a side. {setting_of(weights)} Both servers run; "
        "the load comes from a third process, to one of them at a time, each client asking again when it is answered, "
        f"or, where that is said, at times of a Poisson process of {OPEN_SHARE:.0%} of what the peer answers a second. "
        "Each of the same clips and pictures was asked about once before, with another question. "
        "The peer is `transformers serve --continuous-batching` 5.23.0, which batches no model that sees "
        "(`use_continuous_batching` is for language models alone) and answers one request after the other; without "
        "the replacements of `peer_serve.py` it answers none about a video.",
        rows=tuple(rows),
        others_share=max(comparison.busy, default=None),
    )


@dataclass(kw_only=True)
class _Side:
    """One server and what it was asked."""

    name: str
    address: Address
    bodies: Callable[[Sequence[Asked]], list[dict[str, Any]]]

    def load(self, asked: Sequence[Asked], *, num_clients: int, at_s: list[float] | None = None) -> Loaded:
        """From a process of its own."""
        load = {
            "host": self.address.host, "port": self.address.port, "bodies": self.bodies(asked), "at_s": at_s,
            "concurrency": num_clients,
        }  # fmt: skip
        command = [sys.executable, str(ROOT / "benchmarks" / "load_process.py")]
        done = subprocess.run(command, input=json.dumps(load), capture_output=True, text=True, check=True)
        return Loaded.of(json.loads(done.stdout))


@dataclass(frozen=True, kw_only=True)
class _Load:
    """What both servers are asked at a time."""

    workload: Workload
    num_clients: int
    """0 where nobody waits for an answer."""
    asked: tuple[Asked, ...]


@dataclass
class _Comparison:
    """Both servers with the same weights."""

    weights: Weights
    cache: Path
    busy: list[float] = field(default_factory=list)

    def rows(self) -> list[ServeSubRow]:
        folder = model_folder(self.weights.kind, self.weights.dtype, self.cache)
        loads = self._loads()
        flags = ["--model", str(folder), "--dtype", self.weights.dtype, "--allowed-media-root", str(self.cache)]
        flags += ["--max-queue", "256"]
        with tempfile.TemporaryDirectory() as work:
            alone = self._alone(flags, loads, Path(work))
            ours = OurServer(flags, log=Path(work) / "ours.log")
            with ours, PeerServer(folder, self.weights.dtype) as theirs:
                sides = (
                    _Side(name="ours", address=ours.address, bodies=lambda asked: [a.ours(ours.model) for a in asked]),
                    _Side(
                        name="peer", address=Address(host="127.0.0.1", port=theirs.port),
                        bodies=lambda asked: [a.peers(theirs.model) for a in asked],
                    ),
                )  # fmt: skip
                self._ask_before(sides)
                # Once: what was asked before is found again.
                sampler = Sampler(
                    repeats=1, attempts=1, peer_cpu_s=lambda: ours.cpu_s() + theirs.cpu_s() + _children_s()
                )
                found = list[ServeSubRow]()
                for load in loads:
                    found.append(self._row(sides, sampler, load, alone, found))
        self.busy = sampler.busy
        return found

    def _ask_before(self, sides: Sequence[_Side]) -> None:
        """One other question about each clip and picture that is asked about again and again, to both, untimed."""
        asked = one_about_each(self.weights, cache=self.cache)
        for side in sides:
            side.load(asked, num_clients=1).check(f"{side.name}, before")

    def _loads(self) -> list[_Load]:
        """Other questions and, where they are distinct, other media in each."""
        levels = [*self.weights.levels]
        if self.weights.open_requests:
            levels.append(Level(num_clients=0, num_requests=self.weights.open_requests))
        loads, first = list[_Load](), 0
        for level in levels:
            for workload in AIMS:
                asked = requests_of(self.weights, workload, level.num_requests, first=first, cache=self.cache)
                loads.append(_Load(workload=workload, num_clients=level.num_clients, asked=tuple(asked)))
            first += level.num_requests
        return loads

    def _alone(self, flags: list[str], loads: Sequence[_Load], work: Path) -> dict[Asked, str]:
        """What our server says when it is asked one after the other; not for weights whose batches round otherwise."""
        if self.weights.dtype != "float32":
            return {}
        asked = list(dict.fromkeys(each for load in loads for each in load.asked))
        with OurServer(flags, log=work / "alone.log") as server:
            side = _Side(name="alone", address=server.address, bodies=lambda some: [a.ours(server.model) for a in some])
            found = side.load(asked, num_clients=1)
        found.check("alone")
        return dict(zip(asked, found.texts, strict=True))

    def _row(
        self, sides: Sequence[_Side], sampler: Sampler, load: _Load, alone: Mapping[Asked, str],
        before: Sequence[ServeSubRow],
    ) -> ServeSubRow:  # fmt: skip
        found: dict[str, Loaded] = {}
        at_s = None
        if load.num_clients == 0:
            closed = [row for row in before if row.workload == load.workload and row.num_clients <= OPEN_CLIENTS][-1]
            at_s = arrivals_s(len(load.asked), OPEN_SHARE / closed.peer[0])

        def ask(side: _Side) -> float:
            found[side.name] = side.load(load.asked, num_clients=load.num_clients, at_s=at_s)
            return found[side.name].total_s / len(load.asked)

        ours, peer = sampler.pairs(lambda _: ask(sides[0]), lambda _: ask(sides[1]))
        return ServeSubRow.of(
            self.weights.kind, load.workload, load.num_clients, AIMS[load.workload], (ours, peer), found, load.asked,
            alone,
        )  # fmt: skip


def _children_s() -> float:
    """CPU seconds of the processes that loaded, which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
