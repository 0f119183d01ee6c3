"""Reading sampled frames of a video: the documentation's loop against ``videolm.media``, compared byte for byte."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from clips import CACHE, Clip, make_clip
from documentation_loop import read_frames
from measuring import Timing, alternate
from plans import Plan, add_plan_arguments, plan_of, print_section
from reports import Section
from tqdm import tqdm

from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

COLUMNS = (
    "clip", "frames", "loop, wall ms", "ours, wall ms", "loop, CPU ms", "ours, CPU ms",
    "faster, wall", "faster, CPU", "bytes equal", "repeats", "cores busy with other work",
)  # fmt: skip


def run(plan: Plan, cache: Path = CACHE) -> Section:
    """Every clip of the plan at every number of frames."""
    rows, reading = [], []
    for clip in plan.clips:
        path = make_clip(clip, cache)
        for num_frames in tqdm(plan.frame_counts_of(clip), desc=f"decode, {clip.name}", disable=None):
            row, sentence = _compare(plan, clip, path, num_frames)
            rows.append(row)
            reading.append(sentence)
    return Section(
        title="Decoding",
        question="How long does it take to read evenly spaced frames of a video as RGB arrays of the video's own size?",
        setting=(
            f"Clips: {'; '.join(clip.description for clip in plan.clips)}. One decoder thread on both sides, files in "
            "the page cache; one call of each to warm up, whose frames are compared, then alternating calls. `loop` is "
            f"the documentation's `read_video_pyav`. Repeats are loop / ours: {plan.repeats} of each, and "
            f"{plan.long_loop_repeats} of the loop on clips of {plan.long_s} s and more, where one call takes long."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        reading=tuple(reading),
    )


def read_ours(path: Path, num_frames: int) -> tuple[np.ndarray, ...]:
    """The same frames through ``videolm.media``."""
    return load_media(path, sampling=FrameSampling(rule="arange", num_frames=num_frames), kind="video").pixels


def _compare(plan: Plan, clip: Clip, path: Path, num_frames: int) -> tuple[tuple[str, ...], str]:
    theirs, ours = read_frames(path, num_frames), read_ours(path, num_frames)
    is_equal = len(theirs) == len(ours) and all(map(np.array_equal, theirs, ours))
    del theirs, ours
    timings = alternate(
        {"loop": lambda: read_frames(path, num_frames), "ours": lambda: read_ours(path, num_frames)},
        {"loop": plan.loop_repeats(clip), "ours": plan.repeats},
    )
    return timing_row(clip.name, num_frames, timings, "yes" if is_equal else "NO"), (
        f"{clip.duration_s} s, {num_frames} frames: {ratio_text(timings, 'wall_ms')} in wall time, "
        f"{ratio_text(timings, 'cpu_ms')} in CPU time."
    )


def timing_row(name: str, num_frames: int, timings: dict[str, Timing], agreement: str) -> tuple[str, ...]:
    """One row of the table of loop against ours."""
    loop, ours = timings["loop"], timings["ours"]
    shares = [timing.others_share for timing in timings.values() if timing.others_share is not None]
    return (
        name, str(num_frames), loop.wall_text, ours.wall_text, loop.cpu_text, ours.cpu_text,
        ratio_text(timings, "wall_ms"), ratio_text(timings, "cpu_ms"), agreement,
        f"{len(loop.samples)} / {len(ours.samples)}", f"{max(shares):.0%}" if shares else "unknown",
    )  # fmt: skip


def ratio_text(timings: dict[str, Timing], column: str) -> str:
    """How many times faster ours is, by medians."""
    return f"{getattr(timings['loop'], column) / max(getattr(timings['ours'], column), 1e-6):.1f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    arguments = parser.parse_args()
    print_section(run(plan_of(arguments), arguments.cache))


if __name__ == "__main__":
    main()
