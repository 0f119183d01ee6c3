"""Hours of a server in minutes: a real ``videolm serve`` under random requests; memory, handles and answers are held.

``python benchmarks/soak.py`` takes half an hour and writes the report with a plot of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clips import CACHE
from http_exchange import Exchange
from our_server import OurServer
from processes import Taken, taken_by
from soak_load import Client
from soak_media import make_files
from soak_report import write_report
from soak_requests import make_mistakes, make_questions

MODEL = "videolm-mini"
FLAGS = ("--dtype", "float32", "--max-queue", "120", "--cache-bytes", str(64 << 20), "--feature-bytes", str(2 << 20))
"""Batches of float32 give the ids that are given alone; and small caches are full before the server is warm."""
MOST_GROWTH = 0.02
BURST = 16
_SAMPLE_S = 2.0
_YIELDING_S = 2.0
_REST_S = 12.0
"""In which a server gives its freed memory back at least once."""
_SETTLE_S = 30.0
_BLOCKS = "videolm_cache_blocks_used"
_ZERO = ("videolm_requests_preparing", "videolm_requests_waiting", "videolm_requests_running", _BLOCKS)
"""What a server at rest has none of."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One soak."""

    seconds: float
    """Of load."""
    num_clients: int = 6
    think_s: float = 0.02
    """Mean time between an answer and the client's next request."""
    seed: int = 0
    yields_to: Path | None = None
    """Ask little while somebody holds this lock exclusively, such as to measure something."""

    @property
    def warm_up_s(self) -> float:
        """After which memory must not grow: libraries and allocators reach their level after some ten minutes."""
        return self.seconds / 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a soak found."""

    plan: Plan
    client: Client
    samples: Sequence[tuple[float, int]]
    """Seconds of load, and bytes."""
    before: Taken
    """At rest after the warm-up."""
    after: Taken
    """At rest at the end."""
    gauges: dict[str, float]
    """What the server counts of itself, at rest at the end."""
    status: int | None
    end_s: float

    @property
    def growth(self) -> float:
        """Of memory at rest, since the warm-up."""
        return self.after.memory_bytes / self.before.memory_bytes - 1

    @property
    def growth_under_load(self) -> float:
        """From the first fifth after the warm-up to the last one; up and down as the server gives memory back."""
        later = [each for each in self.samples if each[0] >= self.plan.warm_up_s]
        part = max(len(later) // 5, 1)
        first, last = (statistics.median(size for _, size in some) for some in (later[:part], later[-part:]))
        return last / first - 1

    def faults(self) -> list[str]:
        """Why it failed; nothing where it did not."""
        found = list(self.client.problems)
        if self.growth > MOST_GROWTH:
            found.append(f"memory grew by {self.growth:.1%}: at most {MOST_GROWTH:.0%} was expected")
        if self.after.num_processes < self.before.num_processes:
            # What it took is missing from the end, so that growth elsewhere would not show.
            found.append(f"num_processes is {self.after.num_processes}: {self.before.num_processes} was expected")
        for name in ("num_processes", "num_threads", "num_files", "num_sockets"):
            then, now = getattr(self.before, name), getattr(self.after, name)
            if now > then:
                found.append(f"{name} is {now}: {then} was expected")
        found += [f"{name} is {self.gauges[name]:g} at rest: 0 was expected" for name in _ZERO if self.gauges[name]]
        if self.status != 0:
            found.append(f"the server ended with status {self.status}: 0 was expected")
        if self.end_s > 20:
            found.append(f"the server took {self.end_s:.0f} s to end: 20 was expected")
        return found


async def soak(plan: Plan, server: OurServer, cache: Path) -> Found:
    """Load the server, and end it."""
    files = make_files(cache)
    client = Client(
        address=server.address, model=MODEL, files=files, questions=make_questions(files),
        mistakes=make_mistakes(MODEL, files), dice=random.Random(plan.seed),
    )  # fmt: skip
    await client.answer_alone()
    await client.burst(BURST)
    samples: list[tuple[float, int]] = []
    await _load(plan, client, (0.0, plan.warm_up_s), samples, server.process.pid)
    before = await _filled_and_at_rest(server, client)
    await _load(plan, client, (plan.warm_up_s, plan.seconds), samples, server.process.pid)
    after = await _filled_and_at_rest(server, client)
    gauges = await _gauges(client)
    end_s = server.end()
    return Found(
        plan=plan, client=client, samples=samples, before=before, after=after, gauges=gauges, status=server.status,
        end_s=end_s,
    )  # fmt: skip


async def _load(
    plan: Plan, client: Client, span_s: tuple[float, float], samples: list[tuple[float, int]], pid: int
) -> None:
    """Ask during this part of the time."""
    start, end = time.monotonic() - span_s[0], time.monotonic() + span_s[1] - span_s[0]
    async with asyncio.TaskGroup() as group:
        for number in range(plan.num_clients):
            group.create_task(_act_until(plan, client, end, is_first=number == 0))
        while (now := time.monotonic()) < end:
            samples.append((now - start, taken_by(pid).memory_bytes))
            await asyncio.sleep(_SAMPLE_S)


async def _act_until(plan: Plan, client: Client, end: float, *, is_first: bool) -> None:
    while time.monotonic() < end:
        yields = plan.yields_to is not None and _is_held(plan.yields_to)
        if is_first or not yields:
            await client.act()
        await asyncio.sleep(_YIELDING_S if yields else client.dice.expovariate(1 / plan.think_s))


async def _filled_and_at_rest(server: OurServer, client: Client) -> Taken:
    """What the server takes when it has had nothing to do for a while, with every decoder there.

    A decoder ends after 256 media, and the next one is started when it is needed: without the burst there could be
    fewer of them at the end than before.
    """
    await client.burst(BURST)
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end:
        gauges = await _gauges(client)
        if not any(gauges[name] for name in _ZERO):
            break
        await asyncio.sleep(0.5)
    await asyncio.sleep(_REST_S)
    return taken_by(server.process.pid)


async def _gauges(client: Client) -> dict[str, float]:
    async with Exchange(client.address, "GET", "/metrics") as exchange:
        lines = (await exchange.body()).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def run(plan: Plan, cache: Path = CACHE) -> Found:
    """A soak of a server of its own."""
    with tempfile.TemporaryDirectory() as work, OurServer(FLAGS, log=Path(work) / "server.log") as server:
        return asyncio.run(soak(plan, server, cache))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of load (default: 1800)")
    parser.add_argument(
        "--yields-to", type=Path, metavar="FILE", help="ask little while this file is locked exclusively"
    )
    parser.add_argument("--out", type=Path, help="folder for the report (default: benchmarks/results)")
    arguments = parser.parse_args()
    found = run(Plan(seconds=arguments.seconds, yields_to=arguments.yields_to))
    print(write_report(found, arguments.out))
    if faults := found.faults():
        raise SystemExit("\n".join(faults[:20]))


if __name__ == "__main__":
    main()
