"""The task on the world of moving shapes: its frozen test set, asked question by question, graded by facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from videolm.evaluation.task import ItemScore, TaskItem
from videolm.evaluation.tasks.grading import grade
from videolm.world.test_set import VERSION, WorldItem, load_items

__all__ = ["GRADER_VERSION", "MovingShapes"]

GRADER_VERSION = 1
"""Goes up whenever the same answers may get other scores."""


class MovingShapes:
    """Questions about clips and pictures of coloured shapes; a ``Task``."""

    name = "moving-shapes"
    max_new_tokens = 128

    def __init__(self, items: Iterable[WorldItem] | None = None) -> None:
        """All items of the test set, or other ones of the same form."""
        self._items = {item.id: item for item in (load_items() if items is None else items)}

    @property
    def version(self) -> str:
        return f"{VERSION}.{GRADER_VERSION}"

    def items(self) -> Iterator[TaskItem]:
        for item in in_turn(self._items.values()):
            question = item.question
            yield TaskItem(
                id=item.id,
                category=question.task,
                question=question.text,
                expected=question.expected,
                open_media=item.media,
                tags={
                    "medium": "clip" if item.scene.is_clip else "picture",
                    "phrasing": "never trained" if question.has_held_out_phrasing else "trained",
                },
            )

    def score(self, item: TaskItem, answer: str) -> ItemScore:
        case = self._items[item.id]
        return grade(case.scene, case.question, answer)


def in_turn(items: Iterable[WorldItem]) -> Iterator[WorldItem]:
    """One item of each category after the other, so that the first few are a fair sample."""
    waiting: dict[str, list[WorldItem]] = {}
    for item in items:
        waiting.setdefault(item.question.task, []).append(item)
    for position in range(max(map(len, waiting.values()), default=0)):
        yield from (group[position] for group in waiting.values() if position < len(group))
