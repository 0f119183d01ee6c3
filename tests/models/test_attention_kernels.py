"""Other ways to attend give what the usual one gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.models.attention import CausalPlan, PaddedPlan
from videolm.models.attention_kernels import EagerPlan, FlashPlan, FlexPlan, visible_keys

from ..flash_stand_in import flash

CPU = torch.device("cpu")
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


def heads(num_queries: int, num_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, num_queries, 4, 8), (2, num_keys, 2, 8), (2, num_keys, 2, 8))
    queries, keys, values = (torch.randn(shape, generator=generator) for shape in shapes)
    return queries, keys, values


def plans(mask: Tensor | None, num_queries: int) -> dict[str, Any]:
    visible = visible_keys(mask, num_queries, 6, CPU)
    return {
        "eager": EagerPlan(mask=visible),
        "flex": FlexPlan(mask=visible),
        "flash": FlashPlan(function=flash, attention_mask=mask),
    }


@pytest.mark.parametrize("name", ["eager", "flex", "flash"])
@pytest.mark.parametrize("num_queries", [1, 2, 6])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_they_agree_with_the_usual_plan(name: str, num_queries: int, mask: Tensor | None) -> None:
    inputs = heads(num_queries, 6)
    usual = CausalPlan.of(num_queries, 6 - num_queries) if mask is None else PaddedPlan.of(mask, num_queries)
    found, expected = plans(mask, num_queries)[name].attend(*inputs), usual.attend(*inputs)
    real = torch.ones(2, num_queries, dtype=torch.bool) if mask is None else mask[:, -num_queries:].bool()
    torch.testing.assert_close(found[real], expected[real])


def test_eager_attention_shows_its_weights() -> None:
    weights: list[Tensor] = []
    EagerPlan(mask=visible_keys(MASK, 6, 6, CPU), weights=weights).attend(*heads(6, 6))
    assert weights[0].shape == (2, 4, 6, 6)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 4, 6))
    assert (weights[0][0, :, 2:, :2] == 0).all()
