"""Attention in blocks against the fused kernel in float32, and who takes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from videolm.models import cpu_attention
from videolm.models.attention import CausalPlan, FullPlan
from videolm.models.cpu_attention import attend_in_blocks, suits_blocks

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not multiply bfloat16"
)


def heads(num_heads: int, length: int, seed: int) -> Tensor:
    return torch.randn(num_heads, length, 16, generator=torch.Generator().manual_seed(seed)).bfloat16()


def exact(queries: Tensor, keys: Tensor, values: Tensor, *, is_causal: bool) -> Tensor:
    count, length = queries.shape[1], keys.shape[1]
    mask = torch.ones(count, length, dtype=torch.bool).tril_(length - count) if is_causal else None
    wide = (rows.float()[None] for rows in (queries, keys, values))
    return functional.scaled_dot_product_attention(*wide, attn_mask=mask, enable_gqa=True)[0]


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(64, 64), (300, 300), (520, 700)])
@pytest.mark.parametrize("num_key_heads", [6, 2])
def test_blocks_give_what_the_fused_kernel_gives(
    num_queries: int, num_keys: int, num_key_heads: int, is_causal: bool
) -> None:
    parts = heads(6, num_queries, 0), heads(num_key_heads, num_keys, 1), heads(num_key_heads, num_keys, 2)
    expected = exact(*parts, is_causal=is_causal)
    # Two roundings to 8 bits, of scores and of weights.
    torch.testing.assert_close(attend_in_blocks(*parts, is_causal=is_causal).float(), expected, rtol=2e-2, atol=2e-2)
    stored = (rows.float() for rows in parts[1:])  # A cache may hold the same numbers in float32.
    assert torch.equal(
        attend_in_blocks(parts[0], *stored, is_causal=is_causal), attend_in_blocks(*parts, is_causal=is_causal)
    )


@pytest.mark.parametrize("blocks", [((4000, 3, 17),), ((1000, 4, 256), (3000, 1, 70)), ()])
def test_blocks_for_more_keys_give_the_same(
    blocks: tuple[tuple[int, int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = heads(4, 150, 0), heads(2, 2500, 1), heads(2, 2500, 2)
    monkeypatch.setattr(cpu_attention, "_BLOCKS", blocks)
    found = attend_in_blocks(*parts, is_causal=True).float()
    torch.testing.assert_close(found, exact(*parts, is_causal=True), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("plan", [FullPlan(), CausalPlan.of(70, 30)])
def test_plans_attend_in_blocks_to_each_row_of_a_batch(plan: FullPlan | CausalPlan) -> None:
    count, length = (70, 100) if isinstance(plan, CausalPlan) else (70, 70)
    rows = [
        (heads(4, count, 0), heads(4, length, 1), heads(4, length, 2)),
        (heads(4, count, 3),) * 1 + (heads(4, length, 4),) * 2,
    ]
    batch = [torch.stack(parts).transpose(1, 2) for parts in zip(*rows, strict=True)]
    assert suits_blocks(*batch)
    out = plan.attend(*batch)
    for row, parts in zip(out, rows, strict=True):
        expected = attend_in_blocks(*parts, is_causal=isinstance(plan, CausalPlan))
        assert torch.equal(row.transpose(0, 1), expected)


def test_training_other_dtypes_and_few_queries_attend_otherwise() -> None:
    parts = [heads(4, 70, seed)[None].transpose(1, 2) for seed in range(3)]
    assert suits_blocks(*parts)
    assert not suits_blocks(*(rows.float() for rows in parts))
    assert not suits_blocks(parts[0][:, :1], *parts[1:])
    assert not suits_blocks(parts[0], parts[1].clone().requires_grad_(), parts[2])
