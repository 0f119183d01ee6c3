"""What a task is: items with a medium and a question, and a grader that turns an answer into facts found and stated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["ItemScore", "Task", "TaskItem"]


@dataclass(frozen=True, kw_only=True)
class TaskItem:
    """One question about one medium."""

    id: str
    """The same in every run of this version of the task."""
    category: str
    question: str
    expected: str
    """The fact, for people; the task knows what else its grader needs."""
    open_media: Callable[[], Any]
    """Makes the media that ``Answerer.ask`` takes; called only when the item is asked."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further ways to group items, such as ``{"phrasing": "held out"}``."""


@dataclass(frozen=True, kw_only=True)
class ItemScore:
    """One answer, graded fact by fact."""

    found: tuple[str, ...] = ()
    """Expected facts that the answer states."""
    missing: tuple[str, ...] = ()
    """Expected facts that it does not state."""
    extra: tuple[str, ...] = ()
    """True facts that nobody asked for."""
    false: tuple[str, ...] = ()
    """Facts that it states and that are not so, or that an answer to this question must not hold."""

    @property
    def is_right(self) -> bool:
        return not self.missing and not self.false

    @property
    def num_expected(self) -> int:
        return len(self.found) + len(self.missing)

    @property
    def num_true(self) -> int:
        return len(self.found) + len(self.extra)

    @property
    def num_stated(self) -> int:
        return self.num_true + len(self.false)


class Task(Protocol):
    """A frozen set of questions with its grader."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes with the items or with the grading: answers to different versions are not compared."""
        ...

    @property
    def max_new_tokens(self) -> int: ...

    def items(self) -> Iterator[TaskItem]:
        """All items, always in the same order; any first part of them is a fair sample."""
        ...

    def score(self, item: TaskItem, answer: str) -> ItemScore: ...
