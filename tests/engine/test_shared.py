"""One engine behind several loops: each gets its own answer, and the cache grows with the prompt."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.engine.shared import SharedEngine
from videolm.errors import CapacityError
from videolm.families import auto
from videolm.generation.params import SamplingParams

from ..models.tiny import prompt
from .tiny_families import tiny_model_of

MODEL = tiny_model_of("llava_next_video")
SMALL = EngineConfig(num_blocks=24, block_size=4)


@pytest.fixture(scope="module")
def make(tiny_model_folder: Path) -> Callable[[EngineConfig | None], SharedEngine]:
    processor = auto.load_processor(tiny_model_folder)
    return lambda config: SharedEngine(MODEL, processor, config)


def request(shared: SharedEngine, *ids: int, num_new: int = 8) -> Request:
    inputs = prompt([1, *ids])
    return shared.prepare(Request(id=shared.new_id(), inputs=inputs, params=SamplingParams(max_new_tokens=num_new)))


def test_loops_in_turn_and_in_threads_get_their_own_answers(
    make: Callable[[EngineConfig | None], SharedEngine], tiny_model_folder: Path
) -> None:
    shared = make(SMALL)
    requests = [request(shared, index + 2) for index in range(4)]
    expected = Engine(MODEL, auto.load_processor(tiny_model_folder), SMALL).generate(requests)
    first, second = shared.run(requests[0]), shared.run(requests[1])
    pieces = [(one.piece, other.piece) for one, other in zip(first, second, strict=True)]
    assert ["".join(column) for column in zip(*pieces, strict=True)] == [output.text for output in expected[:2]]
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda each: list(shared.run(each))[-1], requests))
    assert [answer.output_ids for answer in answers] == [output.output_ids for output in expected]


def test_a_loop_that_is_left_frees_its_request(make: Callable[[EngineConfig | None], SharedEngine]) -> None:
    shared = make(SMALL)
    loop = shared.run(request(shared, 2))
    next(loop)
    engine = shared._engine
    assert engine is not None
    assert engine.num_used_blocks > 0
    loop.close()
    assert engine.num_used_blocks == 0
    assert not engine.has_requests


def test_nothing_is_computed_before_it_is_asked_for(make: Callable[[EngineConfig | None], SharedEngine]) -> None:
    shared = make(SMALL)
    shared.run(request(shared, 2))
    assert shared._engine is not None
    assert not shared._engine.has_requests


def test_a_fixed_cache_refuses_and_a_free_one_grows(
    make: Callable[[EngineConfig | None], SharedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CapacityError, match="may need 121 tokens in the cache"):
        request(make(SMALL), 2, num_new=120)
    # As if positions were stretched for this prompt: its context is longer than that of others.
    monkeypatch.setattr(type(MODEL.model.config.decoder), "longest_context", 32)
    monkeypatch.setattr("videolm.engine.shared.free_bytes", lambda device: 0)
    shared = make(None)
    running = shared.run(request(shared, 2))
    first = next(running)
    assert shared._engine is not None
    assert shared._engine.capacity == 32
    (long,) = [list(shared.run(request(shared, 2, num_new=100)))[-1]]
    assert shared._engine.capacity == 112
    assert long.usage.completion_tokens == 100
    assert long.output_ids[:8] == list(running)[-1].output_ids
    assert first.output_ids == long.output_ids[:1]
