"""From a scene to questions with true answers, by construction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from videolm.world.language import (
    HELD_OUT_NOUNS,
    MORE_NOUNS,
    MOTION_ANSWERS,
    NOUNS,
    PERIOD_ANSWERS,
    PERIOD_CLAUSES,
    UNKNOWN_ANSWER,
    action_word,
    at_place,
    describe,
)
from videolm.world.phrasings import NUM_HELD_OUT_PHRASINGS, PHRASINGS, Phrasings, further_phrasing
from videolm.world.sampler import QUARTERS, Split
from videolm.world.scene import Scene, Shape
from videolm.world.vocabulary import COLOURS, DIRECTIONS, KINDS, NUMBERS, PERIODS, SAME_AGAIN, is_held_out, place_of

Task = Literal[
    "colour", "shape", "motion", "count", "presence", "relation", "order", "when", "text", "unknown", "description",
    "path", "place", "map", "track", "timeline", "event", "changes", "heading", "end", "quiet",
]  # fmt: skip
SCORED_TASKS: tuple[Task, ...] = (
    "colour", "shape", "motion", "count", "presence", "relation", "order", "when", "text", "unknown", "description",
)  # fmt: skip
MAP_QUESTION = "What happens where?"
TIMELINE_QUESTION = "What happens in which order?"
CHANGES_QUESTION = "What changes in each frame?"
TRACK_QUESTION = "Where is the {name} in each frame?"
HEADING_QUESTION = "How is the {name} turned in each frame?"
NOTHING_THERE = "No"
NO_EVENT_ANSWER = "Nothing appears or disappears."
CLEAR_GAP = 0.15
"""Two shapes are left/right or above/below each other only when their centres are this far apart."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about one scene.

    ``expected`` holds the canonical fact: a colour, kind, motion, number word, yes/no, left/right/above/below,
    "red circle appears", early/middle/late, the printed text, "unknown", the whole description, or a word for each
    quarter or frame.
    """

    task: Task
    text: str
    answer: str
    expected: str
    subject: Shape | None = None
    has_held_out_phrasing: bool = False


def track(shape: Shape, times: Sequence[float]) -> Question:
    """Where a shape is at each of these times, a word each: ``left left No center``."""
    words = [
        place_of(*shape.place(time)).replace(" ", "-") if shape.is_visible(time) else NOTHING_THERE for time in times
    ]
    answer = " ".join(words)
    question = TRACK_QUESTION.format(name=shape.name)
    return Question(task="track", text=question, answer=answer, expected=answer, subject=shape)


def heading(shape: Shape, times: Sequence[float]) -> Question:
    """How a shape is turned at each of these times, in quarters of the angle after which it looks the same again.

    A number word each: ``zero one one two`` of a square that has turned by 0, 22, 22 and 45 degrees.
    """
    quarter = SAME_AGAIN[shape.kind] / 4
    answer = " ".join(NUMBERS[round(shape.heading(time) / quarter) % 4] for time in times)
    question = HEADING_QUESTION.format(name=shape.name)
    return Question(task="heading", text=question, answer=answer, expected=answer, subject=shape)


def changes(scene: Scene, times: Sequence[float]) -> Question:
    """What has appeared or disappeared since the frame before: ``No, No, red circle appears, No``."""
    listed = []
    for time, before in zip(times, (times[0], *times), strict=False):
        changed = [s for s in scene.shapes if s.is_visible(time) != s.is_visible(before)]
        listed.append(" and ".join(f"{shape.name} {shape.event}" for shape in changed) or NOTHING_THERE)
    answer = ", ".join(listed)
    return Question(task="changes", text=CHANGES_QUESTION, answer=answer, expected=answer)


def with_pronoun(question: Question) -> str:
    """The question with "it" in the place of what it is about, where it asks what that is like or does."""
    shape = question.subject
    if shape is None or question.task not in ("colour", "shape", "motion", "when", "path", "place"):
        return question.text
    names = (
        f"{shape.colour} (?:one|object|thing|figure)"
        if question.task == "shape"
        else f"{shape.name}|{shape.kind}|shape"
    )

    def pronoun(found: re.Match[str]) -> str:
        word = "its" if found[2] else "it"
        return word.capitalize() if found[1] == "The" else word

    return re.sub(rf"\b([Tt]he) (?:{names})\b('s)?", pronoun, question.text, count=1)


class QuestionMaker:
    """Makes questions about one scene, in random phrasings of one split; all but "base" are for training alone."""

    def __init__(self, scene: Scene, random: Random, split: Split, *, phrasings: Phrasings = "base") -> None:
        assert split == "train" or phrasings == "base"
        self.scene = scene
        self.random = random
        self.split = split
        self.phrasings = phrasings

    def tasks(self) -> list[Task]:
        """The tasks that make sense for this scene."""
        return [task for task in (*SCORED_TASKS, "path", "place") if self.make(task) is not None]

    def make(self, task: Task) -> Question | None:
        """A random question of this task, or None where the scene has none."""
        maker = getattr(self, f"_{task}")
        question: Question | None = maker()
        return question

    def _phrase(self, key: str, **slots: str) -> tuple[str, bool]:
        phrasings = PHRASINGS[key]
        last_seen = len(phrasings) - (NUM_HELD_OUT_PHRASINGS if len(phrasings) > 4 else 0)
        index = self.random.randrange(last_seen)
        if self.split == "test" and last_seen < len(phrasings) and self.random.random() < 0.5:
            index = self.random.randrange(last_seen, len(phrasings))
        view = self.random.choice(("video", "clip") if self.scene.is_clip else ("picture", "image"))
        further = further_phrasing(key, self.random, self.phrasings)
        if further is not None:
            text = further.format(view=view, **slots)
            return f"{text[0].upper()}{text[1:]}", False
        return phrasings[index].format(view=view, **slots), index >= last_seen

    def _question(
        self, task: Task, key: str, answer: str, expected: str, subject: Shape | None = None, **slots: str
    ) -> Question:
        text, held_out = self._phrase(key, **slots)
        return Question(
            task=task, text=text, answer=answer, expected=expected, subject=subject, has_held_out_phrasing=held_out
        )

    def _pick(self, shapes: list[Shape]) -> Shape | None:
        """A random shape; in a test one of those whose combination training never shows, where there is one."""
        if self.split == "test":
            shapes = [s for s in shapes if is_held_out(s.colour, s.kind, s.action)] or shapes
        return self.random.choice(shapes) if shapes else None

    def _colour(self) -> Question | None:
        shape = self._pick([s for s in self.scene.shapes if len(self.scene.find(kind=s.kind)) == 1])
        if shape is None:
            return None
        noun = "shape" if len(self.scene.shapes) == 1 and self.random.random() < 0.2 else shape.kind
        return self._question("colour", "colour", f"{shape.colour.capitalize()}.", shape.colour, shape, kind=noun)

    def _shape(self) -> Question | None:
        shape = self._pick([s for s in self.scene.shapes if len(self.scene.find(colour=s.colour)) == 1])
        if shape is None:
            return None
        answer = f"{shape.kind.capitalize()}."
        return self._question("shape", "shape", answer, shape.kind, shape, colour=shape.colour)

    def _motion(self) -> Question | None:
        shape = self._pick([s for s in self.scene.shapes if self.scene.is_clip and s.event is None])
        if shape is None:
            return None
        name = self._reference(shape)
        return self._question("motion", "motion", MOTION_ANSWERS[shape.motion], shape.motion, shape, name=name)

    def _reference(self, shape: Shape) -> str:
        """Mostly the full name; sometimes the kind or "shape" where that is enough."""
        if len(self.scene.shapes) == 1 and self.random.random() < 0.3:
            return "shape"
        if len(self.scene.find(kind=shape.kind)) == 1 and self.random.random() < 0.3:
            return shape.kind
        return shape.name

    def _count(self) -> Question | None:
        if self.scene.has_events or not self.scene.shapes:
            return None
        things, counted = "shapes", self.scene.shapes
        draw = self.random.random()
        if draw < 0.12:
            kind = self.random.choice(KINDS)
            things, counted = "crosses" if kind == "cross" else f"{kind}s", self.scene.find(kind=kind)
        elif draw < 0.24:
            colour = self.random.choice(COLOURS)
            things, counted = f"{colour} shapes", self.scene.find(colour=colour)
        elif draw < 0.4:
            things = "objects"
        number = NUMBERS[len(counted)]
        return self._question("count", "count", f"{number.capitalize()}.", number, things=things)

    def _presence(self) -> Question | None:
        if not self.scene.shapes:
            return None
        if self.random.random() < 0.5:
            shape = self.random.choice(self.scene.shapes)
            name = self.random.choice((shape.name, shape.name, shape.kind, f"{shape.colour} shape"))
            return self._question("presence", "presence", "Yes.", "yes", shape, name=name)
        return self._question("presence", "presence", "No.", "no", name=self._absent_name())

    def _absent_name(self) -> str:
        """A name that is not there; half of them share a colour or a kind with something that is."""
        shown = self.random.choice(self.scene.shapes)
        while True:
            colour, kind = self.random.choice(COLOURS), self.random.choice(KINDS)
            draw = self.random.random()
            if draw < 0.25:
                colour = shown.colour
            elif draw < 0.5:
                kind = shown.kind
            if draw > 0.85 and not self.scene.find(kind=kind):
                return kind
            if not self.scene.find(colour=colour, kind=kind):
                return f"{colour} {kind}"

    def _relation(self) -> Question | None:
        still = [s for s in self.scene.shapes if s.motion not in (*DIRECTIONS, "bouncing") and s.event is None]
        if len(still) < 2:
            return None
        shape, other = self.random.sample(still, 2)
        gap_x, gap_y = shape.x - other.x, shape.y - other.y
        axes = [axis for axis, gap in (("x", gap_x), ("y", gap_y)) if abs(gap) > CLEAR_GAP]
        if not axes:
            return None
        if self.random.choice(axes) == "x":
            key, word = "left or right", "left" if gap_x < 0 else "right"
        else:
            key, word = "above or below", "above" if gap_y < 0 else "below"
        answer = f"{word.capitalize()}."
        return self._question("relation", key, answer, word, shape, name=shape.name, other=other.name)

    def _events(self) -> list[Shape]:
        return sorted((s for s in self.scene.shapes if s.event), key=lambda shape: shape.event_time)

    def _order(self) -> Question | None:
        events = self._events()
        if len(events) < 2:
            return None
        key, shape = self.random.choice((("first", events[0]), ("last", events[-1])))
        return self._question("order", key, f"The {shape.name} {shape.event}.", f"{shape.name} {shape.event}", shape)

    def _when(self) -> Question | None:
        shape = self._pick(self._events())
        if shape is None or shape.event is None:
            return None
        slots = {"name": shape.name, "event": shape.event.removesuffix("s"), "events": shape.event}
        return self._question("when", "when", PERIOD_ANSWERS[shape.period], shape.period, shape, **slots)

    def _text(self) -> Question | None:
        if self.scene.text is None:
            return None
        return self._question("text", "text", f"{self.scene.text.words}.", self.scene.text.words)

    def _unknown(self) -> Question | None:
        use_held_out = self.split == "test" and self.random.random() < 0.5
        nouns = (*NOUNS, *MORE_NOUNS) if self.phrasings in ("most", "all") else NOUNS
        noun = self.random.choice(HELD_OUT_NOUNS if use_held_out else nouns)
        return self._question("unknown", "unknown", UNKNOWN_ANSWER, "unknown", noun=noun)

    def _description(self) -> Question | None:
        places = {shape.name: place_of(shape.x, shape.y) for shape in self.scene.shapes}
        text = describe(self.scene, places)
        return self._question("description", "description", text, text)

    def _path(self) -> Question | None:
        shape = self._pick([s for s in self.scene.shapes if self.scene.is_clip and s.motion in DIRECTIONS])
        if shape is None:
            return None
        start, end = place_of(shape.x, shape.y), place_of(*shape.place(1.0))
        answer = f"It starts {at_place(start)} and ends {at_place(end)}."
        return self._question("path", "path", answer, answer, shape, name=shape.name)

    def _place(self) -> Question | None:
        shape = self._pick([s for s in self.scene.shapes if s.motion not in (*DIRECTIONS, "bouncing")])
        if shape is None:
            return None
        place = place_of(shape.x, shape.y)
        answer = at_place(place)
        return self._question("place", "place", f"{answer[0].upper()}{answer[1:]}.", place, shape, name=shape.name)

    def _end(self) -> Question | None:
        """Where a shape is in the last frame."""
        shape = self._pick([s for s in self.scene.shapes if self.scene.is_clip and s.is_visible(1.0)])
        if shape is None:
            return None
        place = place_of(*shape.place(1.0))
        answer = at_place(place)
        return self._question("end", "end", f"{answer[0].upper()}{answer[1:]}.", place, shape, name=shape.name)

    def _quiet(self) -> Question | None:
        """What happens first or last, of a clip in which nothing appears or disappears."""
        if self.scene.has_events or not self.scene.is_clip:
            return None
        return self._question("quiet", self.random.choice(("first", "last")), NO_EVENT_ANSWER, "no event")

    def _map(self) -> Question | None:
        """A word for each quarter, row by row: what the shape there does, and when if it appears or disappears."""
        words = [NOTHING_THERE] * len(QUARTERS)
        for shape in self.scene.shapes:
            quarter = int(shape.y * 2) * 2 + int(shape.x * 2)
            words[quarter] = action_word(shape)
        answer = " ".join(words)
        return Question(task="map", text=MAP_QUESTION, answer=answer, expected=answer)

    def _timeline(self) -> Question | None:
        """All events from the first to the last: red circle appears, blue star disappears."""
        events = self._events()
        if len(events) < 2:
            return None
        answer = ", ".join(f"{shape.name} {shape.event}" for shape in events)
        return Question(task="timeline", text=TIMELINE_QUESTION, answer=answer, expected=answer)

    def _event(self) -> Question | None:
        """What happens in one third of the clip."""
        events = self._events()
        if not events:
            return None
        period = self.random.choice((self.random.choice(PERIODS), self.random.choice(events).period))
        named = " and ".join(f"the {shape.name} {shape.event}" for shape in events if shape.period == period)
        answer = f"{named[0].upper()}{named[1:]}." if named else "Nothing."
        return self._question("event", "event", answer, answer, when=PERIOD_CLAUSES[period])
