"""What an engine counts: every token and every end once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.engine.statistics import EngineStats
from videolm.families import auto
from videolm.generation.params import SamplingParams

from ..models.tiny import prompt
from .tiny_families import tiny_model_of, video_for

MODEL = tiny_model_of("llava_next_video")


@pytest.fixture
def engine(tiny_model_folder: Path) -> Engine:
    return Engine(MODEL, auto.load_processor(tiny_model_folder), EngineConfig(num_blocks=24, block_size=4))


def request(name: str, *ids: int, num_new: int = 8) -> Request:
    return Request(id=name, inputs=prompt([*ids]), params=SamplingParams(max_new_tokens=num_new))


def test_an_engine_begins_with_nothing(engine: Engine) -> None:
    assert engine.stats() == EngineStats(num_blocks=24)


def test_running_and_waiting_and_blocks_are_as_they_are(engine: Engine) -> None:
    for name in "abc":
        engine.add(request(name, *range(30, 62)))
    assert (engine.stats().num_waiting, engine.stats().num_running) == (3, 0)
    engine.step()
    stats = engine.stats()
    assert (stats.num_waiting, stats.num_running, stats.num_steps) == (2, 1, 1)
    assert stats.num_used_blocks == engine.num_used_blocks == 8


def test_tokens_and_ends_are_counted_once(engine: Engine) -> None:
    def broken(logits: Tensor, ids: Sequence[int]) -> Tensor:
        raise KeyError

    video = video_for(MODEL, 4, 0)
    params = SamplingParams(max_new_tokens=5)
    outputs = engine.generate(
        [
            Request(id="first", inputs=prompt([1], video, [2]), params=params, media_keys=("clip",)),
            Request(id="again", inputs=prompt([1], video, [3]), params=params, media_keys=("clip",)),
            Request(id="broken", inputs=prompt([7, 8]), params=params, logits_processors=(broken,)),
        ]
    )
    engine.add(request("left", 9, 10))
    engine.step()
    engine.abort("left")
    stats, usages = engine.stats(), [output.usage for output in outputs[:2]]
    assert stats.num_ended == {"length": 2, "error": 1, "abort": 1}
    assert stats.generated_tokens == sum(usage.completion_tokens for usage in usages) + 1
    assert stats.prompt_tokens == sum(usage.prompt_tokens for usage in usages) + 2
    assert stats.visual_tokens == sum(usage.visual_tokens for usage in usages) == 2 * video.num_tokens
    assert stats.cached_tokens == sum(usage.cached_tokens for usage in usages) > video.num_tokens
    assert stats.num_used_blocks == 0


def test_who_gives_up_blocks_is_counted_and_its_prompt_once(engine: Engine) -> None:
    outputs = engine.generate([request(str(index), index + 1, num_new=70) for index in range(3)])
    assert [output.usage.completion_tokens for output in outputs] == [70, 70, 70]
    stats = engine.stats()
    assert stats.num_preemptions > 0
    assert (stats.generated_tokens, stats.prompt_tokens) == (210, 3)


def test_drafts_count_as_the_tokens_that_they_gave(tiny_model_folder: Path) -> None:
    config = EngineConfig(num_blocks=64, draft_len=3, draft_ngram=1)
    engine = Engine(MODEL, auto.load_processor(tiny_model_folder), config)
    engine.generate([request("a", 1, num_new=60)])
    assert engine.stats().generated_tokens == 60
    assert engine.stats().num_steps <= 60


def test_a_snapshot_stays_as_it_is(engine: Engine) -> None:
    before = engine.stats()
    engine.generate([request("a", 1)])
    assert before == EngineStats(num_blocks=24)
    assert engine.stats().num_ended == {"length": 1}
