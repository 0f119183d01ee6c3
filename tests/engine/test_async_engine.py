"""The engine under asyncio: the same answers, and a stream that is left frees what it held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from videolm.engine.async_engine import AsyncEngine
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.errors import ArgumentError, CapacityError, EngineError, ProcessingError
from videolm.families import auto
from videolm.generation.params import SamplingParams

from ..models.tiny import prompt
from .tiny_families import tiny_model_of

MODEL = tiny_model_of("llava_next_video")


@pytest.fixture(scope="module")
def make(tiny_model_folder: Path) -> Callable[[], Engine]:
    processor = auto.load_processor(tiny_model_folder)
    return lambda: Engine(MODEL, processor, EngineConfig(num_blocks=64, block_size=4))


def request(name: str, *ids: int, num_new: int = 6) -> Request:
    return Request(id=name, inputs=prompt([1, *ids]), params=SamplingParams(max_new_tokens=num_new))


def run(use: Callable[[AsyncEngine], Coroutine[Any, Any, None]], engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as running:
            await asyncio.wait_for(use(running), timeout=60)

    asyncio.run(main())


def test_streams_side_by_side_give_the_answers_of_the_engine(make: Callable[[], Engine]) -> None:
    requests = [request(str(index), index + 2, 5) for index in range(4)]
    expected = make().generate(requests)

    async def use(engine: AsyncEngine) -> None:
        async def collect(each: Request) -> tuple[str, list[int]]:
            news = [output async for output in engine.stream(each)]
            return "".join(output.piece for output in news), [len(output.output_ids) for output in news]

        for (text, lengths), output in zip(await asyncio.gather(*map(collect, requests)), expected, strict=True):
            assert text == output.text
            assert lengths == [1, 2, 3, 4, 5, 6]
        assert (await engine.answer(requests[0])).output_ids == expected[0].output_ids

    run(use, make())


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_a_stream_that_is_left_gives_its_request_up(make: Callable[[], Engine], how: str) -> None:
    inner = make()

    async def use(engine: AsyncEngine) -> None:
        stream = engine.stream(request("a", 2, num_new=200))
        first = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
        if how == "close":
            assert len((await first).output_ids) == 1
            await stream.aclose()  # type: ignore[attr-defined]
        else:
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        await engine.answer(request("b", 3))  # Commands are carried out in order.
        assert not inner.has_requests
        assert inner.num_used_blocks == 0

    run(use, inner)


def test_what_is_refused_raises_where_it_was_asked(make: Callable[[], Engine]) -> None:
    async def use(engine: AsyncEngine) -> None:
        with pytest.raises(CapacityError, match="Request long may need 302 tokens in the cache"):
            await engine.answer(request("long", 2, num_new=301))
        content = [{"type": "video"}, {"type": "text", "text": "What?"}]
        messages = [{"role": "user", "content": content}]
        with pytest.raises(ProcessingError, match="is a video without a source"):
            await engine.answer(Request(id="a", messages=messages))
        stream = engine.stream(request("twice", 2, num_new=100))
        await anext(stream)
        with pytest.raises(ArgumentError, match="A request 'twice' is being answered already"):
            await engine.answer(request("twice", 3))
        assert len((await anext(stream)).output_ids) == 2

    run(use, make())


def test_a_fault_in_a_step_raises_in_its_streams_and_later_ones_are_answered(
    make: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = make()

    async def use(engine: AsyncEngine) -> None:
        for name in ("decode", "schedule"):
            with monkeypatch.context() as patch:
                target = MODEL if name == "decode" else inner._scheduler
                patch.setattr(target, name, lambda *_, **__: 1 / 0)
                with pytest.raises(EngineError, match=r"Request a was part of a step that failed \(ZeroDivisionError"):
                    await engine.answer(request("a", 2))
        assert (await engine.answer(request("a", 2))).finish_reason == "length"

    run(use, inner)


def test_closing_ends_what_is_unanswered_and_refuses_what_comes_later(make: Callable[[], Engine]) -> None:
    inner = make()

    async def main() -> None:
        engine = AsyncEngine(inner)
        answer = asyncio.ensure_future(engine.answer(request("a", 2, num_new=250)))
        while not inner.has_requests:
            await asyncio.sleep(0.001)
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError, match="Request a: The engine was closed before it had answered"):
            await answer
        with pytest.raises(EngineError, match="The engine is closed"):
            await engine.answer(request("b", 2))
        assert inner.num_used_blocks == 0

    asyncio.run(asyncio.wait_for(main(), timeout=60))
