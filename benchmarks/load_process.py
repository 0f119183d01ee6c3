"""A load in, answers out, each as one JSON object: run as a process of its own, so that no server waits for its client.

Standard input is ``{"host", "port", "bodies": [...], "at_s": [...] or null, "concurrency": n}``: bodies are sent at
these times, or, where there are none, by so many clients that each ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from http_exchange import Address, Answer, ask


async def closed_load(address: Address, bodies: Sequence[dict[str, Any]], concurrency: int) -> list[Answer]:
    """Answers in the order of the bodies."""
    left, answers = deque(enumerate(bodies)), dict[int, Answer]()

    async def client() -> None:
        while left:
            index, body = left.popleft()
            answers[index] = await ask(address, body)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return [answers[index] for index in range(len(bodies))]


async def open_load(address: Address, bodies: Sequence[dict[str, Any]], at_s: Sequence[float]) -> list[Answer]:
    """The same, where no request waits for another one's answer."""
    start = time.perf_counter()

    async def client(body: dict[str, Any], when_s: float) -> Answer:
        await asyncio.sleep(max(when_s - (time.perf_counter() - start), 0.0))
        return await ask(address, body)

    return await asyncio.gather(*(client(body, when_s) for body, when_s in zip(bodies, at_s, strict=True)))


def main() -> None:
    load = json.load(sys.stdin)
    address = Address(host=load["host"], port=load["port"])
    if load["at_s"] is None:
        work = closed_load(address, load["bodies"], load["concurrency"])
    else:
        work = open_load(address, load["bodies"], load["at_s"])
    start = time.perf_counter()
    answers = asyncio.run(work)
    taken_s = time.perf_counter() - start
    json.dump({"total_s": taken_s, "answers": [asdict(answer) for answer in answers]}, sys.stdout)


if __name__ == "__main__":
    main()
