"""Log probabilities of what was drawn and of what was likeliest."""

from __future__ import annotations

import math

import pytest
import torch

from videolm.generation.logprobs import token_logprobs

LOGITS = torch.tensor([0.5, 0.125, 0.25, 0.125]).log() + 3


def test_the_token_and_the_likeliest_are_told() -> None:
    told = token_logprobs(LOGITS, 3, 2)
    assert told.token_id == 3
    assert told.logprob == pytest.approx(math.log(0.125))
    assert [token for token, _ in told.top] == [0, 2]
    assert [value for _, value in told.top] == pytest.approx([math.log(0.5), math.log(0.25)])


@pytest.mark.parametrize(("num_top", "num_told"), [(0, 0), (4, 4), (20, 4)])
def test_no_more_are_told_than_there_are(num_top: int, num_told: int) -> None:
    assert len(token_logprobs(LOGITS, 0, num_top).top) == num_told


def test_they_are_computed_in_float32() -> None:
    logits = torch.tensor([0.0, 10.0], dtype=torch.bfloat16)
    assert token_logprobs(logits, 0, 0).logprob == pytest.approx(-10.0000454, abs=1e-6)
