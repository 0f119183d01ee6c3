"""Questions about a scene written by hand: the answers follow from what it shows."""

from random import Random

import pytest

from videolm.world.language import NUM_HELD_OUT_PHRASINGS, PHRASINGS
from videolm.world.questions import SCORED_TASKS, QuestionMaker, Task
from videolm.world.sampler import Split
from videolm.world.scene import Background, Scene, Shape, Text
from videolm.world.vocabulary import COLOURS, KINDS

GREY = Background(top=(60, 60, 60), bottom=(60, 60, 60))
RED = {"colour": "red", "kind": "circle", "rgb": (255, 0, 0), "x": 0.2, "y": 0.2, "radius": 0.1}
BLUE = {"colour": "blue", "kind": "star", "rgb": (0, 0, 255), "x": 0.8, "y": 0.8, "radius": 0.1}


def scene(*shapes: dict[str, object], is_clip: bool = True, text: Text | None = None) -> Scene:
    return Scene(shapes=tuple(Shape(**s) for s in shapes), background=GREY, is_clip=is_clip, text=text)  # type: ignore[arg-type]


def ask(subject: Scene, task: Task, *, split: Split = "train", seed: int = 0) -> tuple[str, str]:
    question = QuestionMaker(subject, Random(seed), split).make(task)
    assert question is not None
    return question.answer, question.expected


MOVING = scene({**RED, "motion": "down-right", "travel": (0.5, 0.5)}, BLUE)
EVENTS = scene({**RED, "event": "appears", "event_time": 0.2}, {**BLUE, "event": "disappears", "event_time": 0.8})
STILL = scene(RED, BLUE, is_clip=False)


def test_descriptions_name_all_shapes_from_left_to_right() -> None:
    assert ask(MOVING, "description")[0] == "A red circle moves down and to the right and a blue star stays still."
    assert ask(EVENTS, "description")[0] == "A red circle appears early and a blue star disappears late."
    assert ask(STILL, "description")[0] == "A red circle at the top left and a blue star at the bottom right."


def test_a_printed_word_is_part_of_the_description() -> None:
    shown = scene(BLUE, is_clip=False, text=Text(words="GO", x=0.5, y=0.5, height=0.1, rgb=(0, 0, 0)))
    assert ask(shown, "text") == ("GO.", "GO")
    assert ask(shown, "description")[0] == "A blue star at the bottom right. The text says GO."


@pytest.mark.parametrize("seed", range(12))
def test_facts_about_random_subjects(seed: int) -> None:
    question = QuestionMaker(MOVING, Random(seed), "train").make("motion")
    assert question is not None
    assert question.subject is not None
    assert (question.subject.colour, question.expected) in {("red", "down-right"), ("blue", "still")}
    assert question.answer == {"red": "Down and to the right.", "blue": "It stays still."}[question.subject.colour]
    assert ask(EVENTS, "order", seed=seed) in {
        ("The red circle appears.", "red circle appears"),
        ("The blue star disappears.", "blue star disappears"),
    }
    assert ask(EVENTS, "when", seed=seed) in {("Early.", "early"), ("Late.", "late")}


@pytest.mark.parametrize("seed", range(40))
def test_presence_and_relation_are_true(seed: int) -> None:
    presence = QuestionMaker(STILL, Random(seed), "train").make("presence")
    assert presence is not None
    words = set(presence.text.rstrip("?").split())
    colours, kinds = words & set(COLOURS), words & set(KINDS)
    there = [s for s in STILL.shapes if colours <= {s.colour} and kinds <= {s.kind}]
    assert colours | kinds
    assert presence.expected == ("yes" if there else "no")
    relation = QuestionMaker(STILL, Random(seed), "train").make("relation")
    assert relation is not None
    red_is_asked = relation.subject is not None and relation.subject.colour == "red"
    assert relation.expected in ({"left", "above"} if red_is_asked else {"right", "below"})


def test_scenes_without_a_fact_have_no_question_about_it() -> None:
    assert QuestionMaker(MOVING, Random(0), "train").make("when") is None
    assert QuestionMaker(STILL, Random(0), "train").make("motion") is None
    assert QuestionMaker(STILL, Random(0), "train").make("text") is None
    assert QuestionMaker(EVENTS, Random(0), "train").make("count") is None


def test_training_never_asks_in_the_phrasings_kept_for_the_test() -> None:
    assert all(len(PHRASINGS[key]) >= 10 for key in PHRASINGS if key not in ("path", "place"))
    asked = {}
    for split in ("train", "test"):
        questions = [
            question
            for seed in range(300)
            for task in SCORED_TASKS
            if (question := QuestionMaker(MOVING, Random(f"{task}{seed}"), split).make(task)) is not None  # type: ignore[arg-type]
        ]
        asked[split] = {question.text for question in questions if question.has_held_out_phrasing}
    assert asked["train"] == set()
    assert len(asked["test"]) >= NUM_HELD_OUT_PHRASINGS * 4
