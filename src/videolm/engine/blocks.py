"""Numbers of blocks handed out, shared, found again by their content, and evicted: the accounts of the cache.

A block holds the keys and values of a few tokens in a row. A whole block whose tokens are computed is registered under
its key (a hash of its tokens and of all before them); so is what a finished answer leaves of its last block. Such a
block stays after its last user has released it, until its room is needed: the least recently used goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from videolm.engine.free_runs import FreeRuns

__all__ = ["BlockPool", "Prefix"]


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """What is cached of a prompt's beginning; the caller holds a reference on every block named here."""

    blocks: tuple[int, ...] = ()
    """Whole blocks, to be shared."""
    partial: int | None = None
    """A block that begins as the prompt goes on, to be copied."""
    num_partial: int = 0
    """Tokens of it that are the prompt's."""


class BlockPool:
    """Which block is whose."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = FreeRuns(range(num_blocks))
        self._claims: dict[str, set[int]] = {}
        """Free blocks behind those of an owner, left to it while others are free: what lies together is read fast."""
        self._num_users = [0] * num_blocks
        self._unused: OrderedDict[int, None] = OrderedDict()
        """Registered blocks without users, the next to be evicted first."""
        self._by_key: dict[bytes, int] = {}
        self._registered: dict[int, tuple[bytes | None, bytes, tuple[int, ...]]] = {}
        """Key (None: not whole), key of the block before it, and tokens."""
        self._after: dict[bytes, set[int]] = {}
        """By the key of a block, the registered blocks that follow it."""

    @property
    def num_available(self) -> int:
        """Blocks that could be handed out now."""
        return len(self._free) + sum(map(len, self._claims.values())) + len(self._unused)

    @property
    def num_used(self) -> int:
        """Blocks with users."""
        return self.num_blocks - self.num_available

    def allocate(self, owner: str, count: int, *, after: int | None = None, ahead: int = 0) -> list[int]:
        """Hand out ``count`` blocks, in one row where that is possible.

        Args:
            after: The owner's last block, to go on from.
            ahead: Blocks that the owner will ask for later.
        """
        assert count <= self.num_available, (count, self.num_available)
        own = self._claims.pop(owner, set())
        self._free.update(own)
        for _ in range(count - len(self._free)):
            self._take_from_others()
        taken: list[int] = []
        while after is not None and len(taken) < count and after + 1 in self._free:
            after += 1
            taken.append(after)
            self._free.remove([after])
        if len(taken) < count:
            taken += self._take_runs(owner, count - len(taken), ahead)
        else:
            self._claim(owner, {block for block in own if block in self._free})
        for block in taken:
            self._num_users[block] = 1
        return taken

    def share(self, block: int) -> None:
        """One more user."""
        if not self._num_users[block]:
            del self._unused[block]
        self._num_users[block] += 1

    def release(self, blocks: Iterable[int], owner: str | None = None) -> None:
        """One user less of each; of those left unused the first is evicted first. ``owner`` gives up its claims."""
        for block in blocks:
            self._num_users[block] -= 1
            assert self._num_users[block] >= 0, block
            if not self._num_users[block]:
                if block in self._registered:
                    self._unused[block] = None
                else:
                    self._free.add(block)
        if owner is not None:
            self._free.update(self._claims.pop(owner, set()))

    def register(self, block: int, key: bytes | None, parent: bytes, content: Sequence[int]) -> None:
        """Let ``block``, which is in use, be found by its content.

        Args:
            key: None where the block is not whole; it is registered again when it has more tokens.
            parent: Key of the block before it.
            content: Its tokens.
        """
        old = self._registered.get(block)
        if old is not None:
            if old[0] is not None or len(old[2]) >= len(content):
                return
            self._unregister(block)
        if key in self._by_key:
            return  # Computed twice at the same time: the first is found.
        followers = self._after.get(parent, ())
        if key is None and any(_num_common(self._registered[b][2], content) == len(content) for b in followers):
            return
        if key is not None:
            self._by_key[key] = block
        self._registered[block] = (key, parent, tuple(content))
        self._after.setdefault(parent, set()).add(block)

    def num_cached(self, keys: Sequence[bytes]) -> int:
        """How many whole blocks of this chain are registered, from its first on."""
        return next((index for index, key in enumerate(keys) if key not in self._by_key), len(keys))

    def find(self, root: bytes, keys: Sequence[bytes], content: Sequence[int]) -> Prefix:
        """The longest cached beginning of ``content``, the ``keys`` being of its whole blocks; they are shared."""
        count = self.num_cached(keys)
        blocks = tuple(self._by_key[key] for key in keys[:count])
        parent = keys[count - 1] if count else root
        rest = content[count * self.block_size : (count + 1) * self.block_size]
        candidates = [(_num_common(self._registered[b][2], rest), -b) for b in self._after.get(parent, ())]
        num_partial, negative = max(candidates, default=(0, 0))
        partial = -negative if num_partial else None
        for block in blocks if partial is None else (*blocks, partial):
            self.share(block)
        return Prefix(blocks=blocks, partial=partial, num_partial=num_partial)

    def _take_from_others(self) -> None:
        """One more free block: another owner's claim, or else the block that was used least recently."""
        for claimed in self._claims.values():
            if claimed:
                self._free.add(claimed.pop())
                return
        self._evict()

    def _evict(self) -> None:
        block, _ = self._unused.popitem(last=False)
        self._unregister(block)
        self._free.add(block)

    def _unregister(self, block: int) -> None:
        key, parent, _ = self._registered.pop(block)
        if key is not None:
            del self._by_key[key]
        self._after[parent].discard(block)
        if not self._after[parent]:
            del self._after[parent]

    def _take_runs(self, owner: str, count: int, ahead: int) -> list[int]:
        """From the shortest run of free blocks that is long enough, or else from the longest ones."""
        taken: list[int] = []
        while len(taken) < count:
            runs = self._free.runs()
            wanted = count - len(taken)
            best = min((run for run in runs if len(run) >= wanted + ahead), key=len, default=max(runs, key=len))
            taken += best[:wanted]
            self._free.remove(best[:wanted])
            if len(taken) == count:
                self._claim(owner, set(best[wanted : wanted + ahead]))
        return taken

    def _claim(self, owner: str, blocks: set[int]) -> None:
        if blocks:
            self._free.remove(sorted(blocks))
            self._claims[owner] = blocks


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
