"""The words of the world: what there can be, how it can move, and which combinations only the test set shows."""

from __future__ import annotations

from typing import Final

COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "white")
KINDS: Final = ("circle", "square", "triangle", "star", "ring", "cross")
ROUND_KINDS: Final = ("circle", "ring")
"""Kinds that look the same at every angle, so they never rotate."""
SAME_AGAIN: Final = {"square": 90.0, "cross": 90.0, "triangle": 120.0, "star": 72.0}
"""Degrees after which one of the other kinds looks the same again."""

DIRECTIONS: Final = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up-left": (-1, -1),
    "up-right": (1, -1),
    "down-left": (-1, 1),
    "down-right": (1, 1),
}
"""Direction of a motion as ``(x, y)``, y pointing down as in a picture."""
CHANGES: Final = ("growing", "shrinking", "rotating", "bouncing")
MOTIONS: Final = ("still", *DIRECTIONS, *CHANGES)
EVENTS: Final = ("appears", "disappears")
ACTIONS: Final = (*MOTIONS, *EVENTS)
PERIODS: Final = ("early", "middle", "late")

NUMBERS: Final = ("zero", "one", "two", "three", "four", "five")
PLACES: Final = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Thirds of the picture, ``PLACES[row][column]``."""

WORDS: Final = (
    "GO", "STOP", "YES", "NO", "UP", "HI", "BUS", "CAT", "DOG", "SUN", "CAR", "TEA", "BOX", "RUN", "EXIT", "OPEN",
    "SALE", "TAXI", "FIRE", "HOME", "LOVE", "MILK", "PARK", "ROAD", "SHOP", "TIME", "ZOO", "HELP", "GAME", "FOOD",
)  # fmt: skip
"""Printed words; numbers of one to three digits are printed as well."""


def is_held_out(colour: str, kind: str, action: str) -> bool:
    """Whether this colour, shape and motion (or event) stand together in the test set only.

    One colour of the seven for each shape and action, so that every word is learned, and tested, in other company.
    """
    return (COLOURS.index(colour) + 2 * KINDS.index(kind) + 3 * ACTIONS.index(action)) % len(COLOURS) == 0


def period_of(time: float) -> str:
    """The third of the clip, in words, that holds ``time`` (0 = first frame, 1 = last)."""
    return PERIODS[min(int(time * 3), 2)]


def place_of(x: float, y: float) -> str:
    """The third of the picture, in words, that holds the point (0..1 from the left and from the top)."""
    return PLACES[min(int(y * 3), 2)][min(int(x * 3), 2)]
