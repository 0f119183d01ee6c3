"""The accounts of blocks: rows without gaps, content found again, the least recently used evicted first."""

from __future__ import annotations

from videolm.engine.blocks import BlockPool, Prefix
from videolm.engine.keys import block_key, root_key

ROOT = root_key(1.0)


def chain(content: list[int], size: int) -> list[bytes]:
    keys, parent = [], ROOT
    for start in range(0, len(content) - size + 1, size):
        parent = block_key(parent, content[start : start + size])
        keys.append(parent)
    return keys


def store(pool: BlockPool, content: list[int]) -> list[int]:
    """Compute all of a content and release it: its blocks, of which the last may not be whole."""
    size, keys = pool.block_size, chain(content, pool.block_size)
    blocks = pool.allocate("owner", -(-len(content) // size))
    for index, block in enumerate(blocks):
        key = keys[index] if index < len(keys) else None
        pool.register(block, key, keys[index - 1] if index else ROOT, content[index * size : (index + 1) * size])
    pool.release(reversed(blocks), "owner")
    return blocks


def find(pool: BlockPool, content: list[int]) -> Prefix:
    return pool.find(ROOT, chain(content, pool.block_size), content)


def test_blocks_of_one_owner_lie_in_a_row_whoever_asks_in_between() -> None:
    pool = BlockPool(16, 4)
    one, two = pool.allocate("one", 2, ahead=3), pool.allocate("two", 3, ahead=2)
    assert (one, two) == ([0, 1], [5, 6, 7])
    assert pool.allocate("one", 1, after=1) == [2]
    assert pool.allocate("three", 2) == [10, 11]
    assert pool.allocate("one", 2, after=2) == [3, 4]


def test_claims_are_given_up_where_nothing_else_is_free() -> None:
    pool = BlockPool(6, 4)
    assert pool.allocate("one", 2, ahead=4) == [0, 1]
    assert len(pool.allocate("two", 4)) == 4
    assert pool.num_available == 0
    pool.release([0, 1], "one")
    assert pool.allocate("two", 2) == [0, 1]


def test_the_shortest_run_that_suffices_is_taken() -> None:
    pool = BlockPool(8, 4)
    pool.allocate("all", 8)
    pool.release([0, 1, 2, 5, 6])
    assert pool.allocate("a", 2) == [5, 6]
    assert pool.allocate("b", 3) == [0, 1, 2]


def test_content_is_found_up_to_where_it_differs() -> None:
    pool = BlockPool(8, 2)
    blocks = store(pool, [1, 2, 3, 4, 5])
    assert find(pool, [1, 2, 3, 4, 5, 6]) == Prefix(blocks=tuple(blocks[:2]), partial=blocks[2], num_partial=1)
    assert find(pool, [1, 2, 3, 9]) == Prefix(blocks=(blocks[0],), partial=blocks[1], num_partial=1)
    assert find(pool, [1, 2]) == Prefix(blocks=(blocks[0],))
    assert find(pool, [2, 2]) == Prefix()
    assert pool.num_used == 3  # whoever finds holds
    pool.release([blocks[0], blocks[1], blocks[2], blocks[0], blocks[1], blocks[0]])
    assert pool.num_used == 0


def test_the_same_content_is_kept_once() -> None:
    pool = BlockPool(8, 2)
    first = store(pool, [1, 2, 3])
    store(pool, [1, 2, 3])
    assert find(pool, [1, 2, 3]) == Prefix(blocks=(first[0],), partial=first[1], num_partial=1)
    pool.release(first)
    assert len(pool.allocate("new", 6)) == 6  # nothing had to be evicted for it
    assert find(pool, [1, 2, 3]).blocks == (first[0],)


def test_a_block_that_is_being_filled_is_found_by_what_it_has() -> None:
    pool = BlockPool(4, 4)
    (block,) = pool.allocate("owner", 1)
    pool.register(block, None, ROOT, [1, 2])
    assert find(pool, [1, 2, 9]) == Prefix(partial=block, num_partial=2)
    pool.register(block, None, ROOT, [1, 2, 3])
    pool.register(block, None, ROOT, [1, 2])
    assert find(pool, [1, 2, 3, 9]) == Prefix(partial=block, num_partial=3)
    pool.register(block, chain([1, 2, 3, 4], 4)[0], ROOT, [1, 2, 3, 4])
    assert find(pool, [1, 2, 3, 4]) == Prefix(blocks=(block,))
    pool.release([block] * 4, "owner")
    assert (pool.num_available, len(pool.allocate("other", 4))) == (4, 4)
    assert find(pool, [1, 2, 3, 4]) == Prefix()


def test_the_least_recently_used_is_evicted_first_and_ends_before_beginnings() -> None:
    pool = BlockPool(4, 2)
    old, new = store(pool, [1, 2, 3, 4]), store(pool, [5, 6, 7, 8])
    pool.allocate("new", 1)
    assert find(pool, [1, 2, 3, 4]) == Prefix(blocks=(old[0],))
    pool.release([old[0]])
    pool.allocate("new", 2)
    assert find(pool, [1, 2, 3, 4]) == Prefix(blocks=(old[0],))  # used again in between
    assert find(pool, [5, 6, 7, 8]) == Prefix()
    assert set(new) & set(old) == set()


def test_what_is_in_use_is_never_evicted() -> None:
    pool = BlockPool(4, 2)
    store(pool, [1, 2, 3, 4])
    held = find(pool, [1, 2, 3, 4])
    assert pool.num_available == 2
    pool.allocate("new", 2)
    assert find(pool, [1, 2, 3, 4]) == held
