"""Charts as at the eye doctor: many shapes, and a map that says what is where; the densest way to learn to see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

from videolm.world.sampler import ASPECTS, sample_background, sample_paint
from videolm.world.scene import Scene, Shape
from videolm.world.vocabulary import COLOURS, KINDS, is_held_out

Listing = Literal["shapes", "colours"]
SIDE = 4
"""Cells along each side of a map."""
EMPTY = "No"
"""What a map says of a cell in which no shape has its centre."""
MAP_QUESTIONS: dict[Listing, str] = {"shapes": "Which shapes are where?", "colours": "Which colours are where?"}
_SIZES = ((0.085, 0.12), (0.11, 0.17), (0.16, 0.27))
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
            words[cell_of(shape)] = shape.kind if listing == "shapes" else shape.colour
        return " ".join(words)


def cell_of(shape: Shape) -> int:
    """The cell that holds the centre of a shape, counted row by row."""
    return int(shape.y * SIDE) * SIDE + int(shape.x * SIDE)


def sample_chart(random: Random, *, shorter_side: tuple[int, int] = (96, 200)) -> Chart:
    """A random chart without a held-out combination; ``shorter_side`` bounds the picture's shorter side in pixels."""
    aspect = random.choice(ASPECTS) * random.uniform(0.95, 1.05)
    short = random.randint(*shorter_side)
    height, width = (round(short / aspect), short) if aspect < 1 else (short, round(short * aspect))
    background = sample_background(random)
    is_bright = sum(background.top) / 3 >= 165
    colours = [colour for colour in COLOURS if colour != "white" or not is_bright]
    smallest, largest = random.choice(_SIZES)
    shapes: dict[int, Shape] = {}
    for _ in range(70):
        shape = _sample_shape(random, random.uniform(smallest, largest), width / height, colours)
        if shape is not None and cell_of(shape) not in shapes and _has_room(shape, shapes, width / height):
            shapes[cell_of(shape)] = shape
    scene = Scene(
        shapes=tuple(shapes.values()), background=background, height=height + height % 2, width=width + width % 2
    )
    return Chart(scene=scene)


def _sample_shape(random: Random, radius: float, aspect: float, colours: list[str]) -> Shape | None:
    colour, kind = random.choice(colours), random.choice(KINDS)
    if is_held_out(colour, kind, "still"):
        return None
    x, y = ((random.randrange(SIDE) + random.uniform(_EDGE, 1 - _EDGE)) / SIDE for _ in range(2))
    reach_x, reach_y = radius / max(aspect, 1.0), radius * min(aspect, 1.0)
    if not (reach_x <= x <= 1 - reach_x and reach_y <= y <= 1 - reach_y):
        return None
    return Shape(
        colour=colour,
        kind=kind,
        rgb=sample_paint(random, colour),
        x=x,
        y=y,
        radius=radius,
        angle=random.uniform(-15, 15),
    )


def _has_room(shape: Shape, others: dict[int, Shape], aspect: float) -> bool:
    scale_x, scale_y = max(aspect, 1.0), max(1 / aspect, 1.0)
    return all(
        math.hypot((shape.x - other.x) * scale_x, (shape.y - other.y) * scale_y) > 1.02 * (shape.radius + other.radius)
        for other in others.values()
    )
