"""generate_ids: what is asked of the model, what comes out, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.contracts import FinishReason, ModelInputs
from videolm.generation.loop import generate_ids
from videolm.generation.params import SamplingParams
from videolm.generation.streaming import IdGenerator

VOCABULARY = 8


class Counting:
    """A model whose most likely next id is the last one plus one; it writes down what it was given."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def prefill(self, inputs: ModelInputs, cache: Any, *, features: Any = None) -> Tensor:
        self.calls.append(("prefill", inputs.input_ids, cache, features))
        return self._after(inputs.input_ids[-1])

    def step(self, token_id: int, cache: Any) -> Tensor:
        self.calls.append(("step", token_id, cache))
        return self._after(token_id)

    def new_cache(self) -> str:
        return "new cache"

    def _after(self, token_id: int) -> Tensor:
        return torch.arange(VOCABULARY).sub(token_id + 1).abs().neg().float()


def generate(prompt: Sequence[int], **settings: Any) -> tuple[list[int], FinishReason, list[Any]]:
    model = Counting()
    ids = generate_ids(model, ModelInputs(input_ids=tuple(prompt)), SamplingParams(**settings), cache="cache")  # type: ignore[arg-type]
    out, reason = collect(ids)
    return out, reason, model.calls


def collect(ids: IdGenerator) -> tuple[list[int], FinishReason]:
    out = []
    while True:
        try:
            out.append(next(ids))
        except StopIteration as end:
            return out, end.value


def test_a_stop_token_ends_the_answer_and_is_the_last_id() -> None:
    ids, reason, calls = generate([0, 1], stop_token_ids=(4,))
    assert (ids, reason) == ([2, 3, 4], "stop")
    assert calls == [
        ("prefill", (0, 1), "cache", None),
        ("step", 2, "cache"),
        ("step", 3, "cache"),
    ]


def test_the_limit_ends_the_answer_without_reading_its_last_id() -> None:
    ids, reason, calls = generate([0], max_new_tokens=2)
    assert (ids, reason) == ([1, 2], "length")
    assert [call[0] for call in calls] == ["prefill", "step"]


def test_a_stop_token_at_the_limit_is_a_stop() -> None:
    assert generate([0], max_new_tokens=2, stop_token_ids=(2,))[:2] == ([1, 2], "stop")


def test_stop_tokens_wait_for_the_minimum() -> None:
    ids, reason, _ = generate([0], max_new_tokens=8, min_new_tokens=3, stop_token_ids=(2,))
    assert (ids, reason) == ([1, 1, 1, 2], "stop")


def test_without_a_cache_a_new_one_is_used() -> None:
    model = Counting()
    next(generate_ids(model, ModelInputs(input_ids=(0,)), SamplingParams()))  # type: ignore[arg-type]
    assert model.calls == [("prefill", (0,), "new cache", None)]


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    model = Counting()
    ids = generate_ids(model, ModelInputs(input_ids=(0,)), SamplingParams())  # type: ignore[arg-type]
    assert model.calls == []
    assert next(ids) == 1
    assert [call[0] for call in model.calls] == ["prefill"]


def test_the_sampler_sees_the_prompt_and_the_generated_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def spy(params: SamplingParams, prompt_len: int) -> Any:
        def sample(logits: Tensor, ids: Sequence[int]) -> int:
            seen.append(list(ids))
            return int(logits.argmax())

        return sample

    monkeypatch.setattr("videolm.generation.loop.make_sampler", spy)
    generate([4, 0], max_new_tokens=2)
    assert seen == [[4, 0], [4, 0, 1]]
