"""How much is encoded in one step: answers go on meanwhile, nothing is encoded twice, and everything is answered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from videolm.contracts import Features, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.encoding import EncodingBudget
from videolm.engine.engine import Engine
from videolm.engine.features import FeatureMemory
from videolm.engine.request import Request
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import prompt
from .tiny_families import video_for

ROOM = {"num_blocks": 200, "block_size": 4}


class Noting(FeatureMemory):
    """Keeps what was encoded, call by call."""

    def __init__(self, model: VideoLM, *, max_bytes: int = 1 << 20) -> None:
        super().__init__(model, max_bytes=max_bytes)
        self.calls: list[list[str]] = []

    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        self.calls.append([key for key in dict.fromkeys(keys) if not self.holds(key)])
        return super().features_for(media, keys)


def about(model: VideoLM, key: str, question: int, *, frames: int = 8) -> Request:
    inputs = prompt([1], video_for(model, frames, ord(key[0])), [question, 3])
    params = SamplingParams(max_new_tokens=5)
    return Request(id=f"{key}{question}", inputs=inputs, params=params, media_keys=(key,))


def test_a_step_encodes_what_it_may_and_running_answers_go_on(model: VideoLM, processor: Processor) -> None:
    patches = EncodingBudget.of(model, None).cost(video_for(model, 8, 0))
    asked = [about(model, key, question) for key, question in (("a", 2), ("b", 2), ("b", 3), ("c", 2), ("d", 2))]
    alone = {each.id: Engine(model, processor, EngineConfig(**ROOM)).generate([each])[0].output_ids for each in asked}
    features = Noting(model)
    config = EngineConfig(**ROOM, max_batch_patches=2 * patches, reuses_prefixes=False)
    engine = Engine(model, processor, config, features=features)
    engine.add(Request(id="running", inputs=prompt([1, 2, 3]), params=SamplingParams(max_new_tokens=12)))
    news = [len(engine.step()[0].output_ids)]
    for each in asked:
        engine.add(each)
    done = {}
    while engine.has_requests:
        outputs = {output.id: output for output in engine.step()}
        news += [len(outputs["running"].output_ids)] if "running" in outputs else []
        done.update({name: output.output_ids for name, output in outputs.items() if output.is_finished})
    # Both questions about b come with its first encoding, since the second costs nothing.
    assert features.calls == [["a", "b"], ["c", "d"]]
    assert news == list(range(1, 13))
    assert {name: ids for name, ids in done.items() if name != "running"} == alone


@pytest.mark.parametrize("budget", [1, 7])
def test_one_medium_is_encoded_however_small_the_budget_is(model: VideoLM, processor: Processor, budget: int) -> None:
    features = Noting(model)
    engine = Engine(model, processor, EngineConfig(**ROOM, max_batch_patches=budget), features=features)
    outputs = engine.generate([about(model, key, 2) for key in "abc"])
    assert features.calls == [["a"], ["b"], ["c"]]
    assert [output.finish_reason for output in outputs] == ["length"] * 3
    assert engine.num_used_blocks == 0


def test_what_is_at_hand_costs_nothing(model: VideoLM, processor: Processor) -> None:
    features = Noting(model)
    config = EngineConfig(**ROOM, max_batch_patches=1, reuses_prefixes=False)
    engine = Engine(model, processor, config, features=features)
    engine.generate([about(model, "a", 2)])
    engine.generate([about(model, "a", 3), about(model, "a", 4), about(model, "b", 2), about(model, "a", 5)])
    assert features.calls == [["a"], ["b"]]


def test_a_medium_that_is_larger_is_not_overtaken_for_good(model: VideoLM, processor: Processor) -> None:
    features = Noting(model)
    patches = EncodingBudget.of(model, None).cost(video_for(model, 8, 0))
    engine = Engine(model, processor, EngineConfig(**ROOM, max_batch_patches=patches), features=features)
    engine.generate([about(model, "a", 2), about(model, "b", 2, frames=16), about(model, "c", 2), about(model, "d", 2)])
    assert features.calls == [["a"], ["b"], ["c"], ["d"]]
