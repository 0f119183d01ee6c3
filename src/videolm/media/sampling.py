"""Which frames of a video to look at: numbers in, a list of frame positions out, nothing else.

Three rules, each named after where it comes from, drawn for 12 source frames of which 4 are asked for
(``x`` is taken)::

    frame      0  1  2  3  4  5  6  7  8  9 10 11
    arange     x  .  .  x  .  .  x  .  .  x  .  .     the models' documentation; the last frame is never taken
    linspace   x  .  .  x  .  .  .  x  .  .  .  x     the original code; first and last frame are both taken
    fps        x  .  .  .  x  .  .  .  x  .  .  .     every fourth frame: a source of 4 frames a second at fps=1

Positions ascend and never repeat. Where a source has fewer frames than asked for, the answer is all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from videolm.errors import ArgumentError

__all__ = ["FrameSampling", "SamplingRule", "arange_indices", "fps_indices", "linspace_indices"]

SamplingRule = Literal["arange", "linspace", "fps"]
RULES: tuple[SamplingRule, ...] = ("arange", "linspace", "fps")


def arange_indices(num_source_frames: int, num_frames: int) -> list[int]:
    """Equal steps from the first frame on, as the models' documentation takes them.

    ``np.arange(0, num_source_frames, num_source_frames / num_frames).astype(int)``, cut to ``num_frames``: where
    the floating-point step falls short, numpy gives one position too many. 10 frames, 4 asked for, step 2.5::

        0 . 2 . . 5 . 7 . .
    """
    _check_counts(num_source_frames, num_frames)
    if num_source_frames <= num_frames:
        return list(range(num_source_frames))
    step = num_source_frames / num_frames
    return [int(i * step) for i in range(num_frames)]


def linspace_indices(num_source_frames: int, num_frames: int) -> list[int]:
    """Equal steps from the first frame to the last, cut to whole numbers, as the original models' code takes them.

    ``np.linspace(0, num_source_frames - 1, num_frames, dtype=int)``. 10 frames, 4 asked for, step 3::

        0 . . 3 . . 6 . . 9
    """
    _check_counts(num_source_frames, num_frames)
    if num_source_frames <= num_frames:
        return list(range(num_source_frames))
    if num_frames == 1:
        return [0]
    step = (num_source_frames - 1) / (num_frames - 1)
    return [*(int(i * step) for i in range(num_frames - 1)), num_source_frames - 1]


def fps_indices(
    num_source_frames: int, source_fps: float | None, *, fps: float = 1.0, max_frames: int | None = None
) -> list[int]:
    """A fixed number of frames a second, by default one, with an upper bound, as the newest of the originals does it.

    The step is ``round(source_fps / fps)`` frames, and at least 1 (a source slower than ``fps`` gives every frame; so
    does a source whose rate is unknown). More than ``max_frames`` positions are replaced by ``linspace_indices``.
    10 frames of a source of 3 frames a second, at fps=1::

        0 . . 3 . . 6 . . 9
    """
    _check_counts(num_source_frames, 1 if max_frames is None else max_frames)
    _check_fps(fps)
    step = 1
    if source_fps is not None and math.isfinite(source_fps) and source_fps > 0:
        step = max(1, round(source_fps / fps))
    indices = range(0, num_source_frames, step)
    if max_frames is not None and len(indices) > max_frames:
        return linspace_indices(num_source_frames, max_frames)
    return list(indices)


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """How to choose frames; checked when it is made."""

    rule: SamplingRule = "linspace"
    """arange, linspace or fps."""
    num_frames: int | None = 8
    """How many frames. With the fps rule an upper bound, unless max_frames is given."""
    fps: float | None = None
    """Frames a second, for the fps rule alone; 1 if not given."""
    max_frames: int | None = None
    """Upper bound for the fps rule alone."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ArgumentError(
                f"The sampling rule is {self.rule!r}. Expected one of {', '.join(RULES)}. Choose one of these."
            )
        for name, value in (("num_frames", self.num_frames), ("max_frames", self.max_frames)):
            if value is not None:
                _check_positive_int(name, value)
        if self.rule == "fps":
            if self.fps is not None:
                _check_fps(self.fps)
            return
        if self.num_frames is None:
            raise ArgumentError(
                f"The rule {self.rule} was given no num_frames. It takes a fixed number of frames. "
                'Give num_frames, or use rule="fps".'
            )
        for name, unused in (("fps", self.fps), ("max_frames", self.max_frames)):
            if unused is not None:
                raise ArgumentError(
                    f"{name}={unused!r} was given with the rule {self.rule}. Only the fps rule uses it. "
                    f'Leave {name} out, or use rule="fps".'
                )

    def indices(self, num_source_frames: int, source_fps: float | None) -> list[int]:
        """Positions to take from a video of ``num_source_frames`` frames."""
        if self.rule == "fps":
            max_frames = self.num_frames if self.max_frames is None else self.max_frames
            return fps_indices(num_source_frames, source_fps, fps=self.fps or 1.0, max_frames=max_frames)
        assert self.num_frames is not None
        rule = arange_indices if self.rule == "arange" else linspace_indices
        return rule(num_source_frames, self.num_frames)

    def num_wanted(self, num_source_frames: int) -> int:
        """How many frames were asked for: what the answer of ``indices`` can fall short of."""
        return num_source_frames if self.rule == "fps" or self.num_frames is None else self.num_frames


def _check_counts(num_source_frames: int, num_frames: int) -> None:
    if isinstance(num_source_frames, bool) or not isinstance(num_source_frames, int) or num_source_frames < 0:
        raise ArgumentError(
            f"num_source_frames is {num_source_frames!r}. Expected a whole number, 0 or more. "
            "Pass the number of frames that the video has."
        )
    _check_positive_int("num_frames", num_frames)


def _check_positive_int(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} is {value!r}. Expected a whole number, 1 or more. Ask for at least one frame.")


def _check_fps(fps: float) -> None:
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not math.isfinite(fps) or fps <= 0:
        raise ArgumentError(f"fps is {fps!r}. Expected a number of frames a second above 0. Use for example fps=1.0.")
