"""Finds what a text names ("red circle", "the ring", "it") and the phrases that say where something is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from videolm.evaluation.tasks.lexicon import COLOUR, KIND, Mention, find_mentions

__all__ = ["BARE_PLACE", "PLACE_PHRASE", "Thing", "blank", "blank_places", "find_things"]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A stretch of text that names something."""

    name: str
    """ "red circle"; "circle" or "red shape" where the text says no more; empty for a pronoun."""
    start: int
    end: int
    is_plural_pronoun: bool = False


_PLACE_WORD = r"(?:top|bottom|upper|lower|left|right|cent(?:er|re)|middle)"
PLACE_PHRASE = re.compile(
    rf"\b(?:at|in|on|near|from|(?:is|are|stands?|sits?|located|placed|positioned) (?:to|towards?))"
    rf"(?: the)?(?: very| far)? ({_PLACE_WORD}(?:[ -]{_PLACE_WORD})?)\b"
    rf"(?:[ -](?:hand|side|corner|edge|half|part|third|area|of the (?:picture|image|frame|screen|video|clip)))*"
)
"""A preposition and a place, which is group 1."""
BARE_PLACE = re.compile(
    rf"(?<!to )(?<!to the )(?<!toward the )(?<!towards the )\b((?:top|bottom|upper|lower)(?:[ -]{_PLACE_WORD})?)\b"
)
"""A place by itself ("top left: ..."), not the aim of a motion ("to the top left"); group 1 is all of it."""

_ADJECTIVE = (
    r"(?:colou?red|small|large|big|little|tiny|huge|filled|solid|hollow|bright|dark|light|still|stationary|single|"
    r"\w+ing)"
)
_BETWEEN = re.compile(rf"[ -](?:{_ADJECTIVE},? )*")
_COLOUR_AFTER = re.compile(r",? (?:(?:that|which) )?(?:is |are )?(?:colou?red |painted |in |of (?:the )?colou?r )?")
_GENERIC = re.compile(r"(?:shape|object|thing|figure|one|form)s?\b")
_PRONOUN = re.compile(r"\b(?:(it|(?:the|this) (?:shape|object|thing|figure))|(they|both|these|all of them))\b")


def find_things(text: str) -> list[Thing]:
    """Named things and pronouns in normalised text, in order."""
    colours = find_mentions(text, COLOUR)
    named = [_thing_of(text, kind, colours) for kind in find_mentions(text, KIND)]
    for colour in colours:
        if all(colour.end <= thing.start or colour.start >= thing.end for thing in named):
            gap = _BETWEEN.match(text, colour.end)
            generic = _GENERIC.match(text, gap.end()) if gap else None
            if generic:
                named.append(Thing(name=f"{colour.value} shape", start=colour.start, end=generic.end()))
    pronouns = [
        Thing(name="", start=match.start(), end=match.end(), is_plural_pronoun=match.group(2) is not None)
        for match in _PRONOUN.finditer(text)
    ]
    return sorted([*named, *pronouns], key=lambda thing: thing.start)


def _thing_of(text: str, kind: Mention, colours: list[Mention]) -> Thing:
    for colour in colours:
        if colour.end <= kind.start and _BETWEEN.fullmatch(text, colour.end, kind.start):
            return Thing(name=f"{colour.value} {kind.value}", start=colour.start, end=kind.end)
    for colour in colours:
        if colour.start > kind.end and _COLOUR_AFTER.fullmatch(text, kind.end, colour.start):
            gap = _BETWEEN.match(text, colour.end)
            next_word = text[gap.end() :].split(" ", 1)[0] if gap else ""
            if not find_mentions(next_word, KIND):  # otherwise the colour belongs to the next thing
                return Thing(name=f"{colour.value} {kind.value}", start=kind.start, end=colour.end)
    return Thing(name=kind.value, start=kind.start, end=kind.end)


def blank(text: str, pattern: re.Pattern[str]) -> str:
    """The text with every match replaced by as many spaces."""
    return pattern.sub(lambda match: " " * len(match.group()), text)


def blank_places(text: str) -> str:
    """The text without phrases such as "at the top left" or "from the right"."""
    return blank(text, PLACE_PHRASE)
