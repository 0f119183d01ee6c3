"""Random scenes: placed without collisions, coloured so that every name is true, for training or for testing."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from videolm.world.scene import RGB, Background, Scene, Shape, Text
from videolm.world.vocabulary import (
    CHANGES,
    COLOURS,
    DIRECTIONS,
    EVENTS,
    KINDS,
    ROUND_KINDS,
    WORDS,
    is_held_out,
)

Split = Literal["train", "test"]
SceneStyle = Literal["motion", "lively", "events", "crowd", "map", "changes", "still", "text"]
Box = tuple[float, float, float]
"""Left and top edge and the length of both sides of a part of the picture, as fractions."""
WHOLE: Box = (0.0, 0.0, 1.0)
QUARTERS: tuple[Box, ...] = ((0.0, 0.0, 0.5), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Row by row; a shape of a scene of a style in ``MAPPED`` never leaves its own."""
MAPPED: tuple[SceneStyle, ...] = ("map", "changes")

# Hue in degrees (low, high), saturation and value ranges: wide enough for other people's paint, narrow enough to name.
PAINT = {
    "red": ((-10, 8), (0.72, 1.0), (0.65, 1.0)),
    "orange": ((23, 38), (0.8, 1.0), (0.88, 1.0)),
    "yellow": ((50, 63), (0.72, 1.0), (0.85, 1.0)),
    "green": ((95, 145), (0.6, 1.0), (0.42, 1.0)),
    "blue": ((208, 242), (0.68, 1.0), (0.6, 1.0)),
    "purple": ((272, 302), (0.55, 1.0), (0.48, 0.85)),
    "white": ((0, 360), (0.0, 0.05), (0.93, 1.0)),
}
ASPECTS = (9 / 16, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9, 16 / 9, 21 / 9)
PATH_TIMES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def sample_scene(
    random: Random,
    style: SceneStyle,
    split: Split,
    *,
    shorter_side: tuple[int, int] = (96, 200),
    first_action: str | None = None,
) -> Scene:
    """A random scene.

    Args:
        style: motion (1-3 shapes, some move), lively (the same, where most change as they stay in place), events (2-3
            shapes, some appear or disappear), crowd (a clip of 1-5 shapes that stay), map (2-4 shapes, each of which
            does something within a quarter of the clip of its own: the most motions that a clip can teach), changes
            (the same, where most appear or disappear), still (a picture of 1-5 shapes), text (a picture with a printed
            word and 0-2 shapes).
        split: training scenes never hold a held-out combination; the first shape of a test scene always is one.
        shorter_side: Bounds of the shorter side in pixels.
        first_action: What one of the shapes does; None leaves it to chance.
    """
    aspect = random.choice(ASPECTS) * random.uniform(0.95, 1.05)
    short = random.randint(*shorter_side)
    height, width = picture_size(aspect, short)
    background = sample_background(random)
    look = _Look(aspect=width / height, brightness=sum(background.top) / 3)
    shapes = _sample_shapes(random, style, split, look, first_action)
    return Scene(
        shapes=shapes,
        background=background,
        text=_sample_text(random, shapes, background) if style == "text" else None,
        height=height + height % 2,
        width=width + width % 2,
        num_frames=random.randint(16, 48),
        fps=random.choice((8, 10, 12, 15, 24, 25, 30)),
        is_clip=style in ("motion", "lively", "events", "crowd", *MAPPED),
    )


def picture_size(aspect: float, shorter_side: int) -> tuple[int, int]:
    """Height and width in pixels."""
    if aspect < 1:
        return round(shorter_side / aspect), shorter_side
    return shorter_side, round(shorter_side * aspect)


def sample_background(random: Random) -> Background:
    """A background of little colour, plain or running from one tone to another, with or without grain."""

    def tone() -> RGB:
        level = random.choice((random.uniform(0.0, 0.2), random.uniform(0.2, 0.62), random.uniform(0.8, 1.0)))
        return _rgb(random.uniform(0, 360), random.uniform(0.0, 0.18), level)

    top = tone()
    bottom = tuple(min(max(c + random.randint(-40, 40), 0), 255) for c in top) if random.random() < 0.4 else top
    grain = random.choice((0, 0, 3, 8))
    return Background(top=top, bottom=(bottom[0], bottom[1], bottom[2]), grain=grain, grain_seed=random.getrandbits(31))


def _rgb(hue: float, saturation: float, value: float) -> RGB:
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def sample_paint(random: Random, colour: str) -> RGB:
    """One of the paints that go by this name."""
    hue, saturation, value = (random.uniform(*bounds) for bounds in PAINT[colour])
    return _rgb(hue, saturation, value)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What shapes have to fit into."""

    aspect: float
    brightness: float


_COUNTS: Mapping[SceneStyle, tuple[int, int]] = {
    "motion": (1, 3), "lively": (1, 3), "events": (2, 3), "crowd": (1, 5), "map": (2, 4), "changes": (2, 4),
    "still": (1, 5), "text": (0, 2),
}  # fmt: skip
"""Least and most shapes."""


def _sample_shapes(
    random: Random, style: SceneStyle, split: Split, look: _Look, first_action: str | None
) -> tuple[Shape, ...]:
    wanted = random.randint(*_COUNTS[style])
    colours = [c for c in COLOURS if c != "white" or look.brightness < 165]
    shapes: list[Shape] = []
    taken: list[str] = []
    boxes = random.sample(QUARTERS, wanted) if style in MAPPED else [WHOLE] * wanted
    for _ in range(60):
        if len(shapes) == wanted:
            break
        held_out = split == "test" and not shapes
        is_given = first_action is not None and not shapes
        action = first_action if is_given else _sample_action(random, style, num_shapes=len(shapes))
        assert action is not None
        colour, kind = random.choice(colours), random.choice(KINDS)
        if action == "rotating" and kind in ROUND_KINDS:
            continue
        name = f"{colour} {kind}"
        is_reserved = is_held_out(colour, kind, action)
        if name in taken or (held_out and not is_reserved) or (split == "train" and is_reserved):
            continue
        radius = random.uniform(0.1, 0.2) if wanted > 3 else random.uniform(0.12, 0.26)
        if style in ("still", "text"):
            radius *= random.choice((0.5, 0.75, 1.0))
        if style in MAPPED:
            radius = random.uniform(0.08, 0.13 if style == "map" else 0.17)
        shape = _sample_shape(random, colour, kind, action, radius, look.aspect, boxes[len(shapes)])
        if shape is not None and _has_room(shape, shapes, look.aspect):
            shapes.append(shape)
            taken.append(name)
    if not shapes and style != "text":
        return _sample_shapes(random, style, split, look, first_action)
    random.shuffle(shapes)
    return tuple(shapes)


def _sample_action(random: Random, style: SceneStyle, *, num_shapes: int) -> str:
    if style == "motion":
        if num_shapes and random.random() < 0.35:
            return "still"
        return random.choice((*DIRECTIONS, *DIRECTIONS, *CHANGES, "still"))
    if style == "lively":
        return random.choice((*CHANGES, "rotating", "rotating", "bouncing", random.choice(tuple(DIRECTIONS)), "still"))
    if style == "map":
        return random.choice((*DIRECTIONS, *DIRECTIONS, *CHANGES, *EVENTS, "still", "still"))
    if style == "changes" and random.random() < 0.75:
        return random.choice(EVENTS)
    if style == "events" and (num_shapes < 2 or random.random() < 0.6):
        return random.choice(EVENTS)
    return "still"


def _sample_shape(
    random: Random, colour: str, kind: str, action: str, radius: float, aspect: float, box: Box
) -> Shape | None:
    left, top, side = box
    travel_x = travel_y = 0.0
    if action in DIRECTIONS:
        toward_x, toward_y = DIRECTIONS[action]
        travel_x = random.uniform(0.28, 0.62) * side * toward_x or random.uniform(-0.03, 0.03)
        travel_y = random.uniform(0.28, 0.62) * side * toward_y or random.uniform(-0.03, 0.03)
        radius = min(radius, 0.19)
    elif action == "bouncing":
        reach = random.uniform(0.25, 0.5) * side * random.choice((-1, 1))
        travel_x, travel_y = (reach, 0.0) if random.random() < 0.5 else (0.0, reach)
        radius = min(radius, 0.19)
    elif action in ("growing", "shrinking"):
        radius = max(radius, 0.18 * side)
    reach_x, reach_y = radius / max(aspect, 1.0), radius * min(aspect, 1.0)
    x = _place(random, reach_x, travel_x, left, side)
    y = _place(random, reach_y, travel_y, top, side)
    if x is None or y is None:
        return None
    return Shape(
        colour=colour,
        kind=kind,
        rgb=sample_paint(random, colour),
        x=x,
        y=y,
        radius=radius,
        angle=random.uniform(-15, 15),
        motion=action if action not in EVENTS else "still",
        travel=(travel_x, travel_y),
        turn=sample_turn(random),
        bounces=random.choice((1.0, 1.5, 2.0)),
        event=action if action in EVENTS else None,
        event_time=sample_event_time(random),
    )


def sample_turn(random: Random) -> float:
    """By how many degrees something rotates in a clip, either way."""
    return random.choice((-1, 1)) * random.uniform(90, 190)


def sample_event_time(random: Random) -> float:
    """When something appears or disappears, in any third of the clip."""
    # Away from the borders of the thirds, and from the first and the last frame, so that the words are true.
    return random.choice((random.uniform(0.12, 0.28), random.uniform(0.4, 0.6), random.uniform(0.72, 0.88)))


def _place(random: Random, reach: float, travel: float, start: float, side: float) -> float | None:
    low, high = start + reach + max(-travel, 0.0), start + side - reach - max(travel, 0.0)
    return random.uniform(low, high) if low <= high else None


def _has_room(shape: Shape, others: list[Shape], aspect: float) -> bool:
    scale_x, scale_y = max(aspect, 1.0), max(1 / aspect, 1.0)
    for other in others:
        if shape.event and other.event and abs(shape.event_time - other.event_time) < 0.16:
            return False
        for time in PATH_TIMES:
            (x, y), (other_x, other_y) = shape.place(time), other.place(time)
            distance = math.hypot((x - other_x) * scale_x, (y - other_y) * scale_y)
            if distance < 1.08 * (shape.radius + other.radius):
                return False
    return True


def sample_words(random: Random, *, numbers: float = 0.4) -> str:
    """Something to print: a word or, in this share, a number."""
    if random.random() < 1 - numbers:
        return random.choice(WORDS)
    return str(random.randint(0, 10 ** random.randint(1, 3) - 1))


def sample_ink(random: Random, background: Background) -> RGB:
    """Nearly black on what is light, nearly white on what is dark."""
    is_light = sum(background.top) + sum(background.bottom) > 6 * 115
    level = random.randint(0, 30) if is_light else random.randint(225, 255)
    return (level, level, level)


def _sample_text(random: Random, shapes: tuple[Shape, ...], background: Background) -> Text:
    words = sample_words(random)
    ink = sample_ink(random, background)
    best = (0.5, 0.5)
    best_distance = -1.0
    for _ in range(12):
        x, y = random.uniform(0.25, 0.75), random.uniform(0.12, 0.88)
        distance = min((math.hypot(x - s.x, y - s.y) - s.radius for s in shapes), default=1.0)
        if distance > best_distance:
            best, best_distance = (x, y), distance
    return Text(words=words, x=best[0], y=best[1], height=random.uniform(0.08, 0.16), rgb=ink)
