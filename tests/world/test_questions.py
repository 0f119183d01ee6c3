"""Questions about a scene written by hand: the answers follow from what it shows."""

from dataclasses import replace
from random import Random

import pytest

from videolm.world.language import HELD_OUT_NOUNS, MORE_NOUNS, NOUNS
from videolm.world.phrasings import (
    DIRECT,
    INDIRECT,
    LATEST,
    MORE_PHRASINGS,
    NUM_HELD_OUT_PHRASINGS,
    OPENERS,
    PHRASINGS,
    SHORT_DESCRIPTIONS,
    Phrasings,
    draw_phrasing,
)
from videolm.world.questions import SCORED_TASKS, Question, QuestionMaker, Task, changes, heading, with_pronoun
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
WHEN = ("early", "middle", "late")
ASKED_BY_NAME: tuple[Task, ...] = ("end", "quiet", "event", "timeline")


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
    assert all(len(PHRASINGS[key]) >= 10 for key in PHRASINGS if key not in ("path", "place", "event", "end"))
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


CLOSE = {
    "What number of {things} is there?",
    "Do you see the {name} above or below the {other}?",
    "When does one see the {name} {event}?",
}
"""A word away all the same: the bundled model was trained with them before this test was written, as its card tells."""


@pytest.mark.parametrize("key", DIRECT)
def test_nothing_that_training_asks_is_a_word_away_from_what_the_test_keeps(key: str) -> None:
    assert set(DIRECT) == set(INDIRECT) == set(MORE_PHRASINGS)
    kept = [phrasing for phrasings in PHRASINGS.values() for phrasing in phrasings[-NUM_HELD_OUT_PHRASINGS:]]
    latest = LATEST.get(key, ())
    asked = {draw_phrasing(key, Random(seed), latest) for seed in range(3000)}
    indirect = [opener.format(clause) for opener in OPENERS for clause in INDIRECT[key]]
    direct = [*PHRASINGS[key][:-NUM_HELD_OUT_PHRASINGS], *MORE_PHRASINGS[key], *DIRECT[key], *latest]
    assert asked <= {*indirect, *direct}
    assert asked >= set(direct)
    # Which word a colour is spelled with, or how a sentence ends, is no other way to ask.
    for phrasing in asked - CLOSE:
        for other in PHRASINGS[key][-NUM_HELD_OUT_PHRASINGS:]:
            assert _distance(_words(phrasing), _words(other)) > 1, (phrasing, other)
    assert not asked & set(kept)


def _words(phrasing: str) -> list[str]:
    return phrasing.lower().replace("colour", "color").replace("what's", "what is").rstrip(".?").split()


def _distance(some: list[str], others: list[str]) -> int:
    """How many words have to be put in, left out or changed."""
    costs = list(range(len(others) + 1))
    for number, one in enumerate(some, 1):
        previous, costs[0] = costs[0], number
        for place, other in enumerate(others, 1):
            previous, costs[place] = (
                costs[place],
                min(costs[place] + 1, costs[place - 1] + 1, previous + (one != other)),
            )
    return costs[-1]


@pytest.mark.parametrize("phrasings", ["base", "more", "many", "most", "all"])
def test_every_way_to_ask_is_filled_in(phrasings: Phrasings) -> None:
    for seed in range(200):
        for scene in (STILL, MOVING, EVENTS):
            maker = QuestionMaker(scene, Random(seed), "train", phrasings=phrasings)
            for task in (*maker.tasks(), *ASKED_BY_NAME):
                question = maker.make(task)
                assert question is None or "{" not in question.text


def test_a_timeline_tells_events_in_their_order() -> None:
    question = QuestionMaker(EVENTS, Random(0), "train").make("timeline")
    assert question is not None
    events = sorted((s for s in EVENTS.shapes if s.event), key=lambda shape: shape.event_time)
    assert len(events) > 1
    assert question.answer.split(", ") == [f"{shape.name} {shape.event}" for shape in events]
    assert QuestionMaker(MOVING, Random(0), "train").make("timeline") is None


def test_what_happens_in_a_third_of_a_clip_is_told() -> None:
    asked = [QuestionMaker(EVENTS, Random(seed), "train").make("event") for seed in range(60)]
    answers = {(when, question.answer) for question in asked if question for when in WHEN if when in question.text}
    assert answers == {
        ("early", "The red circle appears."), ("middle", "Nothing."), ("late", "The blue star disappears."),
    }  # fmt: skip
    together = scene(*({**each, "event": "appears", "event_time": 0.1} for each in (RED, BLUE)))
    texts = {
        question.answer
        for seed in range(60)
        if (question := QuestionMaker(together, Random(seed), "train").make("event"))
    }
    assert texts == {"The red circle appears and the blue star appears.", "Nothing."}
    assert QuestionMaker(MOVING, Random(0), "train").make("event") is None


def test_where_a_shape_is_at_the_end_is_told() -> None:
    asked = [QuestionMaker(MOVING, Random(seed), "train").make("end") for seed in range(60)]
    answers = {(question.subject.name, question.answer) for question in asked if question and question.subject}
    assert answers == {("red circle", "At the bottom right."), ("blue star", "At the bottom right.")}
    told = {
        q.subject.name
        for seed in range(60)
        if (q := QuestionMaker(EVENTS, Random(seed), "train").make("end")) and q.subject
    }
    assert told == {"red circle"}  # The other one is gone by then.
    assert QuestionMaker(STILL, Random(0), "train").make("end") is None


def test_nothing_comes_first_where_nothing_appears_or_disappears() -> None:
    question = QuestionMaker(MOVING, Random(0), "train").make("quiet")
    assert question is not None
    assert question.answer == "Nothing appears or disappears."
    assert "first" in question.text.lower() or "last" in question.text.lower()
    assert QuestionMaker(EVENTS, Random(0), "train").make("quiet") is None
    assert QuestionMaker(STILL, Random(0), "train").make("quiet") is None


def test_training_knows_short_ways_to_ask_for_a_description() -> None:
    def texts(phrasings: Phrasings) -> set[str]:
        makers = (QuestionMaker(MOVING, Random(seed), "train", phrasings=phrasings) for seed in range(800))
        return {question.text for maker in makers if (question := maker.make("description"))}

    short = {phrasing.format(view=view) for phrasing in SHORT_DESCRIPTIONS for view in ("video", "clip")}
    assert short <= texts("all")
    assert not short & texts("most")


def test_changes_are_told_frame_by_frame() -> None:
    assert changes(EVENTS, [0.0, 0.2, 0.5, 0.9]).answer == "No, red circle appears, No, blue star disappears"
    assert changes(EVENTS, [0.0, 1.0]).answer == "No, red circle appears and blue star disappears"


def test_a_heading_is_told_in_quarters_of_what_looks_the_same() -> None:
    turning = Shape(
        colour="red",
        kind="square",
        rgb=(255, 0, 0),
        x=0.5,
        y=0.5,
        radius=0.2,
        angle=-10.0,
        motion="rotating",
        turn=100.0,
    )
    asked = heading(turning, [0.0, 0.3, 0.5, 0.7, 1.0])  # -10, 20, 40, 60 and 90 degrees
    assert asked.text == "How is the red square turned in each frame?"
    assert asked.answer == "zero one two three zero"
    assert heading(replace(turning, kind="triangle"), [0.3, 1.0]).answer == "one three"


def test_more_nouns_are_asked_about_in_training_alone() -> None:
    def nouns(split: Split, phrasings: Phrasings) -> set[str]:
        makers = (QuestionMaker(STILL, Random(seed), split, phrasings=phrasings) for seed in range(2000))
        asked = [question.text for maker in makers if (question := maker.make("unknown"))]
        return {word for text in asked for word in text.rstrip("?.").split()} & {*NOUNS, *MORE_NOUNS, *HELD_OUT_NOUNS}

    assert len(set(MORE_NOUNS)) == len(MORE_NOUNS) > 150
    assert not {*MORE_NOUNS} & {*NOUNS, *HELD_OUT_NOUNS, *KINDS, "shape", "object"}
    assert nouns("test", "base") == {*NOUNS, *HELD_OUT_NOUNS}
    assert nouns("train", "many") == {*NOUNS, "money"}  # Of which there is much or little in one of the questions.
    assert len(nouns("train", "most")) > 0.95 * len({*NOUNS, *MORE_NOUNS})


@pytest.mark.parametrize(
    ("task", "text", "expected"),
    [
        ("motion", "Which way does the red circle move?", "Which way does it move?"),
        ("motion", "The circle goes where?", "It goes where?"),
        ("colour", "What is the shape's color?", "What is its color?"),
        ("colour", "What color is the circle in the video?", "What color is it in the video?"),
        ("shape", "What is the shape of the red object?", "What is the shape of it?"),
        ("shape", "What shape is red?", "What shape is red?"),
        ("presence", "Is there a red circle?", "Is there a red circle?"),
        ("relation", "Is the red circle above the blue star?", "Is the red circle above the blue star?"),
        ("when", "When does the red circle appear?", "When does it appear?"),
    ],
)
def test_a_pronoun_stands_for_the_shape_that_is_asked_about(task: Task, text: str, expected: str) -> None:
    subject = EVENTS.shapes[0]
    question = Question(task=task, text=text, answer="", expected="", subject=subject)
    assert with_pronoun(question) == expected
    assert with_pronoun(replace(question, subject=None)) == text
