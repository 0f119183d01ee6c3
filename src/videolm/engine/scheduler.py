"""Who computes how many tokens in the next step: admission, chunked prefill beside decoding, preemption. No tensors.

Requests are served by arrival. A step goes through the running ones from the oldest to the youngest: each that decodes
gets its token, each whose prompt is not read yet a piece of what the budget leaves; then waiting ones are admitted,
each with blocks for its whole prompt. Where a running one finds no block, the youngest gives up its own and waits to be
computed again. So the oldest always goes on, and everything is answered.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence

from videolm.engine.blocks import BlockPool, Prefix
from videolm.engine.keys import block_key
from videolm.engine.work import Copy, Job, Step, Work

__all__ = ["Scheduler"]


class Scheduler:
    """The waiting and the running, and the blocks between them."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_batch_tokens: int,
        max_running: int,
        reuses_prefixes: bool = True,
        draft: Callable[[Job], Sequence[int]] | None = None,
    ) -> None:
        """``draft`` guesses the tokens that follow a job's content."""
        assert max_running <= max_batch_tokens
        self.pool = pool
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.limit = max_batch_tokens
        """Tokens a step; lowered while memory is short."""
        self._max_batch_tokens = max_batch_tokens
        self._max_running = max_running
        self._reuses_prefixes = reuses_prefixes
        self._draft = draft
        self._num_arrived = 0
        self.num_preemptions = 0

    @property
    def capacity(self) -> int:
        """The most tokens that one job can ever have stored."""
        return self.pool.num_blocks * self.pool.block_size

    @property
    def has_jobs(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.waiting or self.running)

    def add(self, job: Job) -> None:
        """Queue a job; it must fit into the whole cache."""
        assert len(job.content) <= job.max_tokens <= self.capacity
        if not self.has_jobs:
            self.limit = self._max_batch_tokens
        job.arrival = self._num_arrived
        self._num_arrived += 1
        self._extend_keys(job)
        self.waiting.append(job)

    def schedule(self) -> Step:
        """Divide the next step. Every step is followed by ``close`` of it."""
        self.limit = min(self.limit + 1, self._max_batch_tokens)
        works: list[Work] = []
        copies: list[Copy] = []
        num_waiting = len(self.waiting)
        budget = self._continue_running(works, self.limit)
        if len(self.waiting) == num_waiting:  # Nobody had to give up blocks just now.
            self._admit_waiting(works, copies, budget)
        return Step(works=tuple(works), copies=tuple(copies))

    def advance(self, work: Work, drawn: Sequence[int] = ()) -> None:
        """Count a work as done.

        Args:
            drawn: The tokens that it led to: those of the draft that were right, and one more.
        """
        job = work.job
        job.num_computed += work.count + max(len(drawn) - 1, 0)
        job.content.extend(drawn)
        self._extend_keys(job)
        if self._reuses_prefixes:
            self._register(job, work)

    def close(self, step: Step) -> None:
        """Let go of what a step needed beyond its jobs."""
        self.pool.release(copy.source for copy in step.copies)

    def remove(self, job: Job, *, failed: bool = False) -> None:
        """Free everything of a job that is finished or given up; what it computed may be found again.

        Args:
            failed: The step that it was part of broke off: what should stand in its last block may not be there.
        """
        if job in self.waiting:
            self.waiting.remove(job)
            return
        self.running.remove(job)
        if self._reuses_prefixes and not failed:
            self._register_rest(job)
        self._release(job)

    def shrink(self, step: Step) -> bool:
        """After a step that memory was too short for: compute less at a time; whether that is possible.

        The younger half of the step's jobs gives up its blocks, and the next step has half the tokens; later ones grow
        again, a token a step.
        """
        num_tokens = step.num_tokens
        if num_tokens <= 1:
            return False
        self.limit = num_tokens // 2 - 1  # It grows by one before it is used.
        targets = {copy.target for copy in step.copies}
        for index, work in enumerate(step.works):
            # A copy may not have been made.
            if index >= (len(step.works) + 1) // 2 or targets & set(work.job.blocks):
                self._preempt(work.job)
        return True

    def restart(self, step: Step) -> None:
        """After a step that was broken off, nobody knows where: compute its jobs again."""
        for work in step.works:
            self._preempt(work.job)

    def _continue_running(self, works: list[Work], budget: int) -> int:
        num_decoding = sum(job.num_left == 1 for job in self.running)
        for job in list(self.running):
            if job not in self.running:
                continue  # It gave up its blocks for an older one.
            decodes = job.num_left == 1
            num_decoding -= decodes
            count = min(job.num_left, budget if decodes else budget - num_decoding)
            if count <= 0:
                continue
            draft = self._guess(job, budget - num_decoding - 1) if decodes else ()
            if not self._make_room(job, job.num_computed + count + len(draft)):
                continue
            works.append(Work.of(job, count, draft))
            budget -= works[-1].num_tokens
        return budget

    def _admit_waiting(self, works: list[Work], copies: list[Copy], budget: int) -> None:
        for job in list(self.waiting):
            if budget <= 0 or len(self.running) >= self._max_running:
                return
            if self._is_being_computed(job):
                continue  # A running job computes what this one begins with: a few steps later it is there.
            if not self._admit(job, copies):
                return
            works.append(Work.of(job, min(job.num_left, budget)))
            budget -= works[-1].num_tokens

    def _is_being_computed(self, job: Job) -> bool:
        if not self._reuses_prefixes:
            return False
        num_cached = self.pool.num_cached(job.keys)
        if num_cached == len(job.keys):
            return False
        wanted, place = job.keys[num_cached], num_cached
        return any(
            other.num_computed // self.pool.block_size <= place < len(other.keys) and other.keys[place] == wanted
            for other in self.running
        )

    def _admit(self, job: Job, copies: list[Copy]) -> bool:
        """Give a waiting job blocks for all its content; whether there are enough."""
        pool, size = self.pool, self.pool.block_size
        last = len(job.content) - 1  # It is computed in any case: its logits are wanted.
        found = pool.find(job.root, job.keys[: last // size], job.content[:last]) if self._reuses_prefixes else Prefix()
        wanted = -(-len(job.content) // size) - len(found.blocks)
        # One block for each running job keeps this one from being thrown out again at once.
        enough = wanted + len(self.running)
        if pool.num_available < enough and found.partial is not None:
            pool.release([found.partial])
            found = Prefix(blocks=found.blocks)
        if pool.num_available < enough:
            pool.release(reversed(found.blocks))
            return False
        shared = list(found.blocks)
        ahead = -(-job.max_tokens // size) - wanted - len(shared)
        after = shared[-1] if shared else None
        job.blocks = shared + pool.allocate(job.id, wanted, after=after, ahead=ahead)
        job.num_computed = len(shared) * size
        if found.partial is not None:
            copies.append(Copy(source=found.partial, target=job.blocks[len(shared)], num_tokens=found.num_partial))
            job.num_computed += found.num_partial
        if not job.was_admitted:
            job.num_cached, job.was_admitted = job.num_computed, True
        self.waiting.remove(job)
        insort(self.running, job, key=lambda each: each.arrival)
        return True

    def _make_room(self, job: Job, num_tokens: int) -> bool:
        """Blocks for so many tokens, taken from younger jobs if need be; False where it had to give up its own."""
        wanted = -(-num_tokens // self.pool.block_size) - len(job.blocks)
        if wanted <= 0:
            return True
        while self.pool.num_available < wanted:
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is job:
                return False
        after = job.blocks[-1] if job.blocks else None
        job.blocks += self.pool.allocate(job.id, wanted, after=after)
        return True

    def _guess(self, job: Job, most: int) -> tuple[int, ...]:
        """The draft, as far as it fits into the step, the request and the blocks that are free."""
        if self._draft is None:
            return ()
        size = self.pool.block_size
        room = (len(job.blocks) + self.pool.num_available) * size - len(job.content)
        most = min(most, job.max_tokens - len(job.content), room)
        return tuple(self._draft(job))[: max(most, 0)]

    def _register(self, job: Job, work: Work) -> None:
        """Let the blocks that a work filled be found, and where it read a prompt to its end, what it left half full."""
        size = self.pool.block_size
        for index in range(work.start // size, job.num_computed // size):
            parent = job.keys[index - 1] if index else job.root
            content = job.content[index * size : (index + 1) * size]
            self.pool.register(job.blocks[index], job.keys[index], parent, content)
        if work.draws and work.count > 1:
            self._register_rest(job)

    def _register_rest(self, job: Job) -> None:
        size = self.pool.block_size
        whole, rest = divmod(job.num_computed, size)
        if rest:
            parent = job.keys[whole - 1] if whole else job.root
            content = job.content[whole * size : job.num_computed]
            self.pool.register(job.blocks[whole], None, parent, content)

    def _preempt(self, job: Job) -> None:
        self.running.remove(job)
        self._release(job)
        self.num_preemptions += 1
        job.num_computed = 0
        insort(self.waiting, job, key=lambda each: each.arrival)

    def _release(self, job: Job) -> None:
        self.pool.release(reversed(job.blocks), job.id)
        job.blocks = []

    def _extend_keys(self, job: Job) -> None:
        size = self.pool.block_size
        for index in range(len(job.keys), len(job.content) // size):
            parent = job.keys[-1] if job.keys else job.root
            job.keys.append(block_key(parent, job.content[index * size : (index + 1) * size]))
