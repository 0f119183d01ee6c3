"""A minute of random requests, a fifth of them left: each answer is the one given alone, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from videolm.contracts import VisualInput
from videolm.engine.async_engine import AsyncEngine
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request, RequestOutput
from videolm.engine.vision_cache import VisionCache, VisionCacheConfig
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.generation.structured import regex_processor
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import prompt
from .tiny_families import picture_for, video_for

pytestmark = pytest.mark.slow

SOAK_S = 60.0
NUM_CLIENTS = 12


@dataclass(frozen=True)
class Question:
    request: Request
    pattern: str | None = None

    def asked(self, name: str, processor: Processor) -> Request:
        """As a new request: what follows an answer's grammar serves one alone."""
        held = () if self.pattern is None else (regex_processor(self.pattern, processor.tokenizer),)
        return replace(self.request, id=name, logits_processors=held)


def questions(model: VideoLM, draw: random.Random) -> list[Question]:
    media: list[VisualInput] = [video_for(model, frames, frames) for frames in (2, 4, 6)]
    media += [picture_for(model, (30 + index, 40), 9 + index) for index in range(3)]
    found = []
    for index in range(48):
        chosen = draw.sample(range(len(media)), draw.choice([0, 1, 1, 2]))
        words = [[draw.choice([5, 6, 7]) for _ in range(draw.randint(1, 9))] for _ in chosen]
        parts = [part for place, text in zip(chosen, words, strict=True) for part in (media[place], text)]
        params = SamplingParams(
            max_new_tokens=draw.randint(1, 40),
            temperature=draw.choice([0.0, 0.0, 0.8]),
            top_p=draw.choice([1.0, 0.9]),
            seed=index,
            presence_penalty=draw.choice([0.0, 0.0, 1.0]),
            repetition_penalty=draw.choice([1.0, 1.0, 1.2]),
            logprobs=draw.choice([None, 0, 3]),
            stop_token_ids=(2,),
        )
        # Without keys, the engine hashes the pixels in a thread of its own.
        keys = None if index % 3 == 0 else tuple(f"medium {place}" for place in chosen)
        request = Request(id="", inputs=prompt([1, *draw.choices([5, 6], k=3)], *parts), params=params, media_keys=keys)
        found.append(Question(request, "[a-z ]{1,30}(yes|no)[0-9]{3}" if index % 6 == 5 else None))
    return found


@dataclass
class Soak:
    engine: AsyncEngine
    processor: Processor
    questions: Sequence[Question]
    expected: Sequence[RequestOutput]
    num_answered: int = 0
    num_left: int = 0

    async def client(self, number: int, until: float) -> None:
        draw, count = random.Random(number), 0
        while time.monotonic() < until:
            count += 1
            index = draw.randrange(len(self.questions))
            asked = self.questions[index].asked(f"{number}-{count}", self.processor)
            if draw.random() < 0.2:
                await self.leave(asked, draw)
            else:
                self.compare(await self.engine.answer(asked), self.expected[index])

    async def leave(self, asked: Request, draw: random.Random) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.engine.answer(asked), draw.choice([0.0, 0.001, 0.01, 0.05]))
        self.num_left += 1

    def compare(self, found: RequestOutput, wanted: RequestOutput) -> None:
        for name in ("text", "output_ids", "finish_reason"):
            assert getattr(found, name) == getattr(wanted, name), (found.id, name)
        told = [[each.logprob for each in output.logprobs] for output in (found, wanted)]
        torch.testing.assert_close(*map(torch.tensor, told), rtol=1e-4, atol=1e-4)
        self.num_answered += 1


@pytest.mark.parametrize("draft_len", [0, 3])
def test_a_minute_of_random_requests(tiny_model_folder: Path, draft_len: int) -> None:
    model, processor = auto.load_model(tiny_model_folder), auto.load_processor(tiny_model_folder)
    asked = questions(model, random.Random(5))
    alone = Engine(model, processor, EngineConfig(num_blocks=256, block_size=4, reuses_prefixes=False))
    expected = [alone.generate([each.asked("alone", processor)])[0] for each in asked]
    assert {output.finish_reason for output in expected} <= {"length", "stop"}
    longest = max(len(output.output_ids) + output.usage.prompt_tokens for output in expected)
    config = EngineConfig(
        num_blocks=longest // 4 + 40, block_size=4, max_batch_tokens=64, max_running=8, draft_len=draft_len
    )
    cache = VisionCache(model, VisionCacheConfig(max_bytes=4096))
    inner, threads = Engine(model, processor, config, features=cache), set(threading.enumerate())

    async def main() -> Soak:
        async with AsyncEngine(inner) as engine:
            soak = Soak(engine, processor, asked, expected)
            until = time.monotonic() + SOAK_S / 2
            await asyncio.gather(*(soak.client(number, until) for number in range(NUM_CLIENTS)))
            assert engine.num_unfinished == 0
            return soak

    soak = asyncio.run(main())
    stats = inner.stats()
    assert soak.num_answered > 50
    assert soak.num_left > 10
    assert stats.num_preemptions > 0
    assert stats.cached_tokens > 0
    assert (stats.num_waiting, stats.num_running, inner.num_used_blocks) == (0, 0, 0)
    assert inner._scheduler.pool.num_available == inner._scheduler.pool.num_blocks
    assert cache.num_bytes <= 4096
    assert {each for each in threading.enumerate() if each.name.startswith("videolm")} <= threads
