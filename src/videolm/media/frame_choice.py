"""A sampling rule applied to one video, within its limits, and the warning where the video is too short for it."""

from __future__ import annotations

from videolm.errors import MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling

__all__ = ["choose_frames", "warn_of_few_frames"]


def choose_frames(
    num_source_frames: int, fps: float | None, sampling: FrameSampling, name: str, limits: MediaLimits
) -> list[int]:
    """Apply the rule; refuse more frames than the limits allow."""
    indices = sampling.indices(num_source_frames, fps)
    if len(indices) > limits.max_frames:
        raise MediaLimitError(
            f"{len(indices)} frames of {name} were asked for. Expected at most {limits.max_frames} from one video. "
            "Ask for fewer frames, or raise max_frames.",
            limit="max_frames",
        )
    return indices


def warn_of_few_frames(num_source_frames: int, sampling: FrameSampling, name: str) -> tuple[str, ...]:
    """One line where the video is shorter than the number of frames asked for, else none."""
    wanted = sampling.num_wanted(num_source_frames)
    if num_source_frames >= wanted:
        return ()
    count = f"{num_source_frames} frame{'s' * (num_source_frames != 1)}"
    return (f"{name} has {count}, fewer than the {wanted} asked for; all of them are used.",)
