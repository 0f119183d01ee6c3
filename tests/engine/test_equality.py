"""The heart of the engine: whatever the batch, the cache and the schedule, greedy ids are those of the simple loop."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch

from videolm.contracts import ModelInputs, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request, RequestOutput
from videolm.generation.loop import generate_ids
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import pack, prompt
from .tiny_families import CONFIGS, picture_for, tiny_model_of, video_for


@cache
def model_of(name: str) -> VideoLM:
    return tiny_model_of(name)


def media_of(model: VideoLM) -> list[VisualInput]:
    video = video_for(model, 4, 0)
    return [video, replace(video, rope_factor=3.0), video_for(model, 2, 1), picture_for(model, (40, 30), 2)]


@dataclass
class Draw:
    """Requests and settings, drawn at random but so that beginnings are often shared."""

    random: random.Random
    model: VideoLM
    media: list[VisualInput] = field(init=False)

    def __post_init__(self) -> None:
        self.media = media_of(self.model)

    def words(self, most: int) -> list[int]:
        # Of few different ids, for common beginnings of all lengths.
        return [self.random.choice([5, 6, 7]) for _ in range(self.random.randint(1, most))]

    def request(self, name: str) -> Request:
        parts: list[Any] = [[1, *self.words(3)]]
        for _ in range(self.random.choice([0, 1, 1, 2])):
            parts += [self.random.choice(self.media), self.words(5)]
        params = SamplingParams(
            max_new_tokens=self.random.randint(1, 14),
            stop_token_ids=tuple(self.random.sample(range(300), 6)),
            min_new_tokens=self.random.choice([0, 0, 1]),
            repetition_penalty=self.random.choice([1.0, 1.0, 1.3]),
            presence_penalty=self.random.choice([0.0, 0.0, 1.5]),
            frequency_penalty=self.random.choice([0.0, 0.0, 0.7]),
            logprobs=self.random.choice([None, 0, 3]),
        )
        return Request(id=name, inputs=prompt(*parts), params=params)

    def config(self, requests: list[Request]) -> EngineConfig:
        longest = max(num_tokens(request) for request in requests)
        block_size = self.random.choice([1, 3, 8, 16])
        budget = self.random.choice([4, 17, 64, 2048])
        return EngineConfig(
            block_size=block_size,
            num_blocks=-(-longest // block_size) + self.random.choice([0, 2, 9, 200]),
            max_batch_tokens=budget,
            max_batch_patches=self.random.choice([None, 1, 100]),
            max_running=min(budget, self.random.choice([1, 3, 8])),
            reuses_prefixes=self.random.random() < 0.7,
            feature_bytes=self.random.choice([0, 1 << 20]),
            draft_len=self.random.choice([0, 0, 3]),
            draft_ngram=1,
        )


def num_tokens(request: Request) -> int:
    assert request.inputs is not None
    return len(request.inputs.input_ids) + request.params.max_new_tokens - 1


def alone(model: VideoLM, inputs: ModelInputs, params: SamplingParams) -> tuple[list[int], str]:
    """What the simple loop generates."""
    ids, found = generate_ids(model, inputs, params), list[int]()
    while True:
        try:
            found.append(next(ids))
        except StopIteration as end:
            return found, end.value


@torch.inference_mode()
def check_logprobs(model: VideoLM, request: Request, output: RequestOutput) -> None:
    """They are those of one pass over the prompt and the whole answer."""
    inputs, num_top = request.inputs, request.params.logprobs
    if num_top is None or not output.output_ids:
        assert output.logprobs == ()
        return
    assert inputs is not None
    whole = replace(inputs, input_ids=inputs.input_ids + output.output_ids[:-1])
    scores = model.forward_packed(pack(whole))[len(inputs.input_ids) - 1 :].log_softmax(-1)
    top = scores.topk(num_top)
    assert tuple(each.token_id for each in output.logprobs) == output.output_ids
    told = torch.tensor([each.logprob for each in output.logprobs])
    # One pass sums in another order than the steps did, and a log of a small probability shows it.
    torch.testing.assert_close(
        told, scores.gather(1, torch.tensor(output.output_ids)[:, None])[:, 0], rtol=1e-5, atol=5e-5
    )
    assert [[token for token, _ in each.top] for each in output.logprobs] == top.indices.tolist()
    told = torch.tensor([[value for _, value in each.top] for each in output.logprobs])
    torch.testing.assert_close(told.view(top.values.shape), top.values, rtol=1e-5, atol=5e-5)


def run(engine: Engine, draw: random.Random, requests: list[Request]) -> dict[str, RequestOutput]:
    """Requests arrive at random steps, and some are given up."""
    waiting, done = list(requests), dict[str, RequestOutput]()
    while waiting or engine.has_requests:
        while waiting and draw.random() < 0.5:
            engine.add(waiting.pop(0))
        for output in engine.step():
            assert output.text.endswith(output.piece)
            if output.is_finished:
                done[output.id] = output
        if draw.random() < 0.05:
            gone = engine.abort(draw.choice(requests).id)
            if gone is not None:
                done[gone.id] = gone
    return done


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CONFIGS)
def test_ids_are_those_of_the_simple_loop(name: str, seed: int, processor: Processor) -> None:
    model, source = model_of(name), random.Random(f"{name} {seed}")
    draw = Draw(source, model)
    requests = [draw.request(str(index)) for index in range(8)]
    engine = Engine(model, processor, draw.config(requests))
    done = run(engine, source, requests)
    assert set(done) == {request.id for request in requests}
    for request in requests:
        output = done[request.id]
        assert output.error is None
        assert request.inputs is not None
        check_logprobs(model, request, output)
        ids, reason = alone(model, request.inputs, request.params)
        if output.finish_reason == "abort":
            assert list(output.output_ids) == ids[: len(output.output_ids)]
        else:
            assert (list(output.output_ids), output.finish_reason) == (ids, reason)
    assert engine.num_used_blocks == 0


def test_the_schedules_preempt_evict_share_and_draft(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would prove little if its schedules were tame."""
    from videolm.engine.blocks import BlockPool
    from videolm.engine.scheduler import Scheduler

    seen = dict.fromkeys(("_preempt", "_evict", "share", "advance"), 0)

    def count(kind: type, name: str) -> None:
        method = getattr(kind, name)

        def counted(self: Any, *arguments: Any) -> Any:
            seen[name] += name != "advance" or (len(arguments) == 2 and len(arguments[1]) > 1)
            return method(self, *arguments)

        monkeypatch.setattr(kind, name, counted)

    for kind, name in ((Scheduler, "_preempt"), (BlockPool, "_evict"), (BlockPool, "share"), (Scheduler, "advance")):
        count(kind, name)
    for name, seed in itertools.product(CONFIGS, range(4)):
        source = random.Random(f"{name} {seed}")
        draw = Draw(source, model_of(name))
        requests = [draw.request(str(index)) for index in range(8)]
        run(Engine(model_of(name), processor, draw.config(requests)), source, requests)
        if all(seen.values()):
            return
    raise AssertionError(seen)


def test_draws_with_a_seed_are_those_of_the_simple_loop(processor: Processor) -> None:
    model = model_of("llava_next_video")
    draw = Draw(random.Random(3), model)
    requests = []
    for index in range(5):
        request = draw.request(str(index))
        params = replace(request.params, temperature=0.9, top_p=0.95, seed=index, max_new_tokens=16, stop_token_ids=())
        requests.append(replace(request, params=params))
    for draft_len in (0, 4):
        config = EngineConfig(num_blocks=200, block_size=4, draft_len=draft_len, draft_ngram=1, max_batch_tokens=64)
        for request, output in zip(requests, Engine(model, processor, config).generate(requests), strict=True):
            assert request.inputs is not None
            assert list(output.output_ids) == alone(model, request.inputs, request.params)[0]


@torch.inference_mode()
def test_penalties_are_taken_from_the_logits_of_what_was_generated(processor: Processor) -> None:
    """Against the formula of OpenAI's API, on logits of a pass over everything so far."""
    model = model_of("llava_next_video")
    inputs, presence, frequency = prompt([1, 5, 6], media_of(model)[2], [5, 5, 5]), 0.9, 0.4
    params = SamplingParams(max_new_tokens=24, presence_penalty=presence, frequency_penalty=frequency)
    ids: list[int] = []
    for _ in range(24):
        whole = replace(inputs, input_ids=(*inputs.input_ids, *ids))
        counts = torch.bincount(torch.tensor(ids, dtype=torch.int64), minlength=300)
        logits = model.forward_packed(pack(whole))[-1] - presence * (counts > 0) - frequency * counts
        ids.append(int(logits.argmax()))
    free = alone(model, inputs, replace(params, presence_penalty=0.0, frequency_penalty=0.0))[0]
    assert alone(model, inputs, params)[0] == ids != free
    for draft_len in (0, 3):
        config = EngineConfig(num_blocks=64, block_size=4, draft_len=draft_len, draft_ngram=1)
        (output,) = Engine(model, processor, config).generate([Request(id="a", inputs=inputs, params=params)])
        assert list(output.output_ids) == ids


@torch.inference_mode()
def test_ids_are_those_of_generate(processor: Processor) -> None:
    model: Any = model_of("llava_next_video")
    inputs = prompt([1, 5, 6], media_of(model)[0], [7, 8, 9])
    (output,) = Engine(model, processor, EngineConfig(num_blocks=64)).generate(
        [Request(id="a", inputs=inputs, params=SamplingParams(max_new_tokens=20))]
    )
    ids = torch.tensor([[300 if token == 900 else token for token in inputs.input_ids]])
    pixels = inputs.media[0].pixel_values[None]
    whole = model.generate(
        ids, pixel_values_videos=pixels, max_new_tokens=20, eos_token_id=None, pad_token_id=0, do_sample=False
    )
    assert list(output.output_ids) == whole[0, ids.shape[1] :].tolist()
