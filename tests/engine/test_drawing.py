"""Tokens drawn together are those that each request draws for itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from videolm.engine.drawing import best_of
from videolm.errors import GenerationError
from videolm.generation.sampling import checked, greedy, likeliest


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


def test_each_request_gets_its_own_rows_where_it_takes_the_best() -> None:
    logits = scores(6)
    rows = likeliest(logits)
    assert best_of(logits, [1, 0, 3, 2], [True, True, False, True]) == [(rows[0],), (), (), (rows[4], rows[5])]
    assert best_of(logits, [1, 5], [False, False]) == [(), ()]


def test_a_single_row_on_a_cpu_is_left_to_its_sampler() -> None:
    assert best_of(scores(1), [1], [True]) == [()]
    assert best_of(scores(3), [1, 2], [True, False]) == [(), ()]
