"""Every plan against softmax written out with an explicit mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from videolm.models import attention
from videolm.models.attention import AttentionPlan, CausalPlan, FullPlan, PackedPlan, PaddedPlan

Heads = tuple[Tensor, Tensor, Tensor]


def heads(batch: int, num_queries: int, num_keys: int, *, dtype: torch.dtype = torch.float32) -> Heads:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(batch, num_queries, 4, 8, generator=generator)
    keys, values = (torch.randn(batch, num_keys, 2, 8, generator=generator) for _ in range(2))
    return tuple(part.to(dtype).requires_grad_() for part in (queries, keys, values))


def written_out(parts: Heads, allowed: Tensor) -> Tensor:
    """``allowed``: ``[S, L]`` or ``[B, S, L]`` bool."""
    queries, keys, values = (part.double() for part in parts)
    keys, values = keys.repeat_interleave(2, 2), values.repeat_interleave(2, 2)
    scores = torch.einsum("bsad,blad->basl", queries, keys) / 8**0.5
    allowed = allowed if allowed.dim() == 3 else allowed[None]
    weights = scores.masked_fill(~allowed[:, None], float("-inf")).softmax(-1)
    return torch.einsum("basl,blad->bsad", weights, values)


def block_causal(lengths: tuple[int, ...]) -> Tensor:
    return torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool()


CASES: list[tuple[AttentionPlan, tuple[int, int, int], Tensor]] = [
    (FullPlan(), (2, 5, 5), torch.ones(5, 5).bool()),
    (CausalPlan.of(5), (2, 5, 5), torch.ones(5, 5).tril().bool()),
    (CausalPlan.of(3, 4), (2, 3, 7), torch.ones(3, 7).tril(4).bool()),
    (CausalPlan.of(1, 6), (2, 1, 7), torch.ones(1, 7).bool()),
    (PackedPlan.of((3, 1, 4)), (1, 8, 8), block_causal((3, 1, 4))),
    (PackedPlan.of((8,)), (1, 8, 8), block_causal((8,))),
    (PackedPlan.of((3, 2, 4), pads=True), (1, 9, 9), block_causal((3, 2, 4))),
]


@pytest.mark.parametrize(("plan", "sizes", "allowed"), CASES)
def test_plan_gives_what_the_written_out_mask_gives(
    plan: AttentionPlan, sizes: tuple[int, int, int], allowed: Tensor
) -> None:
    parts = heads(*sizes)
    out = plan.attend(*parts)

    torch.testing.assert_close(out.double(), written_out(parts, allowed), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("plan", "sizes", "allowed"), CASES)
def test_gradients_are_those_of_the_written_out_mask(
    plan: AttentionPlan, sizes: tuple[int, int, int], allowed: Tensor
) -> None:
    parts = heads(*sizes)
    ours = torch.autograd.grad(plan.attend(*parts).sin().sum(), parts)
    expected = torch.autograd.grad(written_out(parts, allowed).sin().sum(), parts)

    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [(8,), (3, 1, 4)])
def test_bfloat16_products_give_what_the_fused_kernel_gives(
    lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = heads(1, 8, 8, dtype=torch.bfloat16)
    plan = PackedPlan.of(lengths)
    products = plan.attend(*parts)
    monkeypatch.setattr(attention, "_suits_products", lambda queries, keys: False)
    fused = plan.attend(*parts)

    torch.testing.assert_close(products, fused, rtol=0.02, atol=0.02)  # two roundings to bfloat16 apart
    torch.testing.assert_close(products.double(), written_out(parts, block_causal(lengths)), rtol=0.02, atol=0.02)


def test_only_training_in_bfloat16_writes_scores_out() -> None:
    half, single = heads(1, 8, 8, dtype=torch.bfloat16), heads(1, 8, 8)

    assert attention._suits_products(half[0], half[1])
    assert not attention._suits_products(half[0].detach(), half[1])
    assert not attention._suits_products(single[0], single[1])


def test_plain_causal_attention_stays_causal_in_bfloat16_training() -> None:
    parts = heads(1, 8, 8, dtype=torch.bfloat16)
    expected = written_out(parts, block_causal((8,)))

    torch.testing.assert_close(CausalPlan.of(8).attend(*parts).double(), expected, rtol=0.02, atol=0.02)


def test_long_sequences_get_no_square_of_scores() -> None:
    assert PackedPlan.of((513,)).bias is None
    assert PackedPlan.of((512, 3)).bias.shape == (512, 512)


def test_padding_is_chosen_on_a_gpu_unless_most_rows_would_be_padding() -> None:
    gpu = torch.device("meta")  # any device but the CPU
    assert PackedPlan.of((5, 4, 6), device=gpu).gather is not None
    assert PackedPlan.of((100, 1, 1), device=gpu).gather is None
    assert PackedPlan.of((5, 4, 6), device=torch.device("cpu")).gather is None


def test_padded_rows_see_only_real_keys_and_fully_masked_rows_give_numbers() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    parts = heads(2, 4, 4)
    out = PaddedPlan.of(mask, 4).attend(*parts)

    assert out.isfinite().all()
    torch.testing.assert_close(out[:1, 2:].double(), written_out(tuple(p[:1, 2:] for p in parts), block_causal((2,))))


def test_a_padded_batch_continues_from_a_cache() -> None:
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    parts = heads(2, 5, 5)
    whole = PaddedPlan.of(mask, 5).attend(*parts)
    last = PaddedPlan.of(mask, 2).attend(parts[0][:, 3:], parts[1], parts[2])

    torch.testing.assert_close(last, whole[:, 3:])


def test_float32_keys_serve_bfloat16_queries() -> None:
    queries, keys, values = heads(1, 1, 6)
    out = CausalPlan().attend(queries.bfloat16(), keys, values)

    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), CausalPlan().attend(queries, keys, values), rtol=0.02, atol=0.02)
