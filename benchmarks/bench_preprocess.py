"""From frames, and from a file, to the model's pixel values: the documentation's loop with PIL against ``videolm``."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_decode import COLUMNS, ratio_text, read_ours, timing_row
from clips import CACHE, Clip, make_clip
from documentation_loop import prepare_frames, read_frames
from measuring import Timing, alternate
from plans import Plan, add_plan_arguments, plan_of, print_section
from reports import Section
from tqdm import tqdm

from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.processing.pixels import PixelSettings, fit_frame, normalise

PIXELS = PixelSettings()
"""The defaults are those of CLIP at 336 pixels: short side 336, bicubic, centre crop."""
SETTING = (
    "Short side to 336 pixels (bicubic), centre crop 336x336, CLIP's mean and standard deviation, bfloat16. `loop` "
    "resizes with PIL and normalises in numpy, frame by frame. PyTorch and the decoder have one thread each. "
)


def run(plan: Plan, cache: Path = CACHE) -> tuple[Section, ...]:
    """Frames in memory to values, files to values, and the memory that the latter takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _from_frames(plan, cache), _from_files(plan, cache), _memory(plan, cache)
    finally:
        torch.set_num_threads(threads)


def theirs_from_file(path: Path, num_frames: int) -> torch.Tensor:
    """The documentation's way, from file to values."""
    return theirs_from_frames(read_frames(path, num_frames))


def theirs_from_frames(frames: np.ndarray) -> torch.Tensor:
    """The documentation's way, from frames to values."""
    return prepare_frames(frames, side=PIXELS.size[0], mean=PIXELS.image_mean, std=PIXELS.image_std)


def ours_from_file(path: Path, num_frames: int) -> torch.Tensor:
    """The package's way: each frame is resized as it comes out of the decoder."""
    sampling = FrameSampling(rule="arange", num_frames=num_frames)
    frames = load_media(path, sampling=sampling, kind="video", on_frame=lambda frame: fit_frame(frame, PIXELS))
    return normalise(frames.pixels, PIXELS, torch.bfloat16)


def ours_from_frames(frames: np.ndarray) -> torch.Tensor:
    """The package's way, from frames to values."""
    return normalise([fit_frame(frame, PIXELS) for frame in frames], PIXELS, torch.bfloat16)


def agreement(theirs: torch.Tensor, ours: torch.Tensor) -> str:
    """How many values are equal, and the largest difference."""
    if theirs.shape != ours.shape:
        return f"NO: shapes {tuple(theirs.shape)} and {tuple(ours.shape)}"
    difference = (theirs.float() - ours.float()).abs()
    return f"{(difference == 0).float().mean():.2%} equal, at most {difference.max():.3f} apart"


def _from_frames(plan: Plan, cache: Path) -> Section:
    clip = plan.clips[0]
    path = make_clip(clip, cache)
    rows, reading = [], []
    for num_frames in tqdm(plan.frame_counts, desc="preprocess frames", disable=None):
        frames = np.stack(read_ours(path, num_frames))
        timings, values = _time(
            lambda frames=frames: theirs_from_frames(frames), lambda frames=frames: ours_from_frames(frames), plan, clip
        )
        rows.append(timing_row(clip.name, num_frames, timings, values))
        reading.append(_sentence(f"{num_frames} frames in memory", timings))
    return Section(
        title="Preprocessing",
        question=f"How long does it take from {clip.width}x{clip.height} frames in memory to the model's pixel values?",
        setting=SETTING,
        columns=_columns(),
        rows=tuple(rows),
        reading=tuple(reading),
    )


def _from_files(plan: Plan, cache: Path) -> Section:
    rows, reading = [], []
    for clip in plan.clips:
        path = make_clip(clip, cache)
        for num_frames in tqdm(plan.frame_counts_of(clip), desc=f"file to values, {clip.name}", disable=None):
            timings, values = _time(
                lambda path=path, count=num_frames: theirs_from_file(path, count),
                lambda path=path, count=num_frames: ours_from_file(path, count),
                plan,
                clip,
            )
            rows.append(timing_row(clip.name, num_frames, timings, values))
            reading.append(_sentence(f"{clip.duration_s} s, {num_frames} frames", timings))
    return Section(
        title="File to pixel values",
        question="How long does it take from a video file to the model's pixel values?",
        setting=f"{SETTING}One call of each to warm up, whose values are compared, then alternating calls.",
        columns=_columns(),
        rows=tuple(rows),
        reading=tuple(reading),
    )


def _memory(plan: Plan, cache: Path) -> Section:
    """Peak resident memory of fresh processes."""
    clip, num_frames = plan.clips[0], plan.frame_counts[-1]
    path = make_clip(clip, cache)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        base, theirs, ours = (
            pool.apply(peak_memory_mb, (function, path, num_frames))
            for function in (None, theirs_from_file, ours_from_file)
        )
    return Section(
        title="Memory",
        question=f"How much memory does it take to make pixel values of {num_frames} frames of a video?",
        setting=f"{clip.description}; peak resident memory of a fresh process each, one run.",
        columns=("what", "peak, MB", "above imports, MB"),
        rows=(
            ("imports alone", f"{base:.0f}", "0"),
            ("documentation's loop", f"{theirs:.0f}", f"{theirs - base:.0f}"),
            ("ours", f"{ours:.0f}", f"{ours - base:.0f}"),
        ),
        reading=(f"{num_frames} frames take {theirs - base:.0f} MB in the loop and {ours - base:.0f} MB in ours.",),
    )


def peak_memory_mb(function: Callable[[Path, int], object] | None, path: Path, num_frames: int) -> float:
    """Peak resident memory of this process once it has called the function."""
    torch.set_num_threads(1)
    if function is not None:
        function(path, num_frames)
    try:
        # Unlike getrusage's value, this one does not begin at what the parent process held.
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return (int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024 / 1e6


def _time(
    theirs: Callable[[], torch.Tensor], ours: Callable[[], torch.Tensor], plan: Plan, clip: Clip
) -> tuple[dict[str, Timing], str]:
    values = agreement(theirs(), ours())
    return alternate({"loop": theirs, "ours": ours}, {"loop": plan.loop_repeats(clip), "ours": plan.repeats}), values


def _columns() -> tuple[str, ...]:
    return tuple("values" if column == "bytes equal" else column for column in COLUMNS)


def _sentence(what: str, timings: dict[str, Timing]) -> str:
    return f"{what}: {ratio_text(timings, 'wall_ms')} in wall time, {ratio_text(timings, 'cpu_ms')} in CPU time."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    arguments = parser.parse_args()
    for section in run(plan_of(arguments), arguments.cache):
        print_section(section)


if __name__ == "__main__":
    main()
