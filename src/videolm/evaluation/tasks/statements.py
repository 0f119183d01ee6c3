"""Reads statements out of a free description: what is there, what each thing does, where it is, when it changes.

The grammar is loose on purpose. Text is read from left to right, sentence by sentence; a predicate belongs to the thing
or things named before it, to the first ones named after it when it opens the sentence, and to the thing that it
stands in front of as an adjective. Pronouns stand for the things named last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from videolm.evaluation.tasks.lexicon import (
    EVENT,
    MOTION,
    NUMBER,
    NUMBER_WORDS,
    PERIOD,
    PLACE,
    find_mentions,
    normalise,
)
from videolm.evaluation.tasks.things import BARE_PLACE, PLACE_PHRASE, Thing, blank, find_things

__all__ = ["Statement", "StatementKind", "parse_statements"]

StatementKind = Literal["there", "does", "at", "when", "text", "count"]

_AND = re.compile(
    r"[ ,]*(?:and|as well as|plus|with|,)?(?: (?:also|there (?:is|are)))? ?"
    r"(?:an?|the|another|one|two)? ?(?:small |large |big )?"
)
_OBJECT_OF = re.compile(
    r"(?:(?:left|right)(?: hand)?(?: side)? of|above|below|beneath|under(?:neath)?|next to|beside|near|behind|"
    r"towards?|past|around|between|in front of)(?: (?:an?|the|another))?(?: (?:small|large|big))? $"
)
_RELATION = re.compile(r"\b(?:(?:to|on|at) the )?(?:left|right)(?: hand)?(?: side)? of (?=an? |the |another |it\b)")
_PRINTED = re.compile(
    r"\b(?:says?|saying|reads?|reading|spells?|states|word|number|text)(?: is| as)?[:,]? "
    r"(?!(?:says|reads|is|that|in|at|on|which|of|and|an?|the|saying|reading|here)\b)([^\W_]+)"
)
_QUOTED = re.compile(r'"([^"]+?)[.,]?"')
_SHAPE_COUNT = re.compile(
    r"\b\w+ (?:\w+ )?(?:shapes|objects|things|figures)\b|\b(?:one|a single|only one) (?:shape|object)\b"
)


@dataclass(frozen=True, order=True)
class Statement:
    """One fact that a text claims."""

    kind: StatementKind
    name: str
    """The thing ("red circle", or "circle" or "red shape" where the text says no more); empty for text and count."""
    value: str
    """Motion or event, place, period, printed text, number; empty for "there"."""

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.kind, self.value) if part)


def parse_statements(text: str) -> list[Statement]:
    """The statements of a text, each once, in order."""
    text, printed = _take_printed_text(normalise(text))
    memory = _Memory()
    for sentence in re.split(r"[.!?;]+", text):
        _Sentence(text=sentence, memory=memory).read()
    return list(dict.fromkeys([*memory.statements, *printed]))


def _take_printed_text(text: str) -> tuple[str, list[Statement]]:
    """Statements about printed text, and the text without the printed words, which may be words such as "up"."""
    statements: list[Statement] = []
    for pattern in (_QUOTED, _PRINTED):
        for match in pattern.finditer(text):
            statements.append(Statement("text", "", NUMBER_WORDS.get(match.group(1), match.group(1))))
        text = blank(text, pattern)
    return text, statements


@dataclass
class _Memory:
    """What has been read so far."""

    statements: list[Statement] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    """What a predicate read now belongs to."""
    last_named: list[str] = field(default_factory=list)
    """Everything that the last sentence with a name in it names."""

    def resolve(self, name: str) -> str:
        """The full name that "circle" or "red shape" stands for, when just one thing of this kind was named."""
        known = dict.fromkeys(s.name for s in self.statements if s.kind == "there" and s.name.count(" ") == 1)
        if name.endswith(" shape"):
            fits = [full for full in known if full.startswith(name.removesuffix("shape")) and full != name]
        elif " " not in name:
            fits = [full for full in known if full.endswith(f" {name}")]
        else:
            return name
        return fits[0] if len(fits) == 1 else name


@dataclass(frozen=True, kw_only=True)
class _Predicate:
    kind: StatementKind
    value: str
    start: int
    end: int


@dataclass
class _Sentence:
    """Reads one sentence into the memory."""

    text: str
    memory: _Memory
    named: list[str] = field(default_factory=list)
    fronted: list[_Predicate] = field(default_factory=list)
    """Predicates before the first thing; they belong to the first group of things."""
    in_first_group: bool = True
    group_end: int | None = None
    """Where the last thing ends if no predicate has followed it: an "and" may still add to its group."""

    def read(self) -> None:
        for match in _SHAPE_COUNT.finditer(self.text):
            for number in find_mentions(match.group(), NUMBER)[:1]:
                self.memory.statements.append(Statement("count", "", number.value))
        things = find_things(self.text)
        tokens: list[Thing | _Predicate] = [*things, *_predicates(self.text)]
        for token in sorted(tokens, key=lambda token: token.start):
            if isinstance(token, Thing):
                self._read_thing(token)
            else:
                self._read_predicate(token, things)
        self.memory.last_named = self.named or self.memory.last_named

    def _read_predicate(self, predicate: _Predicate, things: list[Thing]) -> None:
        owner = _owner(self.text, predicate, things)
        if owner is not None:
            self._state([self.memory.resolve(owner.name)], predicate)
        elif self.memory.subjects and (self.named or not things):
            self._state(self.memory.subjects, predicate)
            self.in_first_group, self.group_end = False, None
        else:
            self.fronted.append(predicate)

    def _read_thing(self, thing: Thing) -> None:
        is_object = bool(self.named) and bool(_OBJECT_OF.search(self.text[: thing.start]))
        names = self._names_of(thing)
        if thing.name:
            self.memory.statements.extend(Statement("there", name, "") for name in names)
        is_first = not self.named
        self.named.extend(name for name in names if name not in self.named)
        if is_object:
            return
        extends = self.group_end is not None and bool(_AND.fullmatch(self.text, self.group_end, thing.start))
        self.in_first_group = self.in_first_group and (extends or is_first)
        self.memory.subjects = [*self.memory.subjects, *names] if extends else names
        if self.in_first_group:
            for predicate in self.fronted:
                self._state(names, predicate)
        self.group_end = thing.end

    def _names_of(self, thing: Thing) -> list[str]:
        if thing.name:
            return [self.memory.resolve(thing.name)]
        if thing.is_plural_pronoun:
            return self.named or self.memory.last_named
        return self.memory.subjects[-1:]

    def _state(self, names: list[str], predicate: _Predicate) -> None:
        self.memory.statements.extend(Statement(predicate.kind, name, predicate.value) for name in names)


def _predicates(sentence: str) -> Iterator[_Predicate]:
    """Events, periods (only beside an event), places and motions; each stretch of text counts once."""
    rest = blank(sentence, _RELATION)
    events = find_mentions(rest, EVENT)
    periods = find_mentions(rest, PERIOD) if events else []
    for mention in events:
        yield _Predicate(kind="does", value=mention.value, start=mention.start, end=mention.end)
    for mention in periods:
        yield _Predicate(kind="when", value=mention.value, start=mention.start, end=mention.end)
    for mention in (*events, *periods):
        rest = rest[: mention.start] + " " * (mention.end - mention.start) + rest[mention.end :]
    for pattern in (PLACE_PHRASE, BARE_PLACE):
        for match in pattern.finditer(rest):
            for place in find_mentions(match.group(1), PLACE)[:1]:
                if not match.group().startswith("from"):
                    yield _Predicate(kind="at", value=place.value, start=match.start(), end=match.end())
        rest = blank(rest, pattern)
    for mention in find_mentions(rest, MOTION):
        yield _Predicate(kind="does", value=mention.value, start=mention.start, end=mention.end)


def _owner(sentence: str, predicate: _Predicate, things: list[Thing]) -> Thing | None:
    """The thing that the predicate stands in, or directly in front of as an adjective."""
    for thing in things:
        is_inside = thing.start <= predicate.start < thing.end
        is_adjective = sentence[predicate.end : thing.start] == " "
        if thing.name and (is_inside or is_adjective):
            return thing
    return None
