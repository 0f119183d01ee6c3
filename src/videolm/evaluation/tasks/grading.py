"""Grades answers about a scene of moving shapes: one fact exactly, descriptions fact by fact."""

from __future__ import annotations

from itertools import chain

from videolm.evaluation.scoring import compare_facts
from videolm.evaluation.task import ItemScore
from videolm.evaluation.tasks.lexicon import NUMBER_WORDS
from videolm.evaluation.tasks.one_fact import stated_facts
from videolm.evaluation.tasks.statements import Statement, parse_statements
from videolm.world.questions import Question
from videolm.world.scene import Scene, Shape
from videolm.world.vocabulary import NUMBERS, place_of

__all__ = ["allowed_statements", "expected_statements", "grade"]


def grade(scene: Scene, question: Question, answer: str) -> ItemScore:
    """What the answer to a question about the scene gets."""
    if question.task == "description":
        stated = [str(statement) for statement in parse_statements(answer)]
        expected = [str(statement) for statement in expected_statements(scene)]
        return compare_facts(expected, stated, [str(statement) for statement in allowed_statements(scene)])
    subject = question.subject.name if question.subject else None
    stated_values = sorted(stated_facts(question.task, answer, subject=subject))
    expected_value = _printed(question.expected) if question.task == "text" else question.expected
    return compare_facts([expected_value], stated_values)


def expected_statements(scene: Scene) -> list[Statement]:
    """What a whole description holds: each thing with what it does and when, or in a picture where it is; the text."""
    statements = list(chain.from_iterable(_about(shape, is_clip=scene.is_clip) for shape in scene.in_reading_order()))
    if scene.text is not None:
        statements.append(Statement("text", "", _printed(scene.text.words)))
    return statements


def _about(shape: Shape, *, is_clip: bool) -> list[Statement]:
    statements = [Statement("there", shape.name, "")]
    if not is_clip:
        return [*statements, Statement("at", shape.name, place_of(shape.x, shape.y))]
    statements.append(Statement("does", shape.name, shape.action))
    return [*statements, Statement("when", shape.name, shape.period)] if shape.event else statements


def allowed_statements(scene: Scene) -> list[Statement]:
    """What is true besides: where things begin and end, that they stand still, how many there are, half of a name."""
    statements = [Statement("count", "", NUMBERS[len(scene.shapes)])] if len(scene.shapes) < len(NUMBERS) else []
    for shape in scene.shapes:
        facts = [Statement("there", shape.name, ""), *(Statement("at", shape.name, place) for place in _places(shape))]
        facts += _about(shape, is_clip=scene.is_clip)
        if shape.motion == "still":
            facts.append(Statement("does", shape.name, "still"))
        for name in (shape.name, shape.kind, f"{shape.colour} shape"):
            statements += [Statement(fact.kind, name, fact.value) for fact in facts]
    return statements


def _places(shape: Shape) -> set[str]:
    """Where it is at the start and at the end; "top left" is also at the top, and at the left."""
    whole = {place_of(*shape.place(time)) for time in (0.0, 1.0)}
    return whole | {word for place in whole for word in place.split()}


def _printed(words: str) -> str:
    return NUMBER_WORDS.get(words.casefold(), words.casefold())
