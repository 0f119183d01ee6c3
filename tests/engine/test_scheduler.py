"""The scheduler against a simulated cache: whatever arrives, leaves and is evicted, each token sees what it must."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.engine.blocks import BlockPool
from videolm.engine.keys import root_key
from videolm.engine.scheduler import Scheduler
from videolm.engine.work import Job, Step, Work

ROOT = root_key(1.0)


@dataclass
class Simulation:
    """Blocks that remember what was computed into them; a job draws the length of its content modulo 3."""

    scheduler: Scheduler
    rows: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """By block and place, the content up to and with the token whose keys and values stand there."""
    goals: dict[str, int] = field(default_factory=dict)
    """How long the content of each job is when it is finished."""
    done: list[str] = field(default_factory=list)
    num_computed: int = 0

    def add(self, name: str, content: list[int], num_new: int, num_allowed: int) -> Job:
        job = Job(id=name, root=ROOT, content=list(content), max_tokens=len(content) + num_allowed - 1)
        self.goals[name] = len(content) + num_new
        self.scheduler.add(job)
        return job

    def step(self) -> Step:
        step = self.scheduler.schedule()
        for copy in step.copies:
            for place in range(copy.num_tokens):
                self.rows[copy.target, place] = self.rows[copy.source, place]
        for work in step.works:
            self.compute(work)
        for work in step.works:
            self.finish(work)
        self.scheduler.close(step)
        return step

    def compute(self, work: Work) -> None:
        job, size = work.job, self.scheduler.pool.block_size
        content = [*job.content, *work.draft]
        assert work.start == job.num_computed
        for position in range(work.start + work.num_tokens):
            place = job.blocks[position // size], position % size
            if position >= work.start:
                self.rows[place] = tuple(content[: position + 1])
                self.num_computed += 1
            assert self.rows[place] == tuple(content[: position + 1]), (job.id, position)

    def finish(self, work: Work) -> None:
        job, drawn = work.job, list[int]()
        while work.draws and len(job.content) + len(drawn) < self.goals[job.id]:
            drawn.append((len(job.content) + len(drawn)) % 3)
            if len(drawn) > len(work.draft) or drawn[-1] != work.draft[len(drawn) - 1]:
                break
        self.scheduler.advance(work, drawn)
        if len(job.content) == self.goals[job.id]:
            self.scheduler.remove(job)
            self.done.append(job.id)


def simulation(
    num_blocks: int = 8, block_size: int = 2, *, budget: int = 8, most: int = 4, **options: object
) -> Simulation:
    pool = BlockPool(num_blocks, block_size)
    scheduler = Scheduler(pool, max_batch_tokens=budget, max_running=min(most, budget), **options)  # type: ignore[arg-type]
    return Simulation(scheduler)


def shape(step: Step) -> list[tuple[str, int, int]]:
    return [(work.job.id, work.start, work.count) for work in step.works]


# --- one idea a test ---


def test_a_long_prompt_is_read_in_pieces_beside_those_that_decode() -> None:
    run = simulation(32, budget=4)
    run.add("short", [1, 2], num_new=9, num_allowed=9)
    run.add("long", [7] * 9, num_new=1, num_allowed=1)
    assert [shape(run.step()) for _ in range(4)] == [
        [("short", 0, 2), ("long", 0, 2)],
        [("short", 2, 1), ("long", 2, 3)],
        [("short", 3, 1), ("long", 5, 3)],
        [("short", 4, 1), ("long", 8, 1)],
    ]
    assert run.done == ["long"]


def test_waiting_ones_are_admitted_by_arrival_and_none_overtakes() -> None:
    run = simulation(6, budget=64)
    run.add("a", [1] * 6, num_new=2, num_allowed=2)
    run.add("large", [2] * 10, num_new=1, num_allowed=1)
    run.add("small", [3], num_new=1, num_allowed=1)
    assert [[work.job.id for work in run.step().works] for _ in range(3)] == [["a"], ["a"], ["large"]]


def test_the_youngest_gives_up_its_blocks_and_is_computed_again() -> None:
    run = simulation(4, budget=64, reuses_prefixes=False)
    run.add("old", [1, 2], num_new=6, num_allowed=6)
    young = run.add("young", [3, 4], num_new=4, num_allowed=4)
    shapes = [shape(run.step()) for _ in range(4)]
    assert shapes[0] == [("old", 0, 2), ("young", 0, 2)]
    assert shapes[3] == [("old", 4, 1)]
    assert run.scheduler.waiting == [young]
    while run.scheduler.has_jobs:
        run.step()
    assert run.done == ["old", "young"]


def test_a_second_question_starts_where_it_differs() -> None:
    run = simulation(16, 4, budget=64)
    run.add("first", [5, 5, 5, 5, 5, 5, 1], num_new=1, num_allowed=1)
    run.step()
    second = run.add("second", [5, 5, 5, 5, 5, 5, 2, 2], num_new=1, num_allowed=1)
    assert shape(run.step()) == [("second", 6, 2)]
    assert second.num_cached == 6
    same = run.add("same", [5, 5, 5, 5, 5, 5, 2, 2], num_new=1, num_allowed=1)
    assert shape(run.step()) == [("same", 7, 1)]
    assert same.num_cached == 7


def test_those_who_begin_alike_wait_for_the_first_and_let_others_pass() -> None:
    run = simulation(32, 2, budget=6)
    run.add("first", [5] * 8 + [1], num_new=3, num_allowed=3)
    run.add("second", [5] * 8 + [2], num_new=1, num_allowed=1)
    run.add("other", [9], num_new=1, num_allowed=1)
    assert [shape(run.step()) for _ in range(3)] == [
        [("first", 0, 6)],
        [("first", 6, 3), ("other", 0, 1)],
        [("first", 9, 1), ("second", 8, 1)],
    ]


def test_a_partial_block_is_not_copied_where_that_would_take_the_last_room() -> None:
    run = simulation(2, 4, budget=64)
    run.add("first", [1, 2, 3, 4, 5, 6], num_new=1, num_allowed=1)
    run.step()
    run.add("second", [1, 2, 3, 4, 5, 7, 8], num_new=1, num_allowed=2)
    assert shape(run.step()) == [("second", 4, 3)]


def test_without_reuse_nothing_is_found() -> None:
    run = simulation(16, budget=64, reuses_prefixes=False)
    for name in ("first", "second"):
        run.add(name, [5] * 6, num_new=1, num_allowed=1)
    assert shape(run.step()) == [("first", 0, 6), ("second", 0, 6)]
    assert run.scheduler.pool.num_available == 16


def test_guesses_that_are_right_advance_by_more_than_one() -> None:
    run = simulation(16, budget=5, draft=lambda job: [(len(job.content) + i) % 3 for i in range(3)])
    run.add("a", [1, 1], num_new=6, num_allowed=6)
    assert [len(run.step().works[0].draft) for _ in range(3)] == [0, 3, 0]
    assert run.done == ["a"]


def test_short_memory_halves_the_step_and_sends_the_younger_ones_back() -> None:
    run = simulation(32, budget=8)
    run.add("a", [1] * 4, num_new=1, num_allowed=1)
    run.add("b", [2] * 4, num_new=1, num_allowed=1)
    step = run.scheduler.schedule()
    assert run.scheduler.shrink(step)
    run.scheduler.close(step)
    assert [job.id for job in run.scheduler.waiting] == ["b"]
    assert shape(run.step()) == [("a", 0, 4)]
    assert shape(run.step()) == [("b", 0, 4)]
    run.add("c", [3], num_new=1, num_allowed=1)
    step = run.scheduler.schedule()
    assert not run.scheduler.shrink(step)


# --- everything at once ---


@dataclass(frozen=True)
class Arrival:
    at: int
    content: list[int]
    num_new: int
    num_allowed: int
    leaves_at: int


def arrivals() -> st.SearchStrategy[list[Arrival]]:
    # Few different tokens, so that beginnings are shared and drafts are sometimes right.
    one = st.builds(
        Arrival,
        at=st.integers(0, 12),
        content=st.lists(st.integers(0, 1), min_size=1, max_size=14),
        num_new=st.integers(1, 7),
        num_allowed=st.integers(7, 9),
        leaves_at=st.one_of(st.just(10_000), st.integers(0, 30)),
    )
    return st.lists(one, min_size=1, max_size=10)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=arrivals(),
    num_blocks=st.integers(6, 24),
    block_size=st.sampled_from([1, 2, 4]),
    budget=st.integers(1, 20),
    most=st.integers(1, 6),
    reuses=st.booleans(),
    guesses=st.booleans(),
    short_at=st.sets(st.integers(0, 30), max_size=4),
)
def test_everything_is_answered_within_the_budget_and_nothing_leaks(
    arrivals: list[Arrival],
    num_blocks: int,
    block_size: int,
    budget: int,
    most: int,
    reuses: bool,
    guesses: bool,
    short_at: set[int],
) -> None:
    draft = (lambda job: [(len(job.content) + i) % 2 for i in range(3)]) if guesses else None
    run = simulation(num_blocks, block_size, budget=budget, most=most, reuses_prefixes=reuses, draft=draft)
    scheduler, pool = run.scheduler, run.scheduler.pool
    arrivals = [each for each in arrivals if len(each.content) + each.num_allowed - 1 <= scheduler.capacity]
    jobs: dict[int, Job] = {}
    gone: set[str] = set()
    for clock in range(2_000):
        for index, each in enumerate(arrivals):
            if each.at == clock:
                jobs[index] = run.add(str(index), each.content, each.num_new, each.num_allowed)
            if each.leaves_at == clock and index in jobs and str(index) not in {*run.done, *gone}:
                scheduler.remove(jobs[index])
                gone.add(str(index))
        if clock > 12 and not scheduler.has_jobs:
            break
        if clock in short_at:
            failed = scheduler.schedule()
            if not scheduler.shrink(failed):
                gone |= {work.job.id for work in failed.works}
                for work in failed.works:
                    scheduler.remove(work.job, failed=True)
            scheduler.close(failed)
        step = run.step()
        assert step.works or not scheduler.has_jobs
        assert sum(work.num_tokens for work in step.works) <= budget
        assert len(scheduler.running) <= most
        held = [block for job in scheduler.running for block in job.blocks]
        assert pool.num_used == len(set(held))
        assert all(pool._num_users[block] == held.count(block) for block in range(num_blocks))
        for job in scheduler.running:
            assert len(job.blocks) * block_size >= job.num_computed
    assert set(run.done) | gone == {str(index) for index in jobs}
    assert not set(run.done) & gone
    assert pool.num_used == 0
    assert pool.num_available == num_blocks


def test_the_oldest_goes_on_in_every_step_under_a_stream_of_arrivals() -> None:
    run = simulation(8, 2, budget=6, most=3)
    arrived = 0
    for _ in range(300):
        if arrived < 40:
            run.add(str(arrived), [arrived % 5, *[arrived % 2] * (arrived % 7)], num_new=1 + arrived % 5, num_allowed=6)
            arrived += 1
        before = {job.id: job.num_left for job in [*run.scheduler.running, *run.scheduler.waiting]}
        step = run.step()
        oldest = min(before, key=int, default=None)
        if oldest is not None:
            assert oldest in [work.job.id for work in step.works]
    assert sorted(run.done, key=int) == [str(index) for index in range(40)]


@pytest.mark.parametrize("num_tokens", [1, 5])
def test_a_job_may_fill_the_whole_cache(num_tokens: int) -> None:
    run = simulation(num_tokens, 1, budget=64)
    run.add("a", [1] * num_tokens, num_new=1, num_allowed=1)
    run.step()
    run.add("b", [1] * num_tokens, num_new=1, num_allowed=1)
    run.step()
    assert run.done == ["a", "b"]
