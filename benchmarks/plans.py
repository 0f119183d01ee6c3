"""What to measure: the plan of the reports, one with more repeats, and a quick one that only shows that all works."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from clips import CACHE, Clip
from reports import Section


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Clips, numbers of frames and repeats."""

    clips: tuple[Clip, ...]
    frame_counts: tuple[int, ...] = (8, 32, 64)
    repeats: int = 5
    long_frame_counts: tuple[int, ...] = (32,)
    """Of long clips: the documentation's loop takes half a minute for ten minutes, however few frames it keeps."""
    long_loop_repeats: int = 1
    long_s: int = 300
    startup_repeats: int = 10

    def loop_repeats(self, clip: Clip) -> int:
        """How often the documentation's loop reads this clip."""
        return self.long_loop_repeats if clip.duration_s >= self.long_s else self.repeats

    def frame_counts_of(self, clip: Clip) -> tuple[int, ...]:
        """How many frames are read of this clip."""
        return self.long_frame_counts if clip.duration_s >= self.long_s else self.frame_counts


DEFAULT = Plan(clips=(Clip(duration_s=60), Clip(duration_s=600)))
FULL = replace(DEFAULT, long_frame_counts=DEFAULT.frame_counts, long_loop_repeats=3)
QUICK = Plan(
    clips=(Clip(duration_s=2, height=180, width=320, bit_rate=200_000), Clip(duration_s=4, height=180, width=320)),
    frame_counts=(4, 8),
    long_frame_counts=(8,),
    repeats=2,
    long_loop_repeats=1,
    long_s=4,
    startup_repeats=2,
)


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark has."""
    parser.add_argument("--quick", action="store_true", help="tiny clips and two repeats: a trial, not a measurement")
    parser.add_argument("--full", action="store_true", help="larger sizes and more repeats, which take hours")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for the clips (default: a temporary one)")


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the options ask for."""
    return QUICK if arguments.quick else FULL if arguments.full else DEFAULT


def print_section(section: Section) -> None:
    """One benchmark's table on standard output."""
    print(section.as_markdown())
