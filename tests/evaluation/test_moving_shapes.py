"""The task as a whole: the frozen items in turn, a truth-teller and constant answerers through the runner."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from videolm.contracts import Answer, Usage
from videolm.evaluation.runner import run, run_task
from videolm.evaluation.scoring import Share
from videolm.evaluation.task import TaskItem
from videolm.evaluation.tasks.moving_shapes import MovingShapes
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.session import load
from videolm.world.questions import SCORED_TASKS
from videolm.world.test_set import NUM_ITEMS_PER_TASK, load_items

NUM_ITEMS = NUM_ITEMS_PER_TASK * len(SCORED_TASKS)


class WithoutMedia(MovingShapes):
    """The task with its media left out, so that no clip is encoded for an answerer that does not look."""

    def items(self) -> Iterator[TaskItem]:
        for item in super().items():
            yield TaskItem(
                id=item.id,
                category=item.category,
                question=item.question,
                expected=item.expected,
                open_media=lambda item=item: item.id,
                tags=item.tags,
            )


class Stub:
    """Answers by a function of what it is given as the medium and the question."""

    name = "stub"
    stream = chat = None

    def __init__(self, answer: Callable[[Any, str], str]) -> None:
        self.answer = answer

    def ask(self, media: Any, question: str, **options: Any) -> Answer:
        usage = Usage(prompt_tokens=1, visual_tokens=0, completion_tokens=1)
        return Answer(text=self.answer(media, question), finish_reason="stop", model=self.name, usage=usage)


def test_items_come_category_in_turn_and_always_the_same() -> None:
    items = list(MovingShapes().items())
    assert [item.category for item in items[:22]] == [*SCORED_TASKS, *SCORED_TASKS]
    assert Counter(item.category for item in items) == dict.fromkeys(SCORED_TASKS, NUM_ITEMS_PER_TASK)
    assert len({item.id for item in items}) == NUM_ITEMS
    assert [(item.id, item.question, item.expected) for item in MovingShapes().items()] == [
        (item.id, item.question, item.expected) for item in items
    ]


def test_items_hold_readable_media_and_tags() -> None:
    for item in islice(MovingShapes().items(), 22):
        frames = load_media(item.open_media(), sampling=FrameSampling(num_frames=4))
        kind = {"image": "picture", "video": "clip"}[frames.kind]
        assert item.tags == {"medium": kind, "phrasing": item.tags["phrasing"]}
        assert len(frames.pixels) == (4 if kind == "clip" else 1)


def test_a_truth_teller_scores_everything() -> None:
    truth = {item.id: item.question.answer for item in load_items()}
    report = run_task(WithoutMedia(), Stub(lambda media, question: truth[media]))
    everything = Share(hits=NUM_ITEMS_PER_TASK, total=NUM_ITEMS_PER_TASK)
    assert {name: summary.accuracy for name, summary in report.by_category().items()} == dict.fromkeys(
        SCORED_TASKS, everything
    )
    assert (report.overall.precision.value, report.overall.recall.value) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "best"),
    [
        ("", {}),
        ("Yes.", {"presence": 0.6, "text": 0.05}),  # YES is a printed word
        ("Red.", {"colour": 0.3}),
        ("I don't know.", {"unknown": 1.0}),
        ("A red circle moves left.", {"colour": 0.3, "shape": 0.3, "motion": 0.3, "relation": 0.4}),
    ],
)
def test_constant_answerers_score_low(answer: str, best: dict[str, float]) -> None:
    report = run_task(WithoutMedia(), Stub(lambda media, question: answer))
    for category, summary in report.by_category().items():
        assert (summary.accuracy.value or 0.0) <= best.get(category, 0.0), category


def test_answers_of_other_items_score_low() -> None:
    """Fluent answers of the right form that do not look: those of the next item of the same category."""
    items = {item.id: item for item in load_items()}
    other = {f"{i.question.task}-{(index + 1) % NUM_ITEMS_PER_TASK:03d}": i.question.answer
             for index, i in ((int(i.id[-3:]), i) for i in items.values())}  # fmt: skip
    report = run_task(WithoutMedia(), Stub(lambda media, question: other[media]))
    accuracy = {name: summary.accuracy.value or 0.0 for name, summary in report.by_category().items()}
    assert accuracy.pop("unknown") == 1.0
    assert accuracy.pop("presence") < 0.65
    assert max(accuracy.values()) < 0.45
    assert (report.by_category()["description"].precision.value or 0) < 0.3


def test_run_finds_the_task_by_name() -> None:
    report = run("moving-shapes", Stub(lambda media, question: "Red."), limit=1)
    assert report.manifest["task"] == "moving-shapes"
    assert [scored.item.id for scored in report.scored] == ["colour-000"]


def test_a_session_is_evaluated_and_resumed(tiny_model_folder: Path, tmp_path: Path) -> None:
    session = load(tiny_model_folder)
    first = run("moving-shapes", session, limit=2, out=tmp_path, frames=4, max_new_tokens=2)
    assert first.manifest["dtype"] == "float32"
    assert first.manifest["frames of a video"] == "4"
    assert [scored.item.id for scored in first.scored] == ["colour-000", "shape-000"]

    resumed = run("moving-shapes", session, limit=3, out=tmp_path, frames=4, max_new_tokens=2)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == ["colour-000", "shape-000", "motion-000"]
    assert [scored.answer for scored in resumed.scored] == [line["answer"] for line in lines]
