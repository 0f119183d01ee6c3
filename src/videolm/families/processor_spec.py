"""What a documented processor is without a model's files, and how many tokens its media become then."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from videolm.contracts import VisualInput
from videolm.families.processor_parts import FramePart, PicturePart, tile_side
from videolm.media.sampling import FrameSampling
from videolm.visual_tokens import ImageTokens, NewlineMode, PoolMode, VideoTokens, VisualTokens

__all__ = ["ProcessorSpec", "count_tokens", "warn_caller"]


@dataclass(frozen=True, kw_only=True)
class ProcessorSpec:
    """What one family's processor is when no model's files say otherwise."""

    image_part: type[PicturePart]
    video_part: type[FramePart]
    defaults: Mapping[str, Any]
    """Constructor arguments besides parts and template; the model's files come first."""
    sampling: FrameSampling
    pool: PoolMode | None = "average"
    newline: NewlineMode = "none"
    keep_class_token: bool = False
    """Of the frames of a video."""
    max_grid_tiles: int | None = None
    round_unpad: bool = True
    exact_frames: bool = False
    """Whether the model was trained on that number of frames and no other."""

    def visual_tokens(
        self, pictures: PicturePart, frames: FramePart, *, patch_size: int, has_class_token: bool, is_full: bool
    ) -> VisualTokens:
        """The rules of a model whose processor has these parts.

        Args:
            has_class_token: Whether the model's tower puts one before the patches.
            is_full: Whether pictures keep it.
        """
        side, frame = (tile_side(part.pixel_settings()) for part in (pictures, frames))
        tiled = self.image_part.tiled
        pinpoints = getattr(pictures, "image_grid_pinpoints", None) if tiled else None
        image = ImageTokens(
            grid=side // patch_size,
            tile_size=side,
            pinpoints=as_pinpoints(pinpoints or ()),
            keep_class_token=is_full and has_class_token,
            newline=tiled,
            max_grid_tiles=self.max_grid_tiles,
            round_unpad=self.round_unpad,
        )
        video = VideoTokens(
            grid=frame // patch_size,
            pool=self.pool,
            newline=self.newline,
            keep_class_token=self.keep_class_token and has_class_token,
            usual_frames=self.sampling.num_frames if self.exact_frames else None,
        )
        return VisualTokens(image=image, video=video)

    def check_frames(self, num_frames: int) -> None:
        """Warn of a video that is not as long as those that the model was trained on."""
        wanted = self.sampling.num_frames
        if self.exact_frames and num_frames != wanted:
            warn_caller(
                f"A video of {num_frames} frames was given: this model was trained on exactly {wanted}. "
                f"Pass {wanted} frames, or num_frames={wanted} with a path."
            )


def warn_caller(message: str) -> None:
    """Warn, naming the line outside this library that made the call."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("videolm."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def count_tokens(media: Sequence[VisualInput], tokens: VisualTokens, pinpoints: Any = None) -> list[VisualInput]:
    """The same media with their numbers of tokens, for the size that their pixels have in fact."""
    patch_size = tokens.image.tile_size // tokens.image.grid
    counted = []
    for medium in media:
        side = medium.pixel_values.shape[-1]
        if medium.kind == "video":
            num_tokens = replace(tokens.video, grid=side // patch_size).count(len(medium.pixel_values))
        else:
            image = replace(tokens.image, grid=side // patch_size, tile_size=side)
            if pinpoints is not None:
                image = replace(image, pinpoints=as_pinpoints(pinpoints), pinpoint_order="height_width")
            num_tokens = image.count(*medium.size)
        counted.append(replace(medium, num_tokens=num_tokens))
    return counted


def as_pinpoints(pairs: Any) -> tuple[tuple[int, int], ...]:
    """Pairs as files and callers write them."""
    return tuple((int(first), int(second)) for first, second in pairs)
