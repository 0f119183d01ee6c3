"""The tasks by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from videolm.errors import ArgumentError
from videolm.evaluation.task import Task

__all__ = ["TASKS", "task_named"]


def _moving_shapes() -> Task:
    from videolm.evaluation.tasks.moving_shapes import MovingShapes

    return MovingShapes()


TASKS: dict[str, Callable[[], Task]] = {"moving-shapes": _moving_shapes}


def task_named(name: str) -> Task:
    """The task of this name, ready to run."""
    if name not in TASKS:
        nearest = difflib.get_close_matches(name.lower().replace("_", "-"), TASKS, n=1, cutoff=0.0)[0]
        raise ArgumentError(f"There is no task {name!r}: expected one of {', '.join(TASKS)}. Try --task {nearest}.")
    return TASKS[name]()
