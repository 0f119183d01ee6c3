"""The cache keeps rows in place, grows in blocks and forgets from the end."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.models.cache import KVCache


def rows(count: int, start: int = 0) -> torch.Tensor:
    return (torch.arange(start, start + count, dtype=torch.float32)[None, :, None, None]).expand(2, count, 1, 3)


def fill(cache: KVCache, count: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    for layer in range(cache.num_layers):
        out = cache.extend(layer, rows(count, start), -rows(count, start))
    cache.advance(count)
    return out


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=8), block=st.sampled_from([1, 4, 16]))
def test_all_rows_come_back_in_order_after_growing(counts: list[int], block: int) -> None:
    cache = KVCache(2, block=block)
    for count in counts:
        keys, values = fill(cache, count, cache.length)

    assert cache.length == sum(counts)
    assert cache.capacity % block == 0
    assert torch.equal(keys, rows(cache.length))
    assert torch.equal(values, -rows(cache.length))
    assert all(torch.equal(cache.layer(layer)[0], rows(cache.length)) for layer in range(2))


def test_a_step_inside_a_block_allocates_nothing() -> None:
    cache = KVCache(1, block=8)
    before = fill(cache, 3, 0)
    fill(cache, 1, 3)
    pointer = cache.layer(0)[0].data_ptr()
    fill(cache, 4, 4)

    assert before[0].shape[1] == 3
    assert cache.capacity == 8
    assert cache.layer(0)[0].data_ptr() == pointer


def test_growth_is_a_share_of_the_length_so_that_copies_stay_rare() -> None:
    cache = KVCache(1, block=4)
    fill(cache, 100, 0)
    fill(cache, 1, 100)

    assert cache.capacity == 128


def test_truncating_keeps_the_prefix_and_the_memory() -> None:
    cache = KVCache(1, block=8)
    fill(cache, 8, 0)
    cache.truncate(5)
    keys, _ = fill(cache, 2, 50)

    assert cache.capacity == 8
    assert keys[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 50, 51]


def test_rows_are_stored_in_the_dtype_asked_for() -> None:
    cache = KVCache(1, dtype=torch.float32)
    first, _ = cache.extend(0, rows(2).bfloat16(), rows(2).bfloat16())
    cache.advance(2)
    second, _ = cache.extend(0, rows(1).bfloat16(), rows(1).bfloat16())

    assert first.dtype == torch.bfloat16
    assert second.dtype == torch.float32


def test_by_index_it_is_the_tuple_of_pairs_that_libraries_pass_around() -> None:
    pairs = tuple((torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)) for _ in range(3))
    cache = KVCache.from_layers(pairs)
    assert (len(cache), cache.get_seq_length()) == (3, 5)
    for place in (0, -1, slice(1, None)):
        torch.testing.assert_close(cache[place], pairs[place])
    with pytest.raises(IndexError):
        cache[3]


def test_reordering_moves_batch_rows() -> None:
    cache = KVCache(1)
    keys = torch.tensor([1.0, 2.0])[:, None, None, None]
    cache.extend(0, keys, keys)
    cache.advance(1)
    cache.reorder(torch.tensor([1, 1, 0]))

    assert cache.layer(0)[0].flatten().tolist() == [2, 2, 1]
