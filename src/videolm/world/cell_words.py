"""A word for each cell of each frame: what happens there since the frame before, where a clip is cut into cells."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from videolm.world.charts import EMPTY, SIDE, cell_at
from videolm.world.language import MOTION_CLAUSES
from videolm.world.scene import Scene, Shape
from videolm.world.vocabulary import CHANGES, DIRECTIONS

__all__ = ["cell_words"]

_LEAST_STEP: Final = 0.02
"""What moves less far from one frame to the next, as a fraction of the picture, may be told from nothing at all."""


def cell_words(scene: Scene, times: Sequence[float], random: Random, *, empty: float = 0.12) -> tuple[str, ...]:
    """Words for the ``SIDE`` x ``SIDE`` cells of the frames at these times, frame by frame and row by row.

    Of the cell that holds a shape's centre: in the first frame its kind, in the last what it has done in the whole
    clip, between them what it has done since the frame before. Of what goes two ways at once either is said. Of a share
    ``empty`` of the cells that no shape touches: ``EMPTY``. Of others nothing is said (an empty word).
    """
    words = list[str]()
    for index, time in enumerate(times):
        before = times[index - 1] if index else None
        told: dict[int, set[str]] = {}
        for shape in scene.shapes:
            word = _word(shape, time, before, random, is_last=index == len(times) - 1)
            if word:
                told.setdefault(cell_at(*shape.place(time)), set()).add(word)
        touched = {cell for shape in scene.shapes for cell in _touched(shape, time, scene)}
        for cell in range(SIDE**2):
            found = told.get(cell, set())
            if len(found) == 1:
                words += found
            else:
                words.append(EMPTY if cell not in touched and random.random() < empty else "")
    return tuple(words)


def _word(shape: Shape, time: float, before: float | None, random: Random, *, is_last: bool) -> str:
    now = shape.is_visible(time)
    if before is None:
        return shape.kind if now else ""
    if shape.event and (is_last or now != shape.is_visible(before)):
        return shape.event
    if not now:
        return ""
    if is_last and shape.motion in DIRECTIONS:
        return _way(DIRECTIONS[shape.motion], 0.5, random)
    if is_last or shape.motion not in (*DIRECTIONS, "bouncing"):
        return MOTION_CLAUSES[shape.motion] if shape.motion in CHANGES else "still"
    (x, y), (old_x, old_y) = shape.place(time), shape.place(before)
    return _way((x - old_x, y - old_y), _LEAST_STEP, random)


def _way(step: tuple[float, float], least: float, random: Random) -> str:
    """The direction of a step, one of two at random where there are two; nothing where it is too short."""
    words = (("left", "right"), ("up", "down"))
    ways = [words[axis][length > 0] for axis, length in enumerate(step) if abs(length) > least]
    return random.choice(ways) if ways else ""


def _touched(shape: Shape, time: float, scene: Scene) -> list[int]:
    """The cells that the square around a shape's circle reaches, seen or not; a corner may reach a little further."""
    short = min(scene.height, scene.width)
    x, y = shape.place(time)
    reach_x, reach_y = shape.radius * short / scene.width, shape.radius * short / scene.height
    columns, rows = (
        range(max(int((centre - reach) * SIDE), 0), min(int((centre + reach) * SIDE), SIDE - 1) + 1)
        for centre, reach in ((x, reach_x), (y, reach_y))
    )
    return [row * SIDE + column for row in rows for column in columns]
