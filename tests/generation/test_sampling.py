"""Samplers on four-element logits, and against transformers' logits processors on random ones."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as theirs

from videolm.errors import GenerationError
from videolm.generation.params import SamplingParams
from videolm.generation.sampling import (
    LogitsProcessor,
    Multinomial,
    generation_penalties,
    greedy,
    make_processors,
    make_sampler,
    min_p,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)

NONE = -math.inf


def logits_of(probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities).log()


def kept(process: LogitsProcessor, logits: Tensor) -> list[bool]:
    return process(logits, ()).isfinite().tolist()


def test_greedy_takes_the_largest_and_of_equals_the_first() -> None:
    assert greedy(torch.tensor([0.0, 2.0, 2.0, 1.0])) == 1


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [False, True, False, False]),
        (2, [False, True, False, True]),
        (4, [True, True, True, True]),
        (9, [True, True, True, True]),
    ],
)
def test_top_k_keeps_the_k_largest(k: int, expected: list[bool]) -> None:
    assert kept(top_k(k), torch.tensor([-1.0, 5.0, 0.0, 3.0])) == expected


def test_top_k_keeps_what_equals_the_last() -> None:
    assert kept(top_k(2), torch.tensor([3.0, 5.0, 3.0, 1.0])) == [True, True, True, False]


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        (0.4, [True, False, False, False]),
        (0.5, [True, False, False, False]),
        (0.6, [True, False, True, False]),
        (0.8, [True, True, True, False]),
        (0.95, [True, True, True, True]),
        (1e-6, [True, False, False, False]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_the_mass(mass: float, expected: list[bool]) -> None:
    assert kept(top_p(mass), logits_of([0.5, 0.1875, 0.25, 0.0625])) == expected


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.3, [True, True, True, False]),
        (0.45, [True, False, True, False]),
        (0.6, [True, False, False, False]),
        (1.0, [True, False, False, False]),
    ],
)
def test_min_p_is_relative_to_the_most_likely(fraction: float, expected: list[bool]) -> None:
    assert kept(min_p(fraction), logits_of([0.5, 0.1875, 0.25, 0.0625])) == expected


def test_repetition_penalty_lowers_ids_so_far_once_whatever_their_sign() -> None:
    lowered = repetition_penalty(2.0)(torch.tensor([4.0, -4.0, 1.0, NONE]), [0, 1, 1, 3])
    assert lowered.tolist() == [2.0, -8.0, 1.0, NONE]


def test_repetition_penalty_ignores_placeholders_outside_the_vocabulary() -> None:
    assert repetition_penalty(2.0)(torch.tensor([4.0, 1.0, 1.0, 1.0]), [-1, 0, 9]).tolist() == [2.0, 1.0, 1.0, 1.0]


def test_generated_tokens_are_penalised_once_and_for_each_time() -> None:
    lowered = generation_penalties(1.0, 0.25, 2)(torch.tensor([4.0, -4.0, 1.0, NONE]), [2, 2, 0, 1, 1, 3])
    assert lowered.tolist() == [2.75, -5.5, 1.0, NONE]


def test_nothing_generated_is_not_penalised() -> None:
    assert generation_penalties(1.0, 1.0, 2)(torch.tensor([4.0, 1.0]), [0, 1]).tolist() == [4.0, 1.0]


def test_penalties_are_taken_in_float32() -> None:
    lowered = generation_penalties(0.0, 0.001, 0)(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), [1])
    assert lowered.dtype == torch.float32
    assert lowered[1] < 2


def test_a_greedy_sampler_penalises_what_was_generated_but_not_the_prompt() -> None:
    sample = make_sampler(SamplingParams(presence_penalty=2.0), 1)
    logits = torch.tensor([4.0, 3.0, 0.0, 0.0])
    assert sample(logits, [0]) == 0
    assert sample(logits, [0, 0]) == 1
    assert make_sampler(SamplingParams(frequency_penalty=-2.0), 1)(logits, [0, 1]) == 1


def test_temperature_divides_in_float32() -> None:
    divided = temperature(0.5)(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.bfloat16), ())
    assert divided.dtype == torch.float32
    assert divided.tolist() == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("value", [1e-9, 1e-40, 1e-300, 5e-324])
def test_the_coldest_temperatures_take_the_likeliest_token(value: float) -> None:
    sample = make_sampler(SamplingParams(temperature=value, seed=0))
    assert [sample(torch.tensor([-3.0, 20.0, 19.9, 0.0]), ()) for _ in range(5)] == [1] * 5


def test_draws_follow_the_probabilities() -> None:
    draw = Multinomial(seed=0)
    logits = logits_of([0.5, 0.0, 0.25, 0.25])
    counts = Counter(draw(logits) for _ in range(4000))
    assert set(counts) == {0, 2, 3}
    assert counts[0] / 4000 == pytest.approx(0.5, abs=0.03)
    assert counts[2] / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_same_seed_repeats_the_draws_and_another_does_not() -> None:
    logits = torch.zeros(1000)

    def draws(seed: int | None) -> list[int]:
        sample = make_sampler(SamplingParams(temperature=1.0, seed=seed))
        return [sample(logits, ()) for _ in range(8)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert draws(None) != draws(None)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    make_sampler(SamplingParams(temperature=1.0))(torch.zeros(4), ())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_greedy_sampler_applies_the_repetition_penalty() -> None:
    logits = torch.tensor([4.0, 3.0, 0.0, 0.0])
    assert make_sampler(SamplingParams())(logits, [0]) == 0
    assert make_sampler(SamplingParams(repetition_penalty=2.0))(logits, [0]) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_named(temperature: float) -> None:
    sample = make_sampler(SamplingParams(temperature=temperature))
    with pytest.raises(GenerationError, match="the best one is nan"):
        sample(torch.tensor([0.0, math.nan, 1.0, 2.0]), ())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (temperature(0.7), theirs.TemperatureLogitsWarper(0.7)),
        (top_k(17), theirs.TopKLogitsWarper(17)),
        (top_p(0.6), theirs.TopPLogitsWarper(0.6)),
        (top_p(0.99), theirs.TopPLogitsWarper(0.99)),
        (min_p(0.1), theirs.MinPLogitsWarper(0.1)),
        (repetition_penalty(1.3), theirs.RepetitionPenaltyLogitsProcessor(1.3)),
    ],
)
def test_processors_equal_those_of_transformers(
    ours: LogitsProcessor, reference: theirs.LogitsProcessor, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(500, generator=generator) * 3
    ids = torch.randint(0, 500, (40,), generator=generator)
    expected = reference(ids[None], logits.clone()[None])[0]
    torch.testing.assert_close(ours(logits, ids.tolist()), expected, rtol=0, atol=0)


def test_the_chain_equals_that_of_transformers() -> None:
    params = SamplingParams(temperature=0.8, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.2)
    logits = torch.randn(500, generator=torch.Generator().manual_seed(3)) * 3
    ids = [5, 17, 17, 300]
    expected = logits.clone()[None]
    for processor in (
        theirs.RepetitionPenaltyLogitsProcessor(1.2),
        theirs.TemperatureLogitsWarper(0.8),
        theirs.TopKLogitsWarper(50),
        theirs.TopPLogitsWarper(0.9),
        theirs.MinPLogitsWarper(0.02),
    ):
        expected = processor(torch.tensor([ids]), expected)
    for process in make_processors(params):
        logits = process(logits, ids)
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=0)
