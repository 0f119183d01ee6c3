"""The paged cache: rows come back from where they were put; whole numbers lose as much as they must and no more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from videolm.engine.paged_cache import Int8Cache, PagedCache, Spans, Storage, spans_of

LAYERS, SLOTS, HEADS, WIDTH = 2, 24, 2, 8
CPU = torch.device("cpu")
KINDS = [PagedCache, Int8Cache]


def noise(num_rows: int, seed: int = 0) -> Tensor:
    return torch.randn(1, num_rows, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed))


def new(kind: type[PagedCache] | type[Int8Cache], dtype: torch.dtype = torch.float32) -> Storage:
    return kind(LAYERS, SLOTS, HEADS, WIDTH, dtype=dtype, device=CPU)


def read(rows: Tensor, spans: Spans) -> Tensor:
    return torch.cat([rows[:, start:end] for start, end in spans], dim=1)


def test_blocks_in_a_row_are_one_span() -> None:
    assert spans_of([3, 4, 0, 1, 7], 4, 18) == ((12, 20), (0, 8), (28, 30))
    assert spans_of([3, 4], 4, 8) == ((12, 20),)
    assert spans_of([3, 4, 9], 4, 5) == ((12, 17),)
    assert spans_of([], 4, 0) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_in_the_order_of_each_sequence(kind: type[PagedCache] | type[Int8Cache]) -> None:
    storage = new(kind)
    first, second = ((20, 22), (4, 7)), ((0, 2),)
    slots = torch.tensor([20, 21, 4, 5, 6, 0, 1])
    for layer in range(LAYERS):
        keys, values = noise(7, seed=layer), noise(7, seed=10 + layer)
        cache, spans = storage.open(slots, [first, second])
        for stored, given in zip(cache.extend(layer, keys, values), (keys, values), strict=True):
            found = torch.cat([read(stored, each) for each in spans], dim=1)
            torch.testing.assert_close(found, given, rtol=0, atol=0 if kind is PagedCache else given.abs().max() / 250)


@pytest.mark.parametrize("kind", KINDS)
def test_earlier_rows_are_kept_and_copied(kind: type[PagedCache] | type[Int8Cache]) -> None:
    storage = new(kind)
    keys, values = noise(3), noise(3, seed=1)
    cache, _ = storage.open(torch.tensor([8, 9, 10]), [((8, 11),)])
    before = [cache.extend(layer, keys, values) for layer in range(LAYERS)]
    kept = [
        read(before[layer][part], ((8, 11),) if kind is PagedCache else ((0, 3),))
        for layer in (0, 1)
        for part in (0, 1)
    ]
    storage.copy(8, 16, 2)
    new_rows = noise(1, seed=2), noise(1, seed=3)
    cache, spans = storage.open(torch.tensor([18]), [((16, 19),)])
    after = [cache.extend(layer, *new_rows) for layer in range(LAYERS)]
    found = [read(after[layer][part], spans[0])[:, :2] for layer in (0, 1) for part in (0, 1)]
    for one, other in zip(found, kept, strict=True):
        torch.testing.assert_close(one, other[:, :2], rtol=0, atol=0)


def test_whole_numbers_round_to_the_nearest_step_of_each_row_and_head() -> None:
    storage = new(Int8Cache)
    keys = noise(5) * torch.tensor([1e-3, 1.0, 1e3, 0.0, 1.0])[:, None, None]
    cache, _ = storage.open(torch.arange(5), [((0, 5),)])
    found, _ = cache.extend(0, keys, keys)
    step = keys.abs().amax(-1, keepdim=True) / 127
    assert bool(((found - keys).abs() <= step / 2 * 1.001).all())
    assert bool((found[:, 3] == 0).all())


def test_whole_numbers_take_a_quarter_of_the_memory_and_their_scales() -> None:
    rows = 2 * LAYERS * SLOTS * HEADS
    assert new(PagedCache).num_bytes == rows * WIDTH * 4
    assert new(PagedCache, torch.bfloat16).num_bytes == rows * WIDTH * 2
    assert new(Int8Cache).num_bytes == rows * (WIDTH + 4)
