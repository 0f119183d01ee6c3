"""Tokens drawn together are those that each request draws for itself."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from videolm.engine.config import EngineConfig
from videolm.engine.drawing import Chosen, Drawing, choose_together
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.errors import GenerationError
from videolm.generation.params import SamplingParams
from videolm.generation.sampling import Multinomial, checked, draw_each, greedy, likeliest
from videolm.processing.processor import Processor

from ..models.tiny import prompt
from .test_equality import Draw, alone, model_of, run


def scores(num_rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    # Of few different values, so that the best one is seldom alone.
    return torch.randint(-4, 4, (num_rows, 301), generator=torch.Generator().manual_seed(num_rows)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 64])
def test_the_likeliest_token_is_the_greedy_one_and_of_equals_the_first(num_rows: int, dtype: torch.dtype) -> None:
    logits = scores(num_rows, dtype)
    assert [int((row == row.max()).sum()) > 1 for row in logits] == [True] * num_rows
    first = [int((row == row.max()).nonzero()[0]) for row in logits]
    assert likeliest(logits) == [(index, 3.0) for index in first]
    assert [checked(*best) for best in likeliest(logits)] == [greedy(row) for row in logits] == first


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_numbers_are_refused_as_by_greedy(value: float) -> None:
    logits = scores(2)
    logits[1] = value if value != math.inf else -math.inf
    logits[1, 5] = value
    whole, broken = likeliest(logits)
    assert checked(*whole) == greedy(logits[0])
    with pytest.raises(GenerationError) as expected:
        greedy(logits[1])
    with pytest.raises(GenerationError) as caught:
        checked(*broken)
    assert str(caught.value) == str(expected.value)


@dataclass
class Asked:
    """A request as ``choose_together`` sees it."""

    takes_best: bool = False
    is_shaped_by_others: bool = False
    number: float | None = None

    def shaped(self, logits: Tensor) -> Tensor:
        return -logits.float()

    def uniform(self) -> float | None:
        return self.number


BEST, SHAPED, OTHER = Asked(takes_best=True), Asked(), Asked(is_shaped_by_others=True)


def test_each_request_gets_its_own_rows_where_it_takes_the_best() -> None:
    logits = scores(6)
    rows = likeliest(logits)
    chosen = choose_together(logits, [1, 0, 3, 2], [BEST, BEST, SHAPED, BEST])
    assert chosen == [(rows[0],), (), (), (rows[4], rows[5])]
    assert choose_together(logits, [1, 5], [SHAPED, OTHER]) == [(), ()]


def test_a_single_row_on_a_cpu_is_left_to_its_sampler() -> None:
    assert choose_together(scores(1), [1], [BEST]) == [()]
    assert choose_together(scores(3), [1, 2], [BEST, SHAPED]) == [(), ()]


def test_a_gpu_is_waited_for_together_unless_rows_depend_on_each_other() -> None:
    logits = scores(7)
    low, high = Asked(number=0.1), Asked(number=0.9)
    chosen = choose_together(logits, [1, 1, 1, 2, 1, 1, 0], [low, BEST, SHAPED, high, high, OTHER, low], on_gpu=True)
    shaped = -logits
    assert chosen == [
        (draw_each(shaped[:1], [0.1])[0],),
        (likeliest(logits)[1],),
        (likeliest(shaped)[2],),
        (),
        (draw_each(shaped[5:6], [0.9])[0],),
        (),
        (),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_drawn_together_are_those_drawn_alone(dtype: torch.dtype) -> None:
    logits = scores(9, dtype)
    samplers = [Multinomial(seed) for seed in range(9)]
    numbers = [Multinomial(seed).uniform() for seed in range(9)]
    found = [checked(*each) for each in draw_each(logits, numbers)]
    assert found == [sampler(row) for sampler, row in zip(samplers, logits, strict=True)]


def test_the_highest_number_draws_a_token_that_has_a_probability() -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf], [-math.inf, 0.0, -math.inf]])
    assert [index for index, _ in draw_each(logits, [1.0, 1.0])] == [1, 1]
    assert [index for index, _ in draw_each(logits, [0.0, 0.0])] == [0, 1]


def test_an_engine_that_waits_seldom_draws_the_same(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: whatever shapes the logits, with seeds and drafts, over random schedules."""
    seen = Counter[bool]()

    def on_gpu(logits: Tensor, counts: Sequence[int], requests: Sequence[Drawing]) -> list[Chosen]:
        chosen = choose_together(logits, counts, requests, on_gpu=True)
        seen.update(bool(each) for each, request in zip(chosen, requests, strict=True) if not request.takes_best)
        return chosen

    monkeypatch.setattr("videolm.engine.engine.choose_together", on_gpu)
    model = model_of("llava_next_video")
    for seed in range(6):
        source = random.Random(seed)
        draw = Draw(source, model)
        asked = [draw.request(str(index)) for index in range(8)]
        for index in range(0, 8, 2):
            params = replace(asked[index].params, temperature=0.9, top_p=0.95, top_k=seed * 10, seed=index)
            asked[index] = replace(asked[index], params=params)
        done = run(Engine(model, processor, draw.config(asked)), source, asked)
        for request in asked:
            assert request.inputs is not None
            ids = alone(model, request.inputs, request.params)[0]
            found = done[request.id]
            assert list(found.output_ids) == (ids[: len(found.output_ids)] if found.finish_reason == "abort" else ids)
    assert seen[True] > 20 < seen[False]


def test_a_number_is_used_once_however_often_a_step_is_tried(processor: Processor) -> None:
    model = model_of("llava_next_video")
    params = SamplingParams(max_new_tokens=8, temperature=1.0, seed=3)
    request = Request(id="a", inputs=prompt([1, 2, 3]), params=params)
    engine = Engine(model, processor, EngineConfig(num_blocks=8))
    expected = engine.generate([request])[0].output_ids
    engine.add(request)
    answering, numbers = engine._answering["a"], []
    while engine.has_requests:
        numbers.append(answering.uniform())
        assert answering.uniform() == numbers[-1]
        engine.step()
    # The prompt was read in one step and each of the others drew a token, as did that one.
    assert len(set(numbers)) == len(numbers) == 8
    assert answering.output().output_ids == expected
