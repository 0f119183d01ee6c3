"""Finds the world's words in free text: colours, shapes, motions, events, numbers, periods, relations.

One lexicon a category, a list of patterns with the value each stands for. Words the world does not have (pink, oval)
are in the lexicons too, so that naming one counts as a statement. A mention that the text denies ("not red") is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from videolm.world.vocabulary import COLOURS, KINDS, NUMBERS

__all__ = [
    "COLOUR",
    "EVENT",
    "KIND",
    "MOTION",
    "NUMBER",
    "PERIOD",
    "PLACE",
    "RELATION",
    "Lexicon",
    "Mention",
    "find_mentions",
    "normalise",
    "says_unknown",
]


@dataclass(frozen=True, kw_only=True)
class Mention:
    """One word or phrase that stands for a value."""

    value: str
    start: int
    end: int


Lexicon = Sequence[tuple[re.Pattern[str], str]]


def _lexicon(rows: Iterable[tuple[str, str]]) -> Lexicon:
    return tuple((re.compile(rf"\b(?:{pattern})\b"), value) for pattern, value in rows)


OTHER_COLOURS: Final = ("black", "pink", "brown", "cyan", "magenta", "turquoise", "teal", "gold", "silver", "beige")
OTHER_KINDS: Final = (
    "rectangle", "oval", "ellipse", "diamond", "rhombus", "hexagon", "pentagon", "octagon", "heart", "arrow", "cube",
    "line", "moon", "crescent",
)  # fmt: skip
COLOUR: Final = _lexicon(
    [
        *((colour, colour) for colour in (*COLOURS, *OTHER_COLOURS)),
        ("violet", "purple"),
        ("gr[ae]y", "grey"),
    ]
)
KIND: Final = _lexicon(
    [
        *((f"{kind}s?", kind) for kind in (*KINDS, *OTHER_KINDS) if kind != "cross"),
        (r"cross(?:es)?(?! the| over)", "cross"),
        (r"plus(?:es)?(?: signs?)?", "cross"),
        ("dis[ck]s?|circular", "circle"),
        ("(?:do(?:ugh)?nut|hoop)s?", "ring"),
        ("triangular", "triangle"),
    ]
)

_UP = "up(?:wards?)?|top|upper"
_DOWN = "down(?:wards?)?|bottom|lower"
_LEFT = "left(?:wards?)?"
_RIGHT = "right(?:wards?)?"
# "up-left", "up and to the left", "up, toward the left"; never "up, then left", which is two motions.
_JOIN = r"\s*[-,/]?\s*(?:and\s+)?(?:to(?:wards?)?\s+)?(?:the\s+)?"


def _diagonal(vertical: str, horizontal: str) -> str:
    return f"(?:{vertical}){_JOIN}(?:{horizontal})|(?:{horizontal}){_JOIN}(?:{vertical})"


_DOES_NOT_MOVE = (
    r"(?:does|do|did|is|are)(?: not|n't) (?:really |actually )?(?:mov(?:e|ing)|go(?:ing)? anywhere)"
    r"(?! \w*(?:left|right|up|down|to\b))"
)
MOTION: Final = _lexicon(
    [
        (
            r"bounc\w+(?: back and forth| up and down| left and right| from side to side)*|back and forth|to and fro|"
            r"side to side|up and down|down and up|(?:from )?left(?: to right)? and (?:back|right)|right and left|"
            r"oscillat\w+",
            "bouncing",
        ),
        (_diagonal(_UP, _LEFT), "up-left"),
        (_diagonal(_UP, _RIGHT), "up-right"),
        (_diagonal(_DOWN, _LEFT), "down-left"),
        (_diagonal(_DOWN, _RIGHT), "down-right"),
        (_LEFT, "left"),
        (_RIGHT, "right"),
        (f"{_UP}|ris(?:es?|ing)|ascend(?:s|ing)?|climb(?:s|ing)?", "up"),
        (f"{_DOWN}|fall(?:s|ing)?|drop(?:s|ping)?|descend(?:s|ing)?|sink(?:s|ing)?", "down"),
        (
            rf"{_DOES_NOT_MOVE}|motionless|stationary|static|immobile|unmoving|at rest|"
            r"no (?:movement|motion)|(?:stay|remain)(?:s|ing)? (?:put|in (?:its )?place|where (?:it|they) \w+)|"
            r"still(?! \w+ing| there| visible| in view)",
            "still",
        ),
        (r"grow(?:s|ing|n)?|bigger|larger|expand\w*|enlarg\w*|increas\w+ in size|swell(?:s|ing)?", "growing"),
        (r"shr[iau]nk(?:s|ing)?|smaller|contract(?:s|ing)|decreas\w+ in size", "shrinking"),
        (
            r"rotat\w+|spin(?:s|ning)?|revolv\w+|twirl\w*|turn(?:s|ing)?(?= (?:around|about|round|in|on)|\W*$)",
            "rotating",
        ),
    ]
)
EVENT: Final = _lexicon(
    [
        (
            r"disappear\w*|vanish\w*|(?:goes|going|go) away|(?:is|are) gone|fad(?:es?|ing) (?:out|away)|"
            r"(?:becomes?|turns?) invisible|(?:is|are) (?:removed|hidden)",
            "disappears",
        ),
        (
            r"appear\w*(?! to (?!the\b))|emerg(?:es?|ing|ence)|shows? up|pops? (?:up|in)|comes? in(?:to view)?|"
            r"fad(?:es?|ing) in|becomes? visible|turns? up",
            "appears",
        ),
    ]
)
PERIOD: Final = _lexicon(
    [
        (r"early|beginning|start|at first|first (?:third|part|frames?|seconds?)|opening", "early"),
        (r"middle|midway|mid-\w+|half-?way|second third", "middle"),
        (r"late|later|end|ending|(?:last|final) (?:third|part|frames?|seconds?)", "late"),
    ]
)
RELATION: Final = _lexicon(
    [
        (_LEFT, "left"),
        (_RIGHT, "right"),
        ("above|over|higher|on top|upper", "above"),
        ("below|under|beneath|underneath|lower", "below"),
    ]
)

_MORE_NUMBERS: Final = (*NUMBERS, "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBER_WORDS: Final = {word: str(value) for value, word in enumerate(_MORE_NUMBERS)}
# "the red one" is a thing, not a number.
_NO_PRONOUN = "".join(f"(?<!{word} )" for word in ("the", "this", "that", "each", "every", "which", *COLOURS))
NUMBER: Final = _lexicon(
    [
        *((word, word) for word in _MORE_NUMBERS if word != "one"),
        (f"{_NO_PRONOUN}one|(?:a|an) single|only an?|just an?", "one"),
        ("none|no|nothing|not any|(?:are|is)n't any|not a single", "zero"),
        ("(?:a|one) (?:couple|pair)|both", "two"),
        ("many|several|some|a few|dozens?|lots", "many"),
        *((rf"(?<![\d.]){value}(?![.]?\d)", word) for value, word in enumerate(_MORE_NUMBERS)),
        (r"\d+(?:\.\d+)?", "another number"),
    ]
)

_ROW = {"top": "top|upper", "bottom": "bottom|lower"}
_CENTRE = "cent(?:er|re)|middle"


def _place(row: str, column: str) -> str:
    return rf"(?:{row})[- ](?:{column})|(?:{column})[- ](?:{row})"


PLACE: Final = _lexicon(
    [
        *(
            (_place(pattern, column), f"{row} {column}")
            for row, pattern in _ROW.items()
            for column in ("left", "right")
        ),
        *((f"{_place(pattern, _CENTRE)}|{pattern}", row) for row, pattern in _ROW.items()),
        *((f"{_place(_CENTRE, column)}|{column}", column) for column in ("left", "right")),
        (_CENTRE, "center"),
    ]
)

_UNKNOWN = re.compile(
    r"\b(?:(?:do|does|did|can|could|is|am|are)(?:\s?not|n't)(?: really| possible| able)?(?: to)? "
    r"(?:know|tell|say|answer|determine|be sure)|not (?:sure|certain|known)|unsure|unknown|unclear|no idea|"
    r"(?:unable|impossible|no way) to (?:tell|say|know|answer|determine)|who knows)\b"
)
_DENIAL = re.compile(r"(?:\b(?:not|never|no|neither|nor|without|rather than|instead of)|n't)\s+(?:[\w'-]+\s+){0,4}$")
_PLAIN: Final = {
    **dict.fromkeys((0x2018, 0x2019), "'"),  # single quotes
    **dict.fromkeys((0x201C, 0x201D), '"'),
    **dict.fromkeys((0x2010, 0x2011, 0x2013), "-"),  # hyphens, en dash
    0x2014: ", ",  # em dash
}
_CLAUSE_END = re.compile(r"[,.;:!?]|\b(?:but|while|whereas|then|which|and (?=an? |the ))\b")


def normalise(text: str) -> str:
    """Lower case, straight quotes and dashes, single spaces, ``can't`` and ``cannot`` alike."""
    text = text.translate(_PLAIN).casefold().replace("cannot", "can not").replace("can't", "can not")
    return " ".join(text.split())


def says_unknown(text: str) -> bool:
    """Whether the text says that it does not know."""
    return _UNKNOWN.search(text) is not None


def find_mentions(text: str, lexicon: Lexicon) -> list[Mention]:
    """The lexicon's values in normalised text, in order; a stretch of text counts for the first pattern it fits."""
    found: list[Mention] = []
    for pattern, value in lexicon:
        for match in pattern.finditer(text):
            if all(match.end() <= other.start or match.start() >= other.end for other in found):
                found.append(Mention(value=value, start=match.start(), end=match.end()))
    return sorted((m for m in found if not _is_denied(text, m.start)), key=lambda mention: mention.start)


def _is_denied(text: str, start: int) -> bool:
    """Whether a denial stands shortly before this place in the same clause."""
    before = text[:start]
    clause_start = max((match.end() for match in _CLAUSE_END.finditer(before)), default=0)
    return _DENIAL.search(before[clause_start:]) is not None
