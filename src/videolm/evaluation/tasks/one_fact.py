"""What an answer to a question about one fact states, as a set of values: right means exactly the expected one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from videolm.evaluation.tasks.lexicon import (
    COLOUR,
    EVENT,
    KIND,
    MOTION,
    NUMBER,
    NUMBER_WORDS,
    PERIOD,
    RELATION,
    Lexicon,
    find_mentions,
    normalise,
    says_unknown,
)
from videolm.evaluation.tasks.statements import parse_statements
from videolm.evaluation.tasks.things import blank_places, find_things

__all__ = ["ONE_FACT_CATEGORIES", "stated_facts"]

_YES = re.compile(r"\b(?:yes|yeah|yep|indeed|certainly|definitely|of course|correct|true)\b")
_NO = re.compile(r"(?:^|[.;!?] )(?:no|nope)\b(?! \w)|(?:^|[.;!?] )(?:no|nope)(?= (?:there|i|it|the|this)\b)|\bfalse\b")
_DENIES = re.compile(r"\b(?:no|not|none|nothing|never|without|absent|missing)\b|n't\b")
_DENIES_BEING = re.compile(
    r"\b(?:(?:there|it) (?:is|are)(?:n't| not| no)|(?:do|does|can)(?:n't| not) (?:see|show|contain|notice|find|have)|"
    r"(?:is|are)(?:n't| not)(?: \w+)? (?:visible|present|there|in the))\b"
)
_AFFIRMS = re.compile(
    r"\b(?:there(?:'s| is| are)|i (?:can |do )?(?:see|notice)|it (?:is|does)|visible|present|shows|contains)\b"
)
_FILLER: Final = frozenset(
    (
        "a", "an", "the", "it", "i", "in", "of", "on", "is", "are", "was", "as", "see", "can", "here", "there", "that",
        "which", "this", "text", "word", "words", "number", "digit", "digits", "letters", "sign", "picture", "image",
        "video", "clip", "say", "says", "read", "reads", "spells", "spelled", "states", "shows", "written", "writing",
        "printed",
    )
)  # fmt: skip
_NOT_THERE = re.compile(
    r"\b(?:there(?:'s| is| are) (?:no|not an?y?)|there (?:is|are)n't an?y?|(?:do|can)(?:n't| not) see an?y?)\b"
)


def stated_facts(category: str, answer: str, *, subject: str | None = None) -> frozenset[str]:
    """The values of this category that the answer states.

    Args:
        category: One of ``ONE_FACT_CATEGORIES``.
        subject: The thing asked about ("red circle"), where an answer may name it on either side of a relation.
    """
    text = normalise(answer)
    if category == "text":
        return _printed_words(text)
    stated = _relations(text, subject) if category == "relation" else _READERS[category](text)
    is_guess = bool(stated) and category != "unknown" and says_unknown(text)
    return stated | {"unknown"} if is_guess else stated


def _values(lexicon: Lexicon, text: str) -> frozenset[str]:
    return frozenset(mention.value for mention in find_mentions(text, lexicon))


def _motions(text: str) -> frozenset[str]:
    """Motions and events: where it starts or stands is none, nor is "still" in "still moving"."""
    return _values(MOTION, blank_places(text)) | _values(EVENT, text)


def _presence(text: str) -> frozenset[str]:
    if says_unknown(text):
        return frozenset({"unknown"})
    says_yes, says_no = bool(_YES.search(text)), bool(_NO.search(text))
    if says_yes or says_no:
        contradicts = says_yes and bool(_DENIES_BEING.search(text))
        return frozenset(word for word, said in (("yes", says_yes), ("no", says_no or contradicts)) if said)
    if _DENIES.search(text):
        return frozenset({"no"})
    return frozenset({"yes"}) if _AFFIRMS.search(text) else frozenset()


def _relations(text: str, subject: str | None) -> frozenset[str]:
    """Relations as seen by the subject: "the other is left of the subject" means that the subject is right of it."""
    mentions = find_mentions(text, RELATION)
    things = [thing for thing in find_things(text) if thing.name]
    subject_starts = [thing.start for thing in things if thing.name == subject]
    other_starts = [thing.start for thing in things if thing.name != subject]
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    stated = set()
    for mention in mentions:
        is_turned = subject_starts and other_starts and min(other_starts) < mention.start < min(subject_starts)
        stated.add(opposite[mention.value] if is_turned else mention.value)
    return frozenset(stated)


def _events(text: str) -> frozenset[str]:
    """Which thing appears or disappears: "red circle appears"."""
    statements = parse_statements(text)
    return frozenset(f"{s.name} {s.value}" for s in statements if s.kind == "does" and s.value.endswith("appears"))


def _printed_words(text: str) -> frozenset[str]:
    """The words left when quotes decide, or else without words about the text; digits for number words."""
    quoted = re.findall(r'"([^"]+)"', text) or re.findall(r"(?<!\w)'([^']+)'(?!\w)", text)
    words = re.findall(r"[^\W_]+(?:'\w+)?", " ".join(quoted) if quoted else text)
    kept = words if quoted else [word for word in words if word not in _FILLER]
    if len(kept) > 1 and all(len(word) == 1 for word in kept):
        kept = ["".join(kept)]
    return frozenset(NUMBER_WORDS.get(word, word) for word in kept)


def _unknown(text: str) -> frozenset[str]:
    """ "unknown" when the answer says so or denies that the thing is there, and whatever facts it states besides."""
    stated = {"unknown"} if says_unknown(text) or _NOT_THERE.search(text) else set()
    for lexicon in (COLOUR, KIND, EVENT):
        stated |= _values(lexicon, text)
    return frozenset(stated | _values(MOTION, blank_places(text)))


_READERS: Final[dict[str, Callable[[str], frozenset[str]]]] = {
    "colour": lambda text: _values(COLOUR, text),
    "shape": lambda text: _values(KIND, text),
    "motion": _motions,
    "count": lambda text: _values(NUMBER, text),
    "presence": _presence,
    "order": _events,
    "when": lambda text: _values(PERIOD, text),
    "unknown": _unknown,
}
ONE_FACT_CATEGORIES: Final = (*_READERS, "relation", "text")
