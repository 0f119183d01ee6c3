"""Tiles of pictures against transformers' LLaVA-NeXT image processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.processing.anyres import picture_tiles
from videolm.processing.pixels import PixelSettings, normalise, resize
from videolm.visual_tokens import ImageTokens

PINPOINTS = ((28, 56), (56, 28), (56, 56), (84, 28), (28, 84))
TOKENS = ImageTokens(grid=2, tile_size=28, pinpoints=PINPOINTS)
SETTINGS = PixelSettings(size=(28, 28), crop_size=(28, 28), backend="pil")
SIZES = [(20, 20), (28, 56), (40, 30), (30, 40), (31, 97), (200, 61), (57, 56), (13, 300), (1, 50), (333, 334)]


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_those_of_transformers(size: tuple[int, int]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    theirs = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[list(pair) for pair in PINPOINTS],
    )(Image.fromarray(picture(*size)), return_tensors="pt")
    ours = normalise(picture_tiles(picture(*size), SETTINGS, TOKENS), SETTINGS)
    torch.testing.assert_close(ours, theirs["pixel_values"][0], rtol=0, atol=0)
    assert theirs["image_sizes"][0].tolist() == list(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["height_width", "width_height"])
def test_there_are_as_many_tiles_as_the_layout_says(size: tuple[int, int], order: str) -> None:
    tokens = ImageTokens(grid=2, tile_size=28, pinpoints=PINPOINTS, pinpoint_order=order)
    tiles = picture_tiles(picture(*size), PixelSettings(size=(28, 28), crop_size=(28, 28)), tokens)
    assert len(tiles) == tokens.layout(*size).num_tiles
    assert {tile.shape for tile in tiles} == {(28, 28, 3)}


def test_the_odd_row_of_black_goes_last() -> None:
    white = np.full((25, 56, 3), 255, np.uint8)
    tiles = picture_tiles(white, SETTINGS, ImageTokens(grid=2, tile_size=28, pinpoints=((28, 56),)))
    assert [bool(value) for value in tiles[1][:, 0, 0]] == [False] + [True] * 25 + [False] * 2


def test_without_pinpoints_there_is_one_ordinary_tile() -> None:
    settings = PixelSettings(resize="exact", size=(28, 28), do_center_crop=False)
    (tile,) = picture_tiles(picture(40, 30), settings, ImageTokens(grid=2, tile_size=28))
    np.testing.assert_array_equal(tile, resize(picture(40, 30), (28, 28), settings))
