"""Words for parts of a picture: the letters of what is printed, the kinds of the shapes, and where nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from videolm.world.charts import EMPTY
from videolm.world.drawing import letter_boxes
from videolm.world.scene import Scene, Shape, Text

__all__ = ["Placed", "placed_words"]

Placed = tuple[str, tuple[float, float, float, float]]
"""A word and the left, top, right and bottom of its part of the picture, as fractions of width and height."""
_INNER: Final = 0.5
"""Of a shape's radius: how far from its centre its word is said."""
_EMPTY_SIDE: Final = 0.12
_NUM_EMPTY: Final = 4


def placed_words(scene: Scene, texts: Sequence[Text], random: Random) -> tuple[Placed, ...]:
    """What is where in a picture as it begins, letters first; at random places with nothing there: ``EMPTY``."""
    letters = [placed for text in texts for placed in letter_boxes(text, scene.height, scene.width)]
    kinds = [(shape.kind, _around(shape, scene, _INNER)) for shape in scene.shapes]
    taken = [box for _, box in letters] + [_around(shape, scene, 1.45) for shape in scene.shapes]
    empty = list[Placed]()
    for _ in range(_NUM_EMPTY):
        left, top = random.uniform(0, 1 - _EMPTY_SIDE), random.uniform(0, 1 - _EMPTY_SIDE)
        box = (left, top, left + _EMPTY_SIDE, top + _EMPTY_SIDE)
        if not any(box[0] < right and box[2] > x and box[1] < bottom and box[3] > y for x, y, right, bottom in taken):
            empty.append((EMPTY, box))
    return (*letters, *kinds, *empty)


def _around(shape: Shape, scene: Scene, share: float) -> tuple[float, float, float, float]:
    """A square around a shape's centre that reaches so far, as a share of its radius (corners: 1.42)."""
    reach = share * shape.size(0.0) * min(scene.height, scene.width)
    x, y = shape.place(0.0)
    return x - reach / scene.width, y - reach / scene.height, x + reach / scene.width, y + reach / scene.height
