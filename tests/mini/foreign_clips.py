"""Clips that other code than the world's drew, and what the bundled model says of them.

``python tests/mini/foreign_clips.py`` tells how much of all of them it describes rightly.
Another renderer (masks of whole pixels in numpy), size, codec and container than those of training: hard edges on plain
grey, one shape that goes one way.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np

Mask = Callable[[np.ndarray, np.ndarray], np.ndarray]
HEIGHT, WIDTH, NUM_FRAMES = 360, 640, 40
RGB = {
    "red": (230, 20, 20),
    "orange": (255, 140, 0),
    "yellow": (255, 230, 0),
    "green": (0, 190, 0),
    "blue": (20, 70, 240),
    "purple": (160, 30, 200),
    "white": (250, 250, 250),
}
DIRECTIONS = {"left": (-9, 0), "right": (9, 0), "up": (0, -4), "down": (0, 4)}


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Inside a five-pointed star: its reach at an angle runs straight from a point to the notch beside it.
    angle = np.mod(np.arctan2(x, -y), 2 * np.pi / 5)
    to_notch = np.minimum(angle, 2 * np.pi / 5 - angle)
    outer, inner, half = 64.0, 27.0, np.pi / 5
    reach = outer * inner * np.sin(half) / (outer * np.sin(to_notch) + inner * np.sin(half - to_notch))
    return np.hypot(x, y) < reach


MASKS: dict[str, Mask] = {
    "circle": lambda x, y: np.hypot(x, y) < 60,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 52,
    "triangle": lambda x, y: (y < 48) & (y > 2 * abs(x) - 60),
    "star": _star,
    "ring": lambda x, y: (np.hypot(x, y) < 60) & (np.hypot(x, y) > 36),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 19) & (np.maximum(abs(x), abs(y)) < 60),
}


@dataclass(frozen=True, kw_only=True)
class ForeignClip:
    """One shape that goes one way."""

    colour: str
    kind: str
    direction: str

    @property
    def sentence(self) -> str:
        """The right description."""
        article = "An" if self.colour == "orange" else "A"
        return f"{article} {self.colour} {self.kind} moves {self.direction}."

    def encode(self) -> bytes:
        """The clip in VP9 in WebM, 640 x 360, 20 frames a second."""
        buffer = io.BytesIO()
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        step_x, step_y = DIRECTIONS[self.direction]
        with av.open(buffer, "w", format="webm") as output:
            stream = output.add_stream("libvpx-vp9", rate=20, options={"deadline": "realtime", "cpu-used": "8"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(NUM_FRAMES):
                pixels = np.full((HEIGHT, WIDTH, 3), 48, np.uint8)
                shift = index - (NUM_FRAMES - 1) / 2
                x, y = WIDTH / 2 + shift * step_x, HEIGHT / 2 + shift * step_y
                pixels[MASKS[self.kind](columns - x, rows - y)] = RGB[self.colour]
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(stream.encode(None))
        return buffer.getvalue()


def all_clips() -> Iterator[ForeignClip]:
    """Every colour of every kind in every direction."""
    for colour in RGB:
        for kind in MASKS:
            for direction in DIRECTIONS:
                yield ForeignClip(colour=colour, kind=kind, direction=direction)


def main() -> None:
    """Ask for a description of each clip and count what is right in it."""
    import videolm

    session = videolm.load()
    right: Counter[str] = Counter()
    number = 0
    for clip in all_clips():
        number += 1
        text = session.ask(clip.encode(), "Describe the clip.").text
        facts = {"colour": clip.colour, "shape": clip.kind, "direction": f"moves {clip.direction}."}
        right.update(name for name, words in facts.items() if words in text)
        is_whole = text == clip.sentence
        right["whole description"] += is_whole
        right[f"whole description, {clip.direction}"] += is_whole
    for name, count in right.items():
        of = number if ", " not in name else number // len(DIRECTIONS)
        print(f"{name}: {count} of {of}")


if __name__ == "__main__":
    main()
