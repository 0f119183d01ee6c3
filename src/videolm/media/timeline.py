"""Presentation times of all frames -> seconds from the first frame, frames a second, duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

__all__ = ["Timeline", "make_timeline"]

RATE_TOLERANCE = 0.01
"""The rate that a file declares is believed where its time stamps agree with it this well."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When the frames of a video are shown."""

    times_s: tuple[float, ...]
    """One a frame, in display order, the first at 0; empty where nothing tells."""
    fps: float | None
    """Average frames a second."""
    duration_s: float | None
    """To the end of the last frame."""


def make_timeline(
    pts: Sequence[int | None], time_base: Fraction | None, declared_fps: Fraction | None, last_duration: int = 0
) -> Timeline:
    """Work out the times of frames from their time stamps, or from the declared rate where stamps are missing.

    Args:
        pts: one a frame, in display order.
        time_base: seconds of one unit of ``pts``.
        last_duration: of the last frame, in units of ``pts``; 0 where unknown.
    """
    declared = declared_fps if declared_fps and declared_fps > 0 else None
    stamps = [value for value in pts if value is not None]
    is_ascending = all(a < b for a, b in pairwise(stamps))
    if time_base is None or not stamps or len(stamps) < len(pts) or not is_ascending:
        return _timeline_by_rate(len(pts), declared)
    times = [(value - stamps[0]) * time_base for value in stamps]
    measured = (len(times) - 1) / times[-1] if times[-1] > 0 else None
    fps = declared if measured is None or _agree(measured, declared) else measured
    last = last_duration * time_base if last_duration > 0 else (1 / fps if fps else Fraction(0))
    return Timeline(
        times_s=tuple(float(time) for time in times),
        fps=float(fps) if fps else None,
        duration_s=float(times[-1] + last),
    )


def _agree(measured: Fraction, declared: Fraction | None) -> bool:
    return declared is not None and abs(declared - measured) <= measured * RATE_TOLERANCE


def _timeline_by_rate(num_frames: int, declared: Fraction | None) -> Timeline:
    if declared is None:
        return Timeline(times_s=(), fps=None, duration_s=None)
    return Timeline(
        times_s=tuple(float(i / declared) for i in range(num_frames)),
        fps=float(declared),
        duration_s=float(num_frames / declared),
    )
