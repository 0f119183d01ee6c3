"""A picture to tiles: the whole picture as the base tile, then the cells of the grid that its layout chose."""

from __future__ import annotations

import math

import numpy as np

from videolm.processing.pixels import PixelSettings, fit_frame, resize
from videolm.visual_tokens import ImageTokens

__all__ = ["picture_tiles"]


def picture_tiles(picture: np.ndarray, settings: PixelSettings, tokens: ImageTokens) -> list[np.ndarray]:
    """The tiles of a uint8 ``[H, W, 3]`` picture: base tile, then the grid row by row, each at the model's size."""
    layout = tokens.layout(*picture.shape[:2])
    if not layout.tile_rows:
        return [fit_frame(picture, settings)]
    side = tokens.tile_size
    canvas = _fill(picture, (layout.tile_rows * side, layout.tile_columns * side), settings)
    grid = [
        np.ascontiguousarray(canvas[row * side : (row + 1) * side, column * side : (column + 1) * side])
        for row in range(layout.tile_rows)
        for column in range(layout.tile_columns)
    ]
    return [np.ascontiguousarray(resize(picture, (side, side), settings)), *grid]


def _fill(picture: np.ndarray, target: tuple[int, int], settings: PixelSettings) -> np.ndarray:
    """The picture as large as fits, in the middle of black; an odd row or column of black goes last."""
    height, width = picture.shape[:2]
    scale_down, scale_across = target[0] / height, target[1] / width
    if scale_across < scale_down:
        size = min(math.ceil(height * scale_across), target[0]), target[1]
    else:
        size = target[0], min(math.ceil(width * scale_down), target[1])
    canvas = np.zeros((*target, 3), dtype=picture.dtype)
    top, left = (target[0] - size[0]) // 2, (target[1] - size[1]) // 2
    canvas[top : top + size[0], left : left + size[1]] = resize(picture, size, settings)
    return canvas
