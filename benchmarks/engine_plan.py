"""How large the rows about the engine are: the measurement, all of it (``--full``), and a trial that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clips import Clip
from gpu_plan import GPU, TRIAL, GpuPlan

CLIP = Clip(duration_s=10)
SHORT_CLIP = Clip(duration_s=1, height=360, width=640, bit_rate=600_000)


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """Sizes of the measurement."""

    kind: str = "mid"
    side: int = 336
    tokens_a_frame: int = 144
    repeats: int = 5
    """Where a sample takes less than a minute."""
    slow_repeats: int = 3
    """Where it takes longer."""

    contexts: tuple[int, ...] = (1188, 4644)
    prefill_len: int = 4644
    vision_frames: tuple[int, ...] = (8, 32)

    clip: Clip = CLIP
    once_frames: tuple[int, ...] = (8, 32)
    once_new: int = 32
    once_slow_repeats: int = 1
    """For more than 8 frames, where a round takes minutes."""
    half_frames: tuple[int, ...] = (8,)
    """For the checkpoint in float16, with which the peer takes minutes."""
    again_frames: int = 32
    questions: int = 10
    peer_questions: int = 5
    """Which the peer is asked of them, a part that goes into the number of all."""

    short_clip: Clip = SHORT_CLIP
    short_lengths_s: tuple[int, ...] = (1, 2, 3, 4)
    """A frame is taken each second."""
    many_videos: int = 32
    many_new: int = 64
    batch_sizes: tuple[int, ...] = (1, 4, 8)
    """What the peer's best batch is looked for among."""

    concurrent: int = 8
    concurrent_frames: int = 8
    concurrent_new: int = 64

    users: int = 16
    user_videos: int = 4
    user_questions: int = 4
    user_frames: int = 4
    user_new: int = 16
    arrivals_s: float = 30.0
    """Mean time in which all requests arrive."""

    process_repeats: int = 5
    memory_frames: int = 32

    scale_frames: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    scale_requests: tuple[int, ...] = (1, 4, 16, 64)
    scale_lengths_s: tuple[int, ...] = (10, 60, 600, 3600)
    scale_new: int = 8
    scale_repeats: int = 3

    gpu: GpuPlan = GPU


DEFAULT = EnginePlan()
FULL = replace(
    DEFAULT, peer_questions=10, half_frames=(8, 32), user_frames=8, slow_repeats=5, once_slow_repeats=3, scale_repeats=5
)
_TINY = Clip(duration_s=2, height=96, width=128, bit_rate=200_000)
QUICK = EnginePlan(
    kind="small", side=56, tokens_a_frame=4, repeats=2, slow_repeats=1, contexts=(40,), prefill_len=70,
    vision_frames=(2,), clip=_TINY, once_frames=(2,), once_new=4, half_frames=(2,), again_frames=2, questions=4,
    peer_questions=2, short_clip=_TINY, short_lengths_s=(1, 2), many_videos=4, many_new=4, batch_sizes=(1, 2),
    concurrent=2, concurrent_frames=2, concurrent_new=4, users=2, user_videos=1, user_questions=2, user_frames=2,
    user_new=3, arrivals_s=0.2, process_repeats=1, memory_frames=2, scale_frames=(2, 4), scale_requests=(1, 2),
    scale_lengths_s=(2, 4), scale_new=2, scale_repeats=1, gpu=TRIAL,
)  # fmt: skip
