"""The options of one question by name, as keyword arguments or flags give them, checked and sorted by what they set."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from videolm.errors import ArgumentError
from videolm.generation.params import SamplingParams, check_number, check_whole
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling
from videolm.visual_tokens import ReductionMethod, TokenBudget

__all__ = ["MEDIA_NAMES", "TURN_NAMES", "MediaOptions", "Options"]


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """What is taken from the media; None leaves it to the model's own rule."""

    frames: int | Literal["auto"] | None = None
    """Take this many frames of each video, spread evenly; together with fps, at most this many. ``auto``: as many as a
    video's length is worth and the model's context holds, pooled and with positions stretched as that needs."""
    fps: float | None = None
    """Take this many frames of each second of a video."""
    visual_token_budget: float | None = None
    """Keep this share of a video's tokens: above 0, and 1 for all of them."""
    token_reduction: ReductionMethod | None = None
    """How tokens are left out: evs where nothing is said."""
    allow_private_hosts: bool | None = None
    """Let a URL point into this machine or its private network."""
    limits: MediaLimits | None = None
    """How large, long and slow a medium may be."""

    def __post_init__(self) -> None:
        if isinstance(self.frames, str) and self.frames != "auto":
            raise ArgumentError(f"frames is {self.frames!r}: expected a whole number or auto. Ask for 8, or for auto.")
        if self.frames is not None and self.frames != "auto":
            check_whole("frames", self.frames, 1, hint="Ask for at least one frame.")
        if self.fps is not None:
            check_number("fps", self.fps, 0.0, above=True, hint="Use for example 1.")
        if self.token_reduction is not None and self.visual_token_budget is None:
            raise ArgumentError(
                f"token_reduction is {self.token_reduction!r}, but there is no visual_token_budget: expected both, or "
                "neither. Give the share of tokens to keep, such as visual_token_budget=0.5."
            )
        _ = self.budget  # checks itself
        if self.allow_private_hosts not in (None, True, False):
            raise ArgumentError(
                f"allow_private_hosts is {self.allow_private_hosts!r}: expected True or False. Leave it out for False."
            )
        if not isinstance(self.limits, MediaLimits | None):
            raise ArgumentError(
                f"limits is {self.limits!r}: expected a MediaLimits. Write limits=videolm.MediaLimits(max_bytes=...)."
            )

    @property
    def budget(self) -> TokenBudget | None:
        """How many tokens a video keeps; None where nothing was asked for."""
        if self.visual_token_budget is None:
            return None
        return TokenBudget(fraction=self.visual_token_budget, method=self.token_reduction or "evs")

    def sampling(self, default: FrameSampling, *, max_frames: int) -> FrameSampling:
        """The rule to choose frames by: ``default`` where nothing was asked for; ``auto`` is not for here to choose.

        Args:
            max_frames: Upper bound for a number of frames that was not asked for itself.
        """
        assert self.frames != "auto", "context_fit chooses"
        if self.fps is not None:
            own = (default.max_frames or default.num_frames) if default.rule == "fps" else None
            bound = self.frames or own or max_frames
            return FrameSampling(rule="fps", fps=self.fps, num_frames=None, max_frames=bound)
        if self.frames is None:
            return default
        if default.rule == "fps":
            return FrameSampling(rule="linspace", num_frames=self.frames)
        return replace(default, num_frames=self.frames)

    def media_limits(self) -> MediaLimits:
        """The limits, with private hosts allowed where they were."""
        limits = self.limits or MediaLimits()
        return (
            limits
            if self.allow_private_hosts is None
            else replace(limits, allow_private_hosts=self.allow_private_hosts)
        )


MEDIA_NAMES = tuple(field.name for field in fields(MediaOptions))
# Which tokens end an answer is the model's business, and an Answer has no place for log probabilities.
TURN_NAMES = tuple(field.name for field in fields(SamplingParams) if field.name not in ("stop_token_ids", "logprobs"))
"""What may change from one turn of a conversation to the next."""
NAMES = (*MEDIA_NAMES, *TURN_NAMES, "system")


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options of one question."""

    media: MediaOptions
    params: SamplingParams
    system: str | None = None

    @classmethod
    def parse(
        cls, options: Mapping[str, Any], *, allowed: Sequence[str] = NAMES, stop_token_ids: tuple[int, ...] = ()
    ) -> Options:
        """Check names and values; an option that is None counts as left out."""
        given = _given(options, allowed)
        system = given.get("system")
        if system is not None and not (isinstance(system, str) and system.strip()):
            raise ArgumentError(f"system is {system!r}: expected some text. Leave it out for the model's own.")
        return cls(
            media=MediaOptions(**{name: given[name] for name in MEDIA_NAMES if name in given}),
            params=SamplingParams(**_sampling(given), stop_token_ids=stop_token_ids),
            system=system,
        )

    def for_turn(self, options: Mapping[str, Any]) -> Options:
        """These options with what one turn sets otherwise."""
        return replace(self, params=replace(self.params, **_sampling(_given(options, TURN_NAMES))))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Options that were given but change nothing."""
        params = self.params
        unused = [f"{name} {value:g}" for name, value, off in _draws(params) if value != off]
        if not params.is_greedy or not unused:
            return ()
        return (f"{', '.join(unused)}: without effect at temperature 0, where the likeliest token is always taken.",)


def _given(options: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    _check_names(options, allowed)
    return {name: value for name, value in options.items() if value is not None}


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: given[name] for name in TURN_NAMES if name in given}
    if "stop" in settings:
        settings["stop"] = _as_stops(settings["stop"])
    return settings


def _draws(params: SamplingParams) -> tuple[tuple[str, float, float], ...]:
    return (("top_k", params.top_k, 0), ("top_p", params.top_p, 1), ("min_p", params.min_p, 0))


def _as_stops(stop: Any) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else stop


def _check_names(options: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for name in options:
        if name in allowed:
            continue
        if name in NAMES:
            raise ArgumentError(
                f"The option {name} cannot change here: expected one of {', '.join(allowed)}. "
                "Give it where the media are given."
            )
        near = difflib.get_close_matches(name, allowed, n=1)
        expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(allowed)}."
        raise ArgumentError(f"There is no option {name!r}: {expected} Correct its name or leave it out.")
