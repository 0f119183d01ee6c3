"""What is being done in, a bar on standard error out: only on a terminal, and only after two seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Update", "progress_bar"]

DELAY_S = 2.0

Update = Callable[[int, int | None], None]
"""Takes how many are done and how many there are, or None where that is unknown."""


@contextmanager
def progress_bar(description: str, *, unit: str) -> Iterator[Update]:
    """Give a function to be told of progress; the bar vanishes at the end."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    from tqdm import tqdm

    with tqdm(desc=description, unit=unit, unit_scale=True, delay=DELAY_S, leave=False, file=sys.stderr) as bar:

        def update(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _ignore(done: int, total: int | None) -> None:
    """Take the place of a bar where nobody would see it."""
