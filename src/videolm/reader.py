"""Media in, what one model sees of them out: its choice of frames and the pixels made of them; needs no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image

from videolm.context_fit import ContextFit
from videolm.contracts import Frames, VisualInput
from videolm.errors import ArgumentError
from videolm.media.content import open_content
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling, fps_indices
from videolm.options import MEDIA_NAMES, MediaOptions, Options
from videolm.processing.processor import Processor
from videolm.processing.time_instruction import unknown_times
from videolm.stopwatch import Stopwatch
from videolm.visual_tokens import VideoTokens

MOST_VISUAL = 0.75
"""Share of the context that frames may fill where their number is ours to choose."""

Kind = Literal["auto", "image", "video"]
Medium = tuple[Frames, VisualInput]
OnDownload = Callable[[int, int | None], None]
Source = tuple[Any, Kind]

__all__ = ["KnownMedia", "Loader", "Medium", "OnDownload", "Reader", "Source", "sources_of"]


class Loader(Protocol):
    """Reads media in the place of ``load_media``, such as in other processes; frames of videos come back prepared."""

    def __call__(
        self,
        source: Any,
        *,
        sampling: FrameSampling,
        kind: Kind = "auto",
        limits: MediaLimits | None = None,
        progress: OnDownload | None = None,
    ) -> Frames: ...


class KnownMedia(Protocol):
    """Media that were read and encoded before."""

    def find(self, content: str) -> Medium | None:
        """The medium of this content, with its features in the place of pixels."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How the media of one question are taken."""

    sampling: FrameSampling
    rules: VideoTokens
    limits: MediaLimits
    on_download: OnDownload | None
    fit: ContextFit | None = None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads media as one model takes them."""

    processor: Processor
    sampling: FrameSampling
    """How frames are chosen where nothing else is asked for."""
    context_len: int
    """The most tokens that the model's decoder was trained for."""
    window: int
    """The same before anything is done for a single prompt."""
    may_stretch: bool = False
    """Whether a prompt's positions may be divided by more than the model does anyway."""
    load: Loader | None = None
    """What reads media; None: this process itself."""

    def inspect(self, media: Any, options: Mapping[str, Any], *, on_download: OnDownload | None = None) -> list[Medium]:
        """What the model would see: the frames taken from each medium, and the pixels made of them."""
        parsed = Options.parse(options, allowed=MEDIA_NAMES)
        return self.read(sources_of(media), parsed.media, Stopwatch(torch.device("cpu")), on_download=on_download)

    def read(
        self,
        sources: list[Source],
        options: MediaOptions,
        watch: Stopwatch,
        *,
        on_download: OnDownload | None = None,
        known: KnownMedia | None = None,
    ) -> list[Medium]:
        """Read all sources, timing the stages ``decode`` and ``preprocess``.

        Args:
            known: Media that were read and encoded before, which need no decoding.
        """
        return list(self.read_each(sources, options, watch, on_download=on_download, known=known))

    def read_each(
        self,
        sources: list[Source],
        options: MediaOptions,
        watch: Stopwatch,
        *,
        on_download: OnDownload | None = None,
        known: KnownMedia | None = None,
    ) -> Iterator[Medium]:
        """The same one by one, so that a caller knows which of them cannot be read."""
        plan = self._plan(options, len(sources), on_download)
        for source, kind in sources:
            yield self._read_one(source, kind, plan, watch, known)

    def _plan(self, options: MediaOptions, num_media: int, on_download: OnDownload | None) -> _Plan:
        limits = options.media_limits()
        rules = self.processor.tokens.video.within(options.budget or self.processor.tokens.video.budget)
        if options.frames == "auto":
            fit = ContextFit(window=self.window, may_stretch=self.may_stretch, rules=rules, num_videos=num_media)
            sampling = fit.sampling(self.sampling, options.fps, limits.max_frames)
            return _Plan(sampling=sampling, rules=rules, limits=limits, on_download=on_download, fit=fit)
        max_frames = rules.most_frames(int(self.context_len * MOST_VISUAL))
        sampling = options.sampling(self.sampling, max_frames=max_frames)
        return _Plan(sampling=sampling, rules=rules, limits=limits, on_download=on_download)

    def _read_one(self, source: Any, kind: Kind, plan: _Plan, watch: Stopwatch, known: KnownMedia | None) -> Medium:
        content = ""
        if known is not None:
            with watch.measure("decode"):
                source, name, digest = open_content(source, plan.limits, plan.on_download)
                if (found := self._find(known, digest, kind, plan)) is not None:
                    return _renamed(found, name)
            content = self._content(digest, kind, plan)
        with watch.measure("decode"):
            load = self.load or partial(load_media, on_frame=self._prepare_frame(watch))
            frames = load(source, sampling=plan.sampling, kind=kind, limits=plan.limits, progress=plan.on_download)
        with watch.measure("preprocess"):
            frames, visual = self._prepare(frames, plan.rules, plan.fit)
        untimed = self.processor.time_instruction and not visual.note
        return _with_warnings(frames, plan.sampling, plan.rules, untimed=untimed), replace(visual, content=content)

    def _prepare_frame(self, watch: Stopwatch) -> Callable[[np.ndarray], np.ndarray]:
        def prepare_frame(frame: np.ndarray) -> np.ndarray:
            with watch.measure("preprocess"):
                return self.processor.prepare_frame(frame)

        return prepare_frame

    def _find(self, known: KnownMedia, digest: str, kind: Kind, plan: _Plan) -> Medium | None:
        """What is known of a medium, also where it was read without a word of its kind and turned out to be of this."""
        kinds: tuple[Kind, ...] = ("auto", kind)
        for told in dict.fromkeys(kinds):
            found = known.find(self._content(digest, told, plan))
            if found is not None and kind in (told, found[0].kind):
                return found
        return None

    def _content(self, digest: str, kind: Kind, plan: _Plan) -> str:
        """A hash of all that decides what the model sees of a medium."""
        processor = self.processor
        settings = (processor.image_pixels, processor.video_pixels, processor.tokens, processor.dtype)
        choices = (digest, kind, plan.sampling, plan.rules.budget, processor.time_instruction)
        return hashlib.sha256(repr((settings, choices)).encode()).hexdigest()

    def _prepare(self, frames: Frames, rules: VideoTokens, fit: ContextFit | None) -> Medium:
        if fit is None or frames.kind == "image":
            return frames, self.processor.prepare_medium(frames, rules.budget)
        fitted = fit.fit(len(frames.pixels))
        chosen = fitted.chosen(len(frames.pixels), rules)
        line = _tell(frames, chosen, self.window)
        visual = self.processor.prepare_medium(frames, fitted.budget)
        frames = replace(frames, chosen=chosen, warnings=(*frames.warnings, line))
        return frames, replace(visual, rope_factor=fitted.rope_factor)


def sources_of(media: Any) -> list[Source]:
    """One source or several; a list of nothing but pictures is the frames of one video."""
    if not isinstance(media, list | tuple | None):
        return [(media, "auto")]
    if not media:
        raise ArgumentError(
            "No media were given: expected at least one video or picture. Use chat to talk without any."
        )
    if len(media) > 1 and all(_is_picture(item) for item in media):
        return [(media, "video")]
    return [(item, "auto") for item in media]


def _is_picture(item: Any) -> bool:
    return isinstance(item, Image.Image) or getattr(item, "ndim", None) == 3


def _with_warnings(frames: Frames, sampling: FrameSampling, rules: VideoTokens, *, untimed: bool) -> Frames:
    if frames.kind == "image":
        return frames
    usual = rules.warn_of(len(frames.pixels), frames.source)
    times = (f"{unknown_times(frames)} A video file has a clock.",) if untimed else ()
    warnings = (*frames.warnings, *_warn_of_bound(frames, sampling), *usual, *times)
    return replace(frames, warnings=tuple(dict.fromkeys(warnings)))  # Frames may have been read here before.


def _renamed(medium: Medium, name: str) -> Medium:
    """A medium that was read under another name before."""
    frames, visual = medium
    warnings = tuple(
        name + line.removeprefix(frames.source) if line.startswith(frames.source) else line for line in frames.warnings
    )
    return replace(frames, source=name, warnings=warnings), visual


def _tell(frames: Frames, chosen: Mapping[str, float], window: int) -> str:
    """What was chosen for a video, for people."""
    factor = chosen["rope_factor"]
    pooled = f", pooled with stride {chosen['pool_stride']:g}" if "pool_stride" in chosen else ""
    return (
        f"{frames.source}: chosen are {chosen['frames']:g} of {frames.num_source_frames} frames{pooled}, "
        f"{chosen['tokens_per_frame']:g} tokens each, and positions "
        + ("as they are" if factor == 1 else f"divided by {factor:g}")
        + f", for a context of {window}."
    )


def _warn_of_bound(frames: Frames, sampling: FrameSampling) -> tuple[str, ...]:
    """One line where a number of frames a second gave more frames than are taken, else none."""
    if sampling.rule != "fps" or frames.chosen is not None:
        return ()
    rate = sampling.fps or 1.0
    wanted = len(fps_indices(frames.num_source_frames, frames.fps, fps=rate))
    if wanted <= len(frames.frame_indices) or len(frames.frame_indices) < (sampling.max_frames or 0):
        return ()
    taken = len(frames.frame_indices)
    return (f"{frames.source} has {wanted} frames at {rate:g} a second; {taken} spread evenly are used.",)
