"""Attention over spans equals attention over whole sequences, whatever the spans, the counts and the way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videolm.engine.paged_cache import spans_of
from videolm.engine.paged_plan import PagedPlan
from videolm.native.attention import has_attention

HEADS, KEY_HEADS, WIDTH, BLOCK, NUM_BLOCKS = 4, 2, 8, 4, 24


def attend_alone(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One sequence, written out: ``[S, A, head]`` and ``[L, K, head]`` to ``[S, A, head]``."""
    keys, values = (rows.repeat_interleave(HEADS // KEY_HEADS, dim=1) for rows in (keys, values))
    scores = torch.einsum("sah,lah->asl", queries, keys) * WIDTH**-0.5
    seen = torch.ones(scores.shape[1:], dtype=torch.bool).tril(len(keys) - len(queries))
    return torch.einsum("asl,lah->sah", scores.masked_fill(~seen, -torch.inf).softmax(-1), values)


def compare(sizes: list[tuple[int, int]], seed: int, **options: bool) -> None:
    """``sizes``: queries and, before them, cached tokens of each sequence."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(NUM_BLOCKS, generator=generator).tolist()
    rows = torch.randn(2, 1, NUM_BLOCKS * BLOCK, KEY_HEADS, WIDTH, generator=generator)
    queries = torch.randn(1, sum(count for count, _ in sizes), HEADS, WIDTH, generator=generator)
    spans, expected, first, owned = [], [], 0, set[int]()
    for count, cached in sizes:
        num_blocks = -(-(count + cached) // BLOCK)
        blocks, order = order[:num_blocks], order[num_blocks:]
        blocks = sorted(blocks) if seed % 2 else blocks
        slots = [block * BLOCK + place for block in blocks for place in range(BLOCK)][: count + cached]
        owned.update(slots)
        spans.append(spans_of(blocks, BLOCK, count + cached))
        expected.append(attend_alone(queries[0, first : first + count], rows[0, 0, slots], rows[1, 0, slots]))
        first += count
    # What nothing was written to holds anything.
    rows[:, :, sorted(set(range(NUM_BLOCKS * BLOCK)) - owned)] = torch.nan
    keys, values = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in rows)  # As a cache gives them.
    plan = PagedPlan.of([count for count, _ in sizes], spans, **options)
    assert (plan.few is not None) == bool(options.get("has_kernel") and min(plan.counts) <= 16)
    torch.testing.assert_close(plan.attend(queries, keys, values)[0], torch.cat(expected))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 12)), min_size=1, max_size=3), seed=st.integers(0, 99)
)
def test_mixed_batches(sizes: list[tuple[int, int]], seed: int) -> None:
    compare(sizes, seed)
    if has_attention():
        compare(sizes, seed, has_kernel=True)


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_query_each(pads: bool, seed: int) -> None:
    compare([(1, 11), (1, 0), (1, 30), (1, 3)], seed, pads=pads)


def test_small_keys_are_padded_where_there_are_many_sequences() -> None:
    def is_padded(num_sequences: int, length: int, width: int | None) -> bool:
        spans = [((100 * index, 100 * index + length),) for index in range(num_sequences)]
        return PagedPlan.of([1] * num_sequences, spans, row_width=width).padded is not None

    assert is_padded(3, 64, 512)
    assert not is_padded(3, 65, 512)
    assert not is_padded(2, 64, 512)
    assert not is_padded(8, 64, None)


@pytest.mark.parametrize("sizes", [[(17, 20)], [(40, 0)], [(17, 0), (1, 9), (2, 9)]])
def test_many_queries_with_and_without_a_past(sizes: list[tuple[int, int]]) -> None:
    compare(sizes, 2)


def test_half_precision_queries_attend_to_exact_keys() -> None:
    rows = torch.randn(1, 8, KEY_HEADS, WIDTH, generator=torch.Generator().manual_seed(0))
    queries = torch.randn(1, 3, HEADS, WIDTH, generator=torch.Generator().manual_seed(1)).bfloat16()
    out = PagedPlan.of([3], [((0, 8),)]).attend(queries, rows, rows)
    assert out.dtype == torch.bfloat16
    exact = attend_alone(queries[0].float(), rows[0], rows[0])
    torch.testing.assert_close(out[0], exact.bfloat16(), rtol=0, atol=0)
