"""Charts as at the eye doctor: many shapes or letters, and a map of what is where; the densest way to learn to see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Literal

import numpy as np
from PIL import Image

from videolm.world.drawing import draw_frame, paste_text
from videolm.world.language import action_word
from videolm.world.sampler import (
    ASPECTS,
    picture_size,
    sample_background,
    sample_event_time,
    sample_ink,
    sample_paint,
    sample_turn,
    sample_words,
)
from videolm.world.scene import Scene, Shape, Text
from videolm.world.vocabulary import COLOURS, EVENTS, KINDS, ROUND_KINDS, WORDS, is_held_out

Listing = Literal["shapes", "colours", "actions"]
Printed = Literal["letters", "words", "lines"]
SIDE = 4
"""Cells along each side of a map."""
EMPTY = "No"
"""What a map says of a cell in which no shape has its centre."""
MAP_QUESTIONS: dict[Listing | Printed, str] = {
    "shapes": "Which shapes are where?",
    "colours": "Which colours are where?",
    "actions": "What changes where?",
    "letters": "Which letters are where?",
    "words": "Which words are where?",
    "lines": "What is printed, line by line?",
}
LETTERS: Final = tuple(sorted({letter for word in WORDS for letter in word})) + tuple("0123456789")
_SIZES = ((0.085, 0.12), (0.11, 0.17), (0.16, 0.27))
_ACTIONS = {"still": 3, "appears": 3, "disappears": 3, "rotating": 2, "growing": 1, "shrinking": 1}
"""What shapes do where they are, and how often, in charts that change."""
_EDGE = 0.1
"""Centres keep this share of a cell away from its edges, so that it is plain in which cell they are."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture of many shapes, at most one with its centre in each of the ``SIDE`` x ``SIDE`` cells."""

    scene: Scene

    def read(self, listing: Listing) -> str:
        """A word for each cell, row by row: ``star No No ring ...``."""
        words = [EMPTY] * SIDE**2
        for shape in self.scene.shapes:
            words[cell_of(shape)] = _WORDS_OF[listing](shape)
        return " ".join(words)


_WORDS_OF: Final[dict[Listing, Callable[[Shape], str]]] = {
    "shapes": lambda shape: shape.kind, "colours": lambda shape: shape.colour, "actions": action_word,
}  # fmt: skip


def cell_at(x: float, y: float) -> int:
    """The cell that holds a point (0..1 from the left and from the top), counted row by row."""
    return int(y * SIDE) * SIDE + int(x * SIDE)


def cell_of(shape: Shape) -> int:
    """The cell that holds the centre of a shape as it begins."""
    return cell_at(shape.x, shape.y)


def sample_chart(random: Random, *, shorter_side: tuple[int, int] = (96, 200), changes: bool = False) -> Chart:
    """A random chart without a held-out combination.

    Args:
        shorter_side: Bounds of the picture's shorter side in pixels.
        changes: A clip, most of whose shapes turn, grow, shrink, appear or disappear where they are.
    """
    aspect = random.choice(ASPECTS) * random.uniform(0.95, 1.05)
    short = random.randint(*shorter_side)
    height, width = picture_size(aspect, short)
    background = sample_background(random)
    is_bright = sum(background.top) / 3 >= 165
    colours = [colour for colour in COLOURS if colour != "white" or not is_bright]
    smallest, largest = random.choice(_SIZES)
    shapes: dict[int, Shape] = {}
    for _ in range(70):
        action = random.choices(list(_ACTIONS), list(_ACTIONS.values()))[0] if changes else "still"
        shape = _sample_shape(random, random.uniform(smallest, largest), width / height, colours, action)
        if shape is not None and cell_of(shape) not in shapes and _has_room(shape, shapes, width / height):
            shapes[cell_of(shape)] = shape
    scene = Scene(
        shapes=tuple(shapes.values()), background=background, height=height + height % 2, width=width + width % 2
    )
    if changes:
        scene = replace(scene, is_clip=True, num_frames=random.randint(16, 48), fps=random.choice((10, 15, 25, 30)))
    return Chart(scene=scene)


def _sample_shape(random: Random, radius: float, aspect: float, colours: list[str], action: str) -> Shape | None:
    colour, kind = random.choice(colours), random.choice(KINDS)
    if is_held_out(colour, kind, action) or (action == "rotating" and kind in ROUND_KINDS):
        return None
    x, y = ((random.randrange(SIDE) + random.uniform(_EDGE, 1 - _EDGE)) / SIDE for _ in range(2))
    reach_x, reach_y = radius / max(aspect, 1.0), radius * min(aspect, 1.0)
    if not (reach_x <= x <= 1 - reach_x and reach_y <= y <= 1 - reach_y):
        return None
    shape = Shape(
        colour=colour,
        kind=kind,
        rgb=sample_paint(random, colour),
        x=x,
        y=y,
        radius=radius,
        angle=random.uniform(-15, 15),
    )
    if action in EVENTS:
        return replace(shape, event=action, event_time=sample_event_time(random))
    return replace(shape, motion=action, turn=sample_turn(random)) if action != "still" else shape


def _has_room(shape: Shape, others: dict[int, Shape], aspect: float) -> bool:
    scale_x, scale_y = max(aspect, 1.0), max(1 / aspect, 1.0)
    return all(
        math.hypot((shape.x - other.x) * scale_x, (shape.y - other.y) * scale_y) > 1.02 * (shape.radius + other.radius)
        for other in others.values()
    )


@dataclass(frozen=True, kw_only=True)
class Print:
    """A picture of letters or words, at most one in each of ``rows`` x ``columns`` cells."""

    scene: Scene
    """Without shapes."""
    rows: int
    columns: int
    texts: dict[int, Text]
    """By cell, counted row by row."""

    def draw(self) -> np.ndarray:
        """``[H, W, 3]`` uint8."""
        canvas = Image.fromarray(draw_frame(self.scene, 0.0).copy())
        for text in self.texts.values():
            paste_text(canvas, text)
        return np.asarray(canvas)

    def read(self) -> str:
        """What stands in each cell, row by row: ``A No 7 ...``."""
        return " ".join(
            self.texts[cell].words if cell in self.texts else EMPTY for cell in range(self.rows * self.columns)
        )


def sample_print(random: Random, *, whole_words: bool, shorter_side: tuple[int, int] = (96, 200)) -> Print:
    """Random letters and digits in 4 x 4 cells, or words and numbers in 4 rows of two."""
    aspect = random.uniform(0.75, 1.34)
    short = random.randint(*shorter_side)
    height, width = picture_size(aspect, short)
    background = sample_background(random)
    columns, tallest = (2, 0.125) if whole_words else (SIDE, 0.2)
    size = random.uniform(0.07, tallest)
    ink = sample_ink(random, background)
    texts = {}
    for cell in range(SIDE * columns):
        if random.random() < 0.2:
            continue
        row, column = divmod(cell, columns)
        words = sample_words(random) if whole_words else random.choice(LETTERS)
        x = (column + 0.5 + random.uniform(-0.15, 0.15) * (not whole_words)) / columns
        y = (row + 0.5 + random.uniform(-0.12, 0.12)) / SIDE
        texts[cell] = Text(words=words, x=x, y=y, height=size * random.uniform(0.9, 1.0), rgb=ink)
    scene = Scene(shapes=(), background=background, height=height + height % 2, width=width + width % 2)
    return Print(scene=scene, rows=SIDE, columns=columns, texts=texts)


def sample_lines(random: Random, *, shorter_side: tuple[int, int] = (96, 200), numbers: float = 0.4) -> Print:
    """One to three words or numbers (in this share), as large as their lines or smaller, one below the other.

    Of a word at the left or right edge up to a third of a letter may lie outside.
    """
    aspect = random.uniform(0.75, 1.34)
    height, width = picture_size(aspect, random.randint(*shorter_side))
    background = sample_background(random)
    ink = sample_ink(random, background)
    rows = random.choice((1, 1, 2, 3))
    texts = {}
    for row in range(rows):
        words = sample_words(random, numbers=numbers)
        # Few words are wider than 0.85 of their height for each letter: of one in twenty a part of a letter is cut off.
        widest = 0.85 * len(words)
        size = random.uniform(0.08, min(0.36, 0.94 / widest, 0.8 / rows))
        reach_x = size * widest / 2 / max(aspect, 1.0)
        x = random.uniform(reach_x, 1 - reach_x)
        y = (row + 0.5 + random.uniform(-0.5, 0.5) * (1 - 1.2 * size * rows)) / rows
        texts[row] = Text(words=words, x=x, y=y, height=size, rgb=ink)
    scene = Scene(shapes=(), background=background, height=height + height % 2, width=width + width % 2)
    return Print(scene=scene, rows=rows, columns=1, texts=texts)
