"""Free blocks as runs: after any additions and removals the runs of the very same set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from videolm.engine.free_runs import FreeRuns


def runs_of(numbers: set[int]) -> list[range]:
    runs: list[range] = []
    for number in sorted(numbers):
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


@given(st.integers(0, 12), st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60))
def test_runs_are_those_of_the_set(count: int, steps: list[tuple[bool, int]]) -> None:
    free, expected = FreeRuns(range(count)), set(range(count))
    for is_added, number in steps:
        if is_added:
            free.add(number)
            expected.add(number)
        elif number in expected:
            free.remove([number])
            expected.remove(number)
        assert free.runs() == runs_of(expected)
        assert set(free) == expected
        assert len(free) == len(expected)
        assert [number in free for number in range(12)] == [number in expected for number in range(12)]


def test_several_at_once() -> None:
    free = FreeRuns(range(10))
    free.remove(range(3, 6))
    assert free.runs() == [range(3), range(6, 10)]
    free.update({4, 3, 5})
    assert free.runs() == [range(10)]
