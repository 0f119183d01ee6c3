"""The demo: what it prints, and that a wrong answer is an exit status of 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from videolm.cli.demo import answer_all, load_questions, missing_facts
from videolm.contracts import Answer, Usage
from videolm.errors import ConfigError


class OneAnswer:
    """Says the same to everything."""

    name = "parrot"

    def __init__(self, text: str) -> None:
        usage = Usage(prompt_tokens=9, visual_tokens=4, completion_tokens=3)
        timings = {"load": 0.5, "decode": 0.25, "total": 1.0}
        self.answer = Answer(text=text, finish_reason="stop", model=self.name, usage=usage, timings_s=timings)

    def __iter__(self) -> Iterator[str]:
        yield from self.answer.text.partition(" ")

    def stream(self, media: Any, question: str, **options: Any) -> OneAnswer:
        return self


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"media": "clip.mp4", "question": "What moves?", "facts": ["red", "circle"]}]
    (tmp_path / "demo.json").write_text(json.dumps({"questions": rows}))
    return tmp_path


def test_a_right_answer_is_streamed_with_its_times(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer_all(OneAnswer("A red circle."), load_questions(folder)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (
        "\nclip.mp4: What moves?\n  A red circle.\n"
        "  [load 0.500 s, decode 0.250 s, total 1.000 s; 4 visual tokens, 0 tokens/s]\n"
        "\n1 of 1 answers hold the facts they must.\n"
    )


def test_an_answer_without_its_fact_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer_all(OneAnswer("A blue circle."), load_questions(folder)) == 1
    assert capsys.readouterr().err.startswith('videolm: the answer "A blue circle." to "What moves?" lacks red:')


@pytest.mark.parametrize(
    ("text", "facts", "lacking"),
    [
        ("It is Red.", ["red"], []),
        ("bored", ["red"], ["red"]),
        ("a gray ring", ["grey|gray", "ring"], []),
        ("to the left", ["right", "left"], ["right"]),
    ],
)
def test_facts_are_whole_words(text: str, facts: list[str], lacking: list[str]) -> None:
    assert missing_facts(text, facts) == lacking


def test_a_folder_without_questions_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"demo\.json cannot be read"):
        load_questions(tmp_path)
