"""The bundled model sees clips that other code drew: another renderer, size, codec and container."""

from functools import lru_cache
from pathlib import Path

import pytest

import videolm
from videolm.cli.demo import load_questions, missing_facts
from videolm.mini.adopt import MAX_BYTES, MAX_PARAMETERS, WEIGHTS
from videolm.session import Session

from .foreign_clips import DIRECTIONS, MASKS, RGB, ForeignClip

MEDIA = Path(videolm.__file__).parent / "mini" / "media"


@lru_cache(maxsize=1)
def bundled() -> Session:
    return videolm.load()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "colour"), list(zip(MASKS, RGB, strict=False)))
def test_a_foreign_clip_is_described(kind: str, colour: str, direction: str) -> None:
    clip = ForeignClip(colour=colour, kind=kind, direction=direction)
    assert bundled().ask(clip.encode(), "Describe the clip.").text == clip.sentence


@pytest.mark.parametrize(
    ("colour", "kind", "direction"),
    [("green", "square", "right"), ("red", "circle", "left"), ("yellow", "circle", "down")],
)
def test_colour_direction_and_number_of_a_foreign_clip(colour: str, kind: str, direction: str) -> None:
    clip = ForeignClip(colour=colour, kind=kind, direction=direction).encode()
    questions = ("What color is the shape?", "Which way does the shape move?", "How many shapes are there?")
    answers = (f"{colour.capitalize()}.", f"{direction.capitalize()}.", "One.")
    assert tuple(bundled().ask(clip, question).text for question in questions) == answers


@pytest.mark.parametrize("index", range(3))
def test_the_demo_answers_hold_their_facts(index: int) -> None:
    item = load_questions(MEDIA)[index]
    answer = bundled().ask(str(item.media), item.question)
    assert missing_facts(answer.text, item.facts) == []


def test_the_bundled_model_keeps_its_limits() -> None:
    assert sum(parameter.numel() for parameter in bundled().model.parameters()) <= MAX_PARAMETERS
    assert (WEIGHTS / "model.safetensors").stat().st_size <= MAX_BYTES
