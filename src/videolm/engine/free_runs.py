"""Whole numbers in, the same as runs without gaps out: kept as runs, so that many of them cost no more than few."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["FreeRuns"]


class FreeRuns:
    """A set of whole numbers that knows its runs."""

    def __init__(self, numbers: range) -> None:
        self._numbers = set(numbers)
        self._stops = {numbers.start: numbers.stop} if numbers else {}
        """By the start of each run, the number after its last."""
        self._starts = {stop: start for start, stop in self._stops.items()}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def runs(self) -> list[range]:
        """Ascending, with a gap between any two."""
        return [range(start, self._stops[start]) for start in sorted(self._stops)]

    def add(self, number: int) -> None:
        """Put a number in; it joins the runs beside it."""
        if number in self._numbers:
            return
        self._numbers.add(number)
        start, stop = number, number + 1
        if number in self._starts:
            start = self._starts.pop(number)
        if number + 1 in self._stops:
            stop = self._stops.pop(number + 1)
        self._stops[start], self._starts[stop] = stop, start

    def update(self, numbers: Iterable[int]) -> None:
        """Put several in."""
        for number in numbers:
            self.add(number)

    def remove(self, numbers: Iterable[int]) -> None:
        """Take numbers out, all of which are in."""
        for number in numbers:
            self._numbers.remove(number)
            # What is handed out are the first numbers of runs; others are found among all runs.
            start = number if number in self._stops else self._start_of(number)
            stop = self._stops.pop(start)
            del self._starts[stop]
            if start < number:
                self._stops[start], self._starts[number] = number, start
            if number + 1 < stop:
                self._stops[number + 1], self._starts[stop] = stop, number + 1

    def _start_of(self, number: int) -> int:
        return next(start for start, stop in self._stops.items() if start <= number < stop)
