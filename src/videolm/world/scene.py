"""A scene as data: shapes with their places, sizes, motions and events, as functions of time.

Time runs from 0 (first frame) to 1 (last frame). Places are fractions of width and height, radii fractions of the
shorter side, angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from videolm.world.vocabulary import DIRECTIONS, EVENTS, MOTIONS, period_of

RGB = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape and what it does."""

    colour: str
    kind: str
    rgb: RGB
    x: float
    y: float
    radius: float
    angle: float = 0.0
    motion: str = "still"
    travel: tuple[float, float] = (0.0, 0.0)
    """How far it goes, as fractions of width and height (moving, bouncing)."""
    turn: float = 0.0
    """Degrees it turns in the whole clip (rotating)."""
    bounces: float = 1.0
    """How often it goes there and back (bouncing)."""
    event: str | None = None
    event_time: float = 0.0

    def __post_init__(self) -> None:
        assert self.motion in MOTIONS, self.motion
        assert self.event is None or self.event in EVENTS, self.event

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def action(self) -> str:
        """What it does, as one word: its event if it has one, else its motion."""
        return self.event or self.motion

    @property
    def period(self) -> str:
        """When its event happens: early, middle or late."""
        return period_of(self.event_time)

    def is_visible(self, time: float) -> bool:
        if self.event is None:
            return True
        return (time >= self.event_time) == (self.event == "appears")

    def place(self, time: float) -> tuple[float, float]:
        """Centre at ``time``."""
        if self.motion in DIRECTIONS:
            share = time
        elif self.motion == "bouncing":
            share = 1 - abs((time * self.bounces * 2) % 2 - 1)
        else:
            share = 0.0
        return self.x + share * self.travel[0], self.y + share * self.travel[1]

    def size(self, time: float) -> float:
        """Radius at ``time``: a growing shape ends, and a shrinking one begins, at ``radius``."""
        smallest = 0.42
        if self.motion == "growing":
            return self.radius * (smallest + (1 - smallest) * time)
        if self.motion == "shrinking":
            return self.radius * (1 - (1 - smallest) * time)
        return self.radius

    def heading(self, time: float) -> float:
        """Angle at ``time``."""
        return self.angle + (self.turn * time if self.motion == "rotating" else 0.0)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A printed word or number."""

    words: str
    x: float
    y: float
    height: float
    """Of a capital letter, as a fraction of the shorter side."""
    rgb: RGB


@dataclass(frozen=True, kw_only=True)
class Background:
    """A colour that runs from ``top`` to ``bottom``, with grain of the given strength (0..255)."""

    top: RGB
    bottom: RGB
    grain: int = 0
    grain_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything there is to see, and the format it is shown in."""

    shapes: tuple[Shape, ...]
    background: Background
    text: Text | None = None
    height: int = 240
    width: int = 320
    num_frames: int = 1
    fps: int = 10
    is_clip: bool = field(default=False)

    def in_reading_order(self) -> tuple[Shape, ...]:
        """Shapes from left to right by where they start: the order in which a description names them."""
        return tuple(sorted(self.shapes, key=lambda shape: (shape.x, shape.y)))

    @property
    def has_events(self) -> bool:
        """Whether a shape appears or disappears."""
        return any(shape.event for shape in self.shapes)

    def find(self, *, colour: str | None = None, kind: str | None = None) -> tuple[Shape, ...]:
        """The shapes of this colour and kind."""
        return tuple(s for s in self.shapes if colour in (None, s.colour) and kind in (None, s.kind))
