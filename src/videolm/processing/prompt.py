"""A rendered chat to token ids, and to the labels that training learns: answers and their end tokens, nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from videolm.errors import ProcessingError
from videolm.processing.chat import RenderedChat
from videolm.processing.tokenizer import Span, Tokenizer

IGNORED = -100

__all__ = ["IGNORED", "encode_for_learning", "encode_prompt"]


@dataclass(frozen=True, kw_only=True)
class _LearnableText:
    text: str
    foreign: list[Span]
    learned: list[Span]
    """Each answer from its first learned character to the end of its end token."""


def encode_prompt(tokenizer: Tokenizer, chat: RenderedChat) -> list[int]:
    """Token ids of a prompt."""
    return tokenizer.encode_rendered(chat.text, chat.foreign)


def encode_for_learning(
    tokenizer: Tokenizer, chat: RenderedChat, not_an_end: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """Token ids and labels of a conversation with answers.

    The ids before an answer are those of the prompt that asks for it, so that what is learned is what generation
    continues with.

    Args:
        not_an_end: Special tokens that never end an answer, such as placeholders.
    """
    if not chat.answers:
        raise ProcessingError(
            "The conversation has no message of the assistant: at least one answer to learn is expected. "
            "Add it, or use the sample for generation only."
        )
    learnable = _with_end_tokens(tokenizer, chat, {*not_an_end, tokenizer.bos_token})
    spans = _learned_positions(tokenizer, learnable, [])
    if spans is None:
        cuts = [start for start, _ in learnable.learned]
        spans = _learned_positions(tokenizer, learnable, cuts)
        assert spans is not None  # with a cut before it, no answer shares a token with its prompt
        ids = tokenizer.encode_rendered(learnable.text, learnable.foreign, split_at=cuts)
    else:
        ids = tokenizer.encode_rendered(learnable.text, learnable.foreign)
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        labels[start:end] = ids[start:end]
    return ids, labels


def _learned_positions(tokenizer: Tokenizer, learnable: _LearnableText, cuts: list[int]) -> list[Span] | None:
    """The learned spans in tokens, None if a token would cross the start of one."""
    ids = tokenizer.encode_rendered(learnable.text, learnable.foreign, split_at=cuts)
    positions = []
    for span in learnable.learned:
        edges = []
        for edge in span:
            foreign = [(start, min(end, edge)) for start, end in learnable.foreign if start < edge]
            before = tokenizer.encode_rendered(learnable.text[:edge], foreign, split_at=cuts)
            if ids[: len(before)] != before:
                return None
            edges.append(len(before))
        positions.append((edges[0], edges[1]))
    return positions


def _with_end_tokens(tokenizer: Tokenizer, chat: RenderedChat, not_an_end: set[str | None]) -> _LearnableText:
    """Extend each answer over the end token that the template writes after it, or insert the tokenizer's."""
    text, foreign, learned, shift = "", chat.foreign, [], 0
    position = 0
    for start, end in chat.answers:
        limit = next((left for left, _ in chat.foreign if left >= end), len(chat.text))
        written = _end_token_after(tokenizer, chat.text[end:limit], not_an_end)
        inserted = "" if written else _required_eos(tokenizer)
        text += chat.text[position:end] + inserted
        learned.append((start + shift, end + shift + (written or len(inserted))))
        foreign = [
            (left + len(inserted) * (left >= end + shift), right + len(inserted) * (left >= end + shift))
            for left, right in foreign
        ]
        position, shift = end, shift + len(inserted)
    rest = chat.text[position:]
    # A template without end tokens may pad an answer with a space; nothing comes after the one just inserted.
    text += "" if inserted and not rest.strip() else rest
    return _LearnableText(text=text, foreign=foreign, learned=learned)


def _end_token_after(tokenizer: Tokenizer, text: str, not_an_end: set[str | None]) -> int:
    """The length of white space and end token at the start of ``text``; 0 without one."""
    for start, end, token in tokenizer.special_strings(text)[:1]:
        if token not in not_an_end and re.fullmatch(r"\s*", text[:start]):
            return end
    return 0


def _required_eos(tokenizer: Tokenizer) -> str:
    if tokenizer.eos_token is None:
        raise ProcessingError(
            "The chat template writes no end token after an answer and the tokenizer names none: expected one to "
            "learn. Set eos_token in tokenizer_config.json."
        )
    return tokenizer.eos_token
