"""``make demo``: the bundled clip and picture in, streamed answers and the time of each stage out; facts checked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from videolm.cli.main import guarded
from videolm.cli.output import one_line, print_warnings
from videolm.contracts import Answer, Answerer
from videolm.errors import ConfigError

QUESTIONS_FILE = "demo.json"
STAGES = ("load", "decode", "preprocess", "vision", "first_token", "total")

__all__ = ["DemoQuestion", "answer_all", "load_questions", "main", "missing_facts"]


@dataclass(frozen=True, kw_only=True)
class DemoQuestion:
    """A question about a bundled file, and what a right answer must say."""

    media: Path
    """The clip or picture."""
    question: str
    """What is asked."""
    facts: tuple[str, ...]
    """Each must stand in the answer as a word; ``grey|gray`` allows either."""


def main() -> int:
    """Ask the bundled model about the bundled media."""
    return guarded(_run)


def _run() -> int:
    from videolm.session import load

    with as_file(files("videolm") / "mini" / "media") as folder:
        questions = load_questions(folder)
        return answer_all(load(), questions)


def load_questions(folder: Path) -> list[DemoQuestion]:
    """The questions of a folder's ``demo.json``."""
    file = folder / QUESTIONS_FILE
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["questions"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The questions in {file} cannot be read ({error!r}): expected the file that comes with the package. "
            "Install videolm again."
        ) from None
    return [
        DemoQuestion(media=folder / row["media"], question=row["question"], facts=tuple(row["facts"])) for row in rows
    ]


def answer_all(answerer: Answerer, questions: Sequence[DemoQuestion]) -> int:
    """Print every answer; the status is 1 when one lacks a fact."""
    wrong = 0
    for item in questions:
        print(f"\n{item.media.name}: {item.question}\n  ", end="", flush=True)
        stream = answerer.stream(str(item.media), item.question)
        for piece in stream:
            print(piece, end="", flush=True)
        print(f"\n  {describe_timings(stream.answer)}", flush=True)
        print_warnings(stream.answer.warnings)
        if lacking := missing_facts(stream.answer.text, item.facts):
            wrong += 1
            print(
                one_line(
                    f'videolm: the answer "{stream.answer.text}" to "{item.question}" lacks {", ".join(lacking)}: '
                    f"expected {', '.join(item.facts)}. The weights or the code that runs them are broken."
                ),
                file=sys.stderr,
            )
    print(f"\n{len(questions) - wrong} of {len(questions)} answers hold the facts they must.")
    return 1 if wrong else 0


def describe_timings(answer: Answer) -> str:
    """The stages of one answer in one line."""
    stages = [f"{name.replace('_', ' ')} {answer.timings_s[name]:.3f} s" for name in STAGES if name in answer.timings_s]
    return f"[{', '.join(stages)}; {answer.usage.visual_tokens} visual tokens, {answer.tokens_per_s:.0f} tokens/s]"


def missing_facts(text: str, facts: Sequence[str]) -> list[str]:
    """The facts that do not stand in the text as whole words, in any case."""
    return [fact for fact in facts if not re.search(rf"\b(?:{fact})\b", text, re.IGNORECASE)]


if __name__ == "__main__":
    sys.exit(main())
