"""A model's context in, how a video is taken so that it fits out: frames, pooling, and how far positions are divided.

A video is worth a frame a second, and no fewer than the model usually takes. Where so many do not fit, this is done,
in this order: positions are divided by 2, which is as far as these models were shown to stand; up to half of the frames
are left out; frames are pooled with twice the stride; more frames are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from videolm.media.sampling import FrameSampling, fps_indices, linspace_indices
from videolm.visual_tokens import TokenBudget, VideoTokens

__all__ = ["ContextFit", "FittedVideo"]

_FRAMES_A_SECOND = 1.0
_MOST_STRETCH = 2.0
_SMALLEST_SIDE = 4
"""Tokens a side of a frame below which it is not pooled further."""
_TEXT_TOKENS = 1000
"""What the linear scaling rule leaves for text; never more than a quarter of the context."""


@dataclass(frozen=True, kw_only=True)
class FittedVideo:
    """How the tokens of one video are made."""

    budget: TokenBudget
    rope_factor: float
    most_frames: int

    def chosen(self, num_frames: int, rules: VideoTokens) -> dict[str, float]:
        """What was chosen, by names for JSON."""
        within = rules.within(self.budget)
        pooled = {"pool_stride": within.stride} if rules.pool is not None else {}
        return {"frames": num_frames, **pooled, "tokens_per_frame": within.per_frame, "rope_factor": self.rope_factor}


@dataclass(frozen=True, kw_only=True)
class ContextFit:
    """Fits ``num_videos`` videos of one prompt into a context, each into an equal share."""

    window: int
    """Positions that the model was trained for."""
    may_stretch: bool
    """Whether positions may be divided by more than the model does anyway."""
    rules: VideoTokens
    """The model's own, within the budget that was asked for."""
    num_videos: int = 1

    def sampling(self, default: FrameSampling, fps: float | None, limit: int) -> FrameSampling:
        """As many frames as a video is worth and as fit, at most ``limit``."""
        if self.rules.usual_frames is not None:
            return default
        fewest = 1 if default.rule == "fps" else default.num_frames or 1
        return _FittedSampling(
            rule="fps", fps=fps or _FRAMES_A_SECOND, num_frames=None, max_frames=limit, fit=self, fewest=fewest
        )

    def num_frames(self, num_worth: int) -> int:
        """How many frames to take of a video that is worth so many."""
        own = max(way.most_frames for way in self._ways() if way.budget.stride is None)
        most = own if num_worth <= 2 * own else max(way.most_frames for way in self._ways())
        return min(num_worth, most)

    def fit(self, num_frames: int) -> FittedVideo:
        """The first way in which so many frames fit; where they never do, the last."""
        ways = list(self._ways())
        return next((way for way in ways if num_frames <= way.most_frames), ways[-1])

    def _ways(self) -> Iterator[FittedVideo]:
        own = self.rules.budget
        budgets, coarser = [own], replace(own, stride=2 * self.rules.stride)
        if self.rules.has_free_stride and self.rules.within(coarser).side >= _SMALLEST_SIDE:
            budgets.append(coarser)
        for budget in budgets:
            for factor in (1.0, _MOST_STRETCH) if self.may_stretch else (1.0,):
                positions = self.window * factor
                room = int(max(positions - _TEXT_TOKENS, positions * 0.75)) // self.num_videos
                most = self.rules.within(budget).most_frames(room)
                yield FittedVideo(budget=budget, rope_factor=factor, most_frames=most)


@dataclass(frozen=True, kw_only=True)
class _FittedSampling(FrameSampling):
    """The fps rule, where a video's worth in frames is held against what fits."""

    fit: ContextFit
    fewest: int

    def indices(self, num_source_frames: int, source_fps: float | None) -> list[int]:
        by_rate = fps_indices(num_source_frames, source_fps, fps=self.fps or _FRAMES_A_SECOND)
        worth = min(max(len(by_rate), self.fewest), self.max_frames or num_source_frames)
        count = self.fit.num_frames(worth)
        return by_rate if count == len(by_rate) else linspace_indices(num_source_frames, count)
