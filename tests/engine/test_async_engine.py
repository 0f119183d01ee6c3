"""The engine under asyncio: the same answers, and a stream that is left frees what it held."""

from __future__ import annotations

import asyncio
import threading
import time
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
from .tiny_families import picture_for, tiny_model_of

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


# --- media that are read here ---


class Gate:
    """Holds the preparation of some requests up until it is opened; tells which were begun."""

    def __init__(self, inner: Engine, monkeypatch: pytest.MonkeyPatch, *slow: str) -> None:
        self.is_open = threading.Event()
        self.begun: list[str] = []
        prepare = inner.prepare

        def prepare_slowly(request: Request) -> Request:
            if request.media_keys is None and request.inputs is not None and request.inputs.media:
                self.begun.append(request.id)
                if request.id in slow:
                    assert self.is_open.wait(20)
            return prepare(request)

        monkeypatch.setattr(inner, "prepare", prepare_slowly)


def about_a_picture(name: str, *ids: int, num_new: int = 6) -> Request:
    inputs = prompt([1], picture_for(MODEL, (30, 30), 2), [*ids])
    return Request(id=name, inputs=inputs, params=SamplingParams(max_new_tokens=num_new))


@pytest.fixture
def large(tiny_model_folder: Path) -> Engine:
    config = EngineConfig(num_blocks=256, block_size=4, max_running=1, max_prepared=2, num_preparers=2)
    return Engine(MODEL, auto.load_processor(tiny_model_folder), config)


async def until(claim: Callable[[], bool]) -> None:
    while not claim():
        await asyncio.sleep(0.001)


def test_slow_media_hold_up_neither_what_is_ready_nor_who_gives_up(
    large: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(large, monkeypatch, "slow", "slower")

    async def use(engine: AsyncEngine) -> None:
        slow = [asyncio.ensure_future(engine.answer(about_a_picture(name, 5))) for name in ("slow", "slower")]
        waiting = asyncio.ensure_future(engine.answer(about_a_picture("waiting", 5)))
        await until(lambda: sorted(gate.begun) == ["slow", "slower"])
        assert (engine.num_unfinished, engine.stats().num_preparing) == (3, 3)
        assert (await engine.answer(request("ready", 2))).finish_reason == "length"
        for given_up in (slow[0], waiting):
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert (engine.num_unfinished, engine.stats().num_preparing) == (1, 1)
        gate.is_open.set()
        assert (await slow[1]).finish_reason == "length"
        assert engine.num_unfinished == 0
        assert engine.stats().num_ended == {"length": 2}

    run(use, large)
    assert "waiting" not in gate.begun


def test_no_more_media_are_read_ahead_than_allowed(large: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(large, monkeypatch)
    is_open, step = threading.Event(), large.step
    monkeypatch.setattr(large, "step", lambda: (is_open.wait(20), step())[1])

    async def use(engine: AsyncEngine) -> None:
        requests = [about_a_picture(str(index), 5, index + 5) for index in range(12)]
        answers = [asyncio.ensure_future(engine.answer(each)) for each in requests]
        await until(lambda: len(gate.begun) >= 3)
        await asyncio.sleep(0.05)
        # One runs, perhaps with one more that was ready with it, and two wait.
        assert len(gate.begun) <= 4
        is_open.set()
        assert [output.finish_reason for output in await asyncio.gather(*answers)] == ["length"] * 12

    run(use, large)


def test_what_cannot_be_prepared_fails_alone(large: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """What libraries of another language raise."""

    prepare = large.prepare

    def broken(request: Request) -> Request:
        if request.id == "fault":
            raise KeyError("medium")
        if request.id == "panic":
            raise Panic
        return prepare(request)

    monkeypatch.setattr(large, "prepare", broken)

    async def use(engine: AsyncEngine) -> None:
        for _ in range(3):  # More often than there are threads.
            names = ("fault", "panic", "good")
            asked = [engine.answer(about_a_picture(name, 5)) for name in names]
            fault, panic, good = await asyncio.gather(*asked, return_exceptions=True)
            assert str(fault).startswith("Request fault was refused, since its preparation failed (KeyError: 'medium')")
            assert str(panic).startswith("The preparation failed (Panic)")
            assert not isinstance(good, BaseException)
            assert good.finish_reason == "length"

    run(use, large)


# --- leaving and closing ---


def test_leaving_a_request_whose_name_is_taken_leaves_the_other_alone(make: Callable[[], Engine]) -> None:
    async def use(engine: AsyncEngine) -> None:
        first = asyncio.ensure_future(engine.answer(request("same", 2, num_new=100)))
        await until(lambda: engine.stats().num_running == 1)
        for _ in range(20):
            second = asyncio.ensure_future(engine.answer(request("same", 3)))
            await asyncio.sleep(0)
            second.cancel()
        assert len((await first).output_ids) == 100

    run(use, make())


def test_a_storm_of_requests_that_are_left_frees_everything(make: Callable[[], Engine]) -> None:
    inner = make()

    async def use(engine: AsyncEngine) -> None:
        asked = [asyncio.ensure_future(engine.answer(request(str(i), 2, i % 50, num_new=150))) for i in range(300)]
        await until(lambda: engine.stats().num_running > 0)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
        assert engine.num_unfinished == 0
        await engine.answer(request("last", 3))
        ended = engine.stats().num_ended
        # Those that were left before the engine's thread had come to them were never begun.
        assert ended["length"] == 1
        assert 0 < ended["abort"] <= 300
        assert (engine.stats().num_waiting, engine.stats().num_running, engine.stats().num_used_blocks) == (0, 0, 0)

    run(use, inner)


def engine_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("videolm-")]


def test_closing_may_wait_for_answers_and_leaves_no_thread(large: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(large, monkeypatch, "picture")

    async def main() -> None:
        engine = AsyncEngine(large)
        names = ("words", "picture")
        asked = [request("words", 2, num_new=100), about_a_picture("picture", 5)]
        answers = [asyncio.ensure_future(engine.answer(each)) for each in asked]
        await until(lambda: gate.begun == ["picture"])
        closing = asyncio.ensure_future(engine.close(drain_s=20))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="The engine is closed"):
            await engine.answer(request("late", 2))
        gate.is_open.set()
        await closing
        for name, output in zip(names, await asyncio.gather(*answers), strict=True):
            assert (output.id, output.finish_reason) == (name, "length")
        assert engine_threads() == []

    asyncio.run(asyncio.wait_for(main(), timeout=60))


def test_closing_waits_no_longer_than_it_was_told(large: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(large, monkeypatch, "read")
    is_open, step = threading.Event(), large.step
    monkeypatch.setattr(large, "step", lambda: (is_open.wait(0.05), step())[1])

    async def main() -> None:
        engine = AsyncEngine(large)
        asked = [request("run", 2, num_new=900), request("wait", 3), about_a_picture("read", 5)]
        answers = [asyncio.ensure_future(engine.answer(each)) for each in asked]
        await until(lambda: bool(gate.begun) and engine.stats().num_running == 1)
        start = time.monotonic()
        await engine.close(drain_s=0.2)
        assert 0.2 <= time.monotonic() - start < 5
        for each, error in zip(asked, await asyncio.gather(*answers, return_exceptions=True), strict=True):
            assert str(error).startswith(f"Request {each.id}: The engine was closed before it had answered")
        assert large.num_used_blocks == engine.num_unfinished == 0
        gate.is_open.set()
        await until(lambda: engine_threads() == [])
        with pytest.raises(ArgumentError, match="drain_s is -1"):
            await engine.close(drain_s=-1)

    asyncio.run(asyncio.wait_for(main(), timeout=60))


def test_nobody_waits_for_a_thread_that_has_died(make: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = make()
    for name in ("step", "fail"):
        monkeypatch.setattr(inner, name, lambda *_: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    async def use(engine: AsyncEngine) -> None:
        with pytest.raises(EngineError, match="Request a: The engine was closed before it had answered"):
            await engine.answer(request("a", 2))
        with pytest.raises(EngineError, match="The engine is closed"):
            await engine.answer(request("b", 2))

    run(use, inner)
