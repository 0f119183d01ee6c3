"""Pixels as callers of ``forward`` pass them in, checked media one by one out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videolm.contracts import VisualInput
from videolm.errors import ArgumentError, ProcessingError
from videolm.families.call_checks import check_pixels
from videolm.visual_tokens import VisualTokens

__all__ = ["MediaArguments"]


@dataclass(frozen=True, kw_only=True)
class MediaArguments:
    """The pixel arguments of one call."""

    pixel_values: Any = None
    image_sizes: Any = None
    videos: Any = None

    @classmethod
    def of(cls, *, pixel_values: Any, pixel_values_images: Any, image_sizes: Any, videos: Any) -> MediaArguments:
        """From arguments with both names that pictures have."""
        if pixel_values is not None and pixel_values_images is not None:
            raise ArgumentError(
                "pixel_values and pixel_values_images are two names of the same argument: pass exactly one of them."
            )
        pictures = pixel_values if pixel_values is not None else pixel_values_images
        check_pixels("pixel_values", pictures)
        check_pixels("pixel_values_videos", videos)
        return cls(pixel_values=pictures, image_sizes=image_sizes, videos=videos)

    @property
    def is_empty(self) -> bool:
        """Whether there are no media at all."""
        return self.pixel_values is None and self.videos is None

    def images(self, tokens: VisualTokens) -> list[VisualInput]:
        """The pictures, in order, without the padding of those with fewer tiles."""
        self._check_sizes()
        if self.pixel_values is None:
            return []
        if not tokens.image.pinpoints:
            return self._single_tiles(tokens)
        if self.image_sizes is None:
            raise ArgumentError(
                "pixel_values came without image_sizes: the height and width of each picture are needed to lay its "
                "tiles out. Pass what the processor returned."
            )
        sizes = [(int(height), int(width)) for height, width in self.image_sizes]
        layouts = [tokens.image.layout(*size) for size in sizes]
        stacks = _tiles(self.pixel_values, [layout.num_tiles for layout in layouts])
        return [
            VisualInput(kind="image", pixel_values=tiles, size=size, num_tokens=layout.count)
            for tiles, size, layout in zip(stacks, sizes, layouts, strict=True)
        ]

    def _check_sizes(self) -> None:
        sizes = self.image_sizes
        if sizes is None:
            return
        pairs = isinstance(sizes, Tensor) and sizes.dim() == 2 and sizes.shape[1] == 2
        if self.pixel_values is None or not (pairs or all(len(size) == 2 for size in sizes)):
            came = "without pixel_values" if self.pixel_values is None else f"as {_shape(sizes)}"
            raise ArgumentError(
                f"image_sizes came {came}: expected the height and width of each picture, beside its pixels. Pass what "
                "the processor returned; arguments after pixel_values_videos are best passed by name."
            )

    def clips(self, tokens: VisualTokens) -> list[VisualInput]:
        """The videos, in order."""
        if self.videos is None:
            return []
        single = isinstance(self.videos, Tensor) and self.videos.dim() == 4
        return [_clip(frames, tokens) for frames in ([self.videos] if single else self.videos)]

    def _single_tiles(self, tokens: VisualTokens) -> list[VisualInput]:
        """Pictures of one tile each, whatever size they had."""
        pictures = self.pixel_values
        if isinstance(pictures, Tensor) and pictures.dim() == 3:
            pictures = pictures[None]
        tiles = [picture if picture.dim() == 4 else picture[None] for picture in pictures]
        size = (tokens.image.tile_size, tokens.image.tile_size)
        num_tokens = tokens.image.count(*size)
        return [VisualInput(kind="image", pixel_values=tile, size=size, num_tokens=num_tokens) for tile in tiles]


def _shape(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _clip(frames: Tensor, tokens: VisualTokens) -> VisualInput:
    size, rules = (frames.shape[-2], frames.shape[-1]), tokens.video
    return VisualInput(
        kind="video", pixel_values=frames, size=size, num_tokens=rules.count(len(frames)), budget=rules.budget
    )


def _tiles(pixel_values: Any, counts: list[int]) -> list[Tensor]:
    """One ``[tiles, 3, H, W]`` a picture."""
    if isinstance(pixel_values, Tensor) and pixel_values.dim() == 4:
        if len(pixel_values) != sum(counts):
            raise ProcessingError(
                f"pixel_values holds {len(pixel_values)} tiles, but pictures of these image_sizes have {sum(counts)}. "
                "Pass pixel_values and image_sizes of the same processor call."
            )
        return list(torch.split(pixel_values, counts))
    if len(pixel_values) != len(counts) or any(len(tiles) < n for tiles, n in zip(pixel_values, counts, strict=True)):
        raise ProcessingError(
            f"pixel_values holds {[len(tiles) for tiles in pixel_values]} tiles a picture, but image_sizes ask for "
            f"{counts}. Pass pixel_values and image_sizes of the same processor call."
        )
    return [tiles[:count] for tiles, count in zip(pixel_values, counts, strict=True)]
