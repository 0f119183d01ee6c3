"""Messages to a prompt: a checkpoint's jinja2 chat template in a sandbox, with every person's text kept track of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from videolm.contracts import Message
from videolm.errors import CheckpointError, ProcessingError
from videolm.processing.messages import MediaPart, normalise_messages
from videolm.processing.tokenizer import Span

_MAX_REPEATED = 100_000
_TEXT_CHANGES: tuple[Callable[[str], str], ...] = (lambda text: text, str.strip, str.lstrip, str.rstrip)
_MARKS = "videolm_marks"

__all__ = ["ChatTemplate", "MediaPart", "RenderedChat", "TextSpan", "normalise_messages"]


@dataclass(frozen=True, kw_only=True)
class TextSpan:
    """Where one text of a message stands in the prompt."""

    message_index: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class RenderedChat:
    """A prompt, and which parts of it people wrote."""

    text: str
    texts: tuple[TextSpan, ...]
    """Ascending; all that is not in them was written by the template."""
    answers: tuple[Span, ...] = ()
    """From where an answer's generation would have begun to the end of its text; only if asked for."""

    @property
    def foreign(self) -> list[Span]:
        return [(span.start, span.end) for span in self.texts]


@dataclass(frozen=True)
class _Marks:
    """Four characters that no text of the conversation holds."""

    text_start: str
    text_end: str
    answer_start: str
    answer_end: str


class ChatTemplate:
    """One chat template."""

    def __init__(self, source: str, *, special_tokens: Mapping[str, str] | None = None) -> None:
        """``special_tokens`` are the names that templates may use: ``bos_token``, ``eos_token`` …"""
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise CheckpointError(
                f"The chat template cannot be compiled ({error}): expected a jinja2 template as transformers reads it. "
                "Correct chat_template.jinja, or fetch it again."
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.source, self.special_tokens)

    @classmethod
    def from_folder(cls, folder: str | Path, special_tokens: Mapping[str, str] | None = None) -> ChatTemplate | None:
        """The template of a checkpoint folder, None if it has none."""
        folder = Path(folder)
        jinja = folder / "chat_template.jinja"
        if jinja.is_file():
            return cls(jinja.read_text(encoding="utf-8"), special_tokens=special_tokens)
        for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
            path = folder / name
            source = json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
            if isinstance(source, list):
                source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
            if isinstance(source, str):
                return cls(source, special_tokens=special_tokens)
        return None

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, *, find_answers: bool = False
    ) -> RenderedChat:
        """The prompt of a conversation.

        Args:
            find_answers: Also say where the assistant's answers stand, for training.
        """
        normal, _ = normalise_messages(messages)
        plain = self._run(normal, add_generation_prompt)
        tracked = self._track(normal, add_generation_prompt, plain)
        if tracked is None:
            raise ProcessingError(
                "The chat template rewrites the text of a message, or leaves it out: each text is expected in the "
                "prompt as it was written. Use the template of a video language model, which takes a "
                "list as content."
            )
        chat, marked_answers = tracked
        return replace(chat, answers=self._find_answers(normal, chat, marked_answers)) if find_answers else chat

    def _run(self, messages: list[dict[str, Any]], add_generation_prompt: bool, marks: _Marks | None = None) -> str:
        variables = {**self.special_tokens, "tools": None, "documents": None, _MARKS: marks}
        try:
            return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
        except SecurityError as error:
            raise CheckpointError(
                f"The chat template does what templates may not ({error}): expected one that only formats messages. "
                "Do not trust this checkpoint; use another chat template."
            ) from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise ProcessingError(
                f"The chat template refuses these messages ({error}): expected a conversation of the form it was "
                "written for. Check the order of the roles, and whether it takes a system message."
            ) from error

    def _track(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool, plain: str
    ) -> tuple[RenderedChat, list[Span]] | None:
        """The rendered chat and the template's own ``{% generation %}`` parts; None if texts cannot be followed."""
        marks = _choose_marks([self.source, plain, *(text for _, text in _texts(messages))])
        for change in _TEXT_CHANGES:
            wanted = [(index, change(text)) for index, text in _texts(messages)]
            marked = self._run(_mark(messages, marks, change), add_generation_prompt, marks)
            text, spans, answers = _unmark(marked, marks)
            if text == plain and [text[start:end] for start, end in spans] == [text for _, text in wanted]:
                texts = tuple(
                    TextSpan(message_index=index, start=start, end=end)
                    for (index, _), (start, end) in zip(wanted, spans, strict=True)
                )
                return RenderedChat(text=text, texts=texts), answers
        return None

    def _find_answers(
        self, messages: list[dict[str, Any]], chat: RenderedChat, marked_answers: list[Span]
    ) -> tuple[Span, ...]:
        answers = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            spans = [span for span in chat.texts if span.message_index == index]
            start, end = spans[0].start, spans[-1].end
            marked = [left for left, right in marked_answers if left <= start and end <= right]
            prompt = self._run(messages[:index], True) if index else ""
            if prompt and chat.text.startswith(prompt) and len(prompt) <= start:
                # Begin where generation begins, so that the model learns exactly what it will be asked to continue.
                start = len(prompt)
            elif marked:
                start = marked[0]
            answers.append((start, end))
        return tuple(answers)


def _rebuild(source: str, special_tokens: dict[str, str]) -> ChatTemplate:
    return ChatTemplate(source, special_tokens=special_tokens)


def _texts(messages: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """All texts with the index of their message."""
    return [(i, part["text"]) for i, message in enumerate(messages) for part in message["content"] if "text" in part]


def _choose_marks(texts: list[str]) -> _Marks:
    used = set().union(*texts)
    candidates: Iterable[int] = chain(range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE))
    return _Marks(*islice((mark for code in candidates if (mark := chr(code)) not in used), 4))


def _mark(messages: list[dict[str, Any]], marks: _Marks, change: Callable[[str], str]) -> list[dict[str, Any]]:
    def marked(part: dict[str, str]) -> dict[str, str]:
        if "text" not in part:
            return part
        return {**part, "text": marks.text_start + change(part["text"]) + marks.text_end}

    return [{**message, "content": [marked(part) for part in message["content"]]} for message in messages]


def _unmark(marked: str, marks: _Marks) -> tuple[str, list[Span], list[Span]]:
    """The text without marks, and the spans between text marks and between answer marks."""
    kept: list[str] = []
    found: dict[str, list[int]] = {mark: [] for mark in vars(marks).values()}
    for character in marked:
        if character in found:
            found[character].append(len(kept))
        else:
            kept.append(character)
    texts = list(zip(found[marks.text_start], found[marks.text_end], strict=False))
    return "".join(kept), texts, list(zip(found[marks.answer_start], found[marks.answer_end], strict=False))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses to build enormous values."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else side for side in (left, right)]
        if operator == "**" or (sizes != [left, right] and sizes[0] * sizes[1] > _MAX_REPEATED):
            raise SecurityError(f"the operator {operator} on large values")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %} … {% endgeneration %}``: a template's own statement of what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_emit", [jinja2.nodes.ContextReference()])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _emit(self, context: jinja2.runtime.Context, caller: Callable[[], str]) -> str:
        marks = context.get(_MARKS)
        return f"{marks.answer_start}{caller()}{marks.answer_end}" if isinstance(marks, _Marks) else caller()


def _environment() -> ImmutableSandboxedEnvironment:
    extensions = [_GenerationTag, jinja2.ext.loopcontrols]
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    # jinja2's own filter escapes HTML characters, which prompts must not.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
