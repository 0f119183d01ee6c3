"""The compiled kernel against attention written out, whatever lies where; in memory that holds what is no number."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videolm.native.attention import WIDEST_HEAD, FewQueries, has_attention

pytestmark = pytest.mark.skipif(not has_attention(), reason="no C compiler with OpenMP")
NUM_SLOTS = 700


def written_out(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """In float64: ``[S, A, head]`` and ``[K, L, head]`` to ``[S, A, head]``."""
    count, num_heads, width = queries.shape
    keys, values = (rows.double().repeat_interleave(num_heads // len(rows), dim=0) for rows in (keys, values))
    scores = torch.einsum("sad,ald->sal", queries.double(), keys) * width**-0.5
    length = keys.shape[1]
    seen = torch.ones(count, length, dtype=torch.bool).tril_(length - count)[:, None]
    return torch.einsum("sal,ald->sad", scores.masked_fill(~seen, -torch.inf).softmax(-1), values).float()


def compare(
    sizes: list[tuple[int, int]], seed: int, *, heads: tuple[int, int, int], dtype: torch.dtype, scale: float = 1.0
) -> None:
    """``sizes``: queries and tokens before them of each sequence, which lies in up to three pieces."""
    num_heads, num_key_heads, width = heads
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.full((num_key_heads, NUM_SLOTS, width), torch.nan, dtype=dtype) for _ in range(2))
    queries = torch.randn(sum(count for count, _ in sizes) + 2, num_heads, width, generator=generator) * scale
    spans, firsts, expected, slot, first = [], [], [], 1, 1
    for count, before in sizes:
        length, own, slots = count + before, list[tuple[int, int]](), list[int]()
        cuts = sorted({0, length, *torch.randint(0, length + 1, (2,), generator=generator).tolist()})
        for start, stop in itertools.pairwise(cuts):
            own.append((slot, slot + stop - start))
            slots += range(slot, slot + stop - start)
            slot += stop - start + 3
        spans.append(own[::-1])
        order = [each for piece in own[::-1] for each in range(*piece)]
        for rows in (keys, values):
            rows[:, slots] = torch.randn(num_key_heads, length, width, generator=generator).to(dtype)
        expected.append(written_out(queries[first : first + count], keys[:, order], values[:, order]))
        firsts.append(first)
        first += count
    out = torch.full_like(queries, 7.0)
    FewQueries.of(firsts, [count for count, _ in sizes], spans).attend(queries, keys, values, out)
    torch.testing.assert_close(out[1:-1], torch.cat(expected), rtol=2e-5, atol=2e-6 * max(scale, 1))
    assert (out[0] == 7).all()
    assert (out[-1] == 7).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 150)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    heads=st.sampled_from([(4, 4, 64), (2, 1, 128), (6, 2, 40), (7, 1, 16), (3, 3, WIDEST_HEAD)]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_sequences(
    sizes: list[tuple[int, int]], seed: int, heads: tuple[int, int, int], dtype: torch.dtype
) -> None:
    compare(sizes, seed, heads=heads, dtype=dtype)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 30.0, 1e4])
def test_scores_of_any_size(scale: float) -> None:
    compare([(1, 500), (3, 60)], 5, heads=(4, 2, 64), dtype=torch.float32, scale=scale)


@pytest.mark.parametrize("num_threads", [1, 2, 5, 12])
@pytest.mark.parametrize("sizes", [[(1, 650)], [(1, 300), (16, 300)], [(3, 500), (1, 0)], [(20, 600)]])
def test_any_number_of_threads_gives_the_same(num_threads: int, sizes: list[tuple[int, int]]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            compare(sizes, 1, heads=(4, 2, 64), dtype=dtype)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("num_heads", "length", "num_threads", "expected"),
    [(4, 4000, 4, 1), (4, 4000, 5, 3), (4, 4000, 64, 15), (4, 600, 64, 2), (4, 100, 64, 1), (1, 4000, 2, 4)],
)
def test_sequences_are_cut_where_heads_are_fewer_than_threads(
    num_heads: int, length: int, num_threads: int, expected: int
) -> None:
    few = FewQueries.of([0], [1], [[(0, length)]])
    assert few._num_pieces(num_heads, num_threads) == expected


def test_what_is_no_number_is_told() -> None:
    keys = torch.zeros(1, 4, 8)
    keys[0, 2, 3] = torch.nan
    out = torch.empty(1, 1, 8)
    FewQueries.of([0], [1], [[(0, 4)]]).attend(torch.ones(1, 1, 8), keys, torch.ones(1, 4, 8), out)
    assert out.isnan().all()


def test_nothing_outside_is_read() -> None:
    keys = torch.zeros(1, 4, 8)
    for few in (FewQueries.of([0], [1], [[(0, 5)]]), FewQueries.of([1], [1], [[(0, 4)]])):
        with pytest.raises(AssertionError):
            few.attend(torch.ones(1, 1, 8), keys, keys, torch.empty(1, 1, 8))
