"""Tiles of pictures against transformers' LLaVA-NeXT image processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.errors import ArgumentError
from videolm.models.fusion import lay_out_image
from videolm.processing.anyres import picture_tiles
from videolm.processing.pixels import PixelSettings, normalise, resize
from videolm.visual_tokens import ImageTokens

PINPOINTS = ((28, 56), (56, 28), (56, 56), (84, 28), (28, 84))
TOKENS = ImageTokens(grid=2, tile_size=28, pinpoints=PINPOINTS)
SETTINGS_112 = PixelSettings(size=(112, 112), crop_size=(112, 112), backend="pil")
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


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("most_tiles", [None, 1])
@pytest.mark.parametrize("size", [(280, 280), (280, 560), (400, 300), (300, 400), (310, 970), (570, 560)])
def test_the_box_of_a_token_is_where_its_pixels_come_from(
    size: tuple[int, int], most_tiles: int | None, class_token: bool
) -> None:
    side, grid = 112, 8
    tokens = ImageTokens(
        grid=grid,
        tile_size=side,
        pinpoints=((side, 2 * side), (2 * side, side), (2 * side, 2 * side), (side, 3 * side)),
        max_grid_tiles=most_tiles,
        keep_class_token=class_token,
    )
    # Red says how far from the left a pixel is, green how far from the top, blue whether it is of the picture at all.
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
    colours = ((columns + 0.5) / size[1] * 255, (rows + 0.5) / size[0] * 255, np.full(size, 255.0))
    tiles = picture_tiles(np.stack(colours, axis=2).round().astype(np.uint8), SETTINGS_112, tokens)
    cell = side // grid
    patches = np.stack([tile.reshape(grid, cell, grid, cell, 3).mean((1, 3)).reshape(grid**2, 3) for tile in tiles])
    features = torch.from_numpy(patches).float() / 255
    if class_token:
        features = torch.cat([torch.full((len(tiles), 1, 3), -1.0), features], dim=1)
    laid_out = lay_out_image(features, tokens.layout(*size), torch.full((3,), -1.0))
    boxes = tokens.boxes(*size)
    assert len(boxes) == len(laid_out) == tokens.count(*size)
    assert [box is None for box in boxes] == (laid_out[:, 2] == -1).tolist()
    num_inside = 0
    for box, (red, green, blue) in zip(boxes, laid_out.tolist(), strict=True):
        if box is not None and blue == 1:
            num_inside += 1
            assert red == pytest.approx((box[0] + box[2]) / 2, abs=0.012)
            assert green == pytest.approx((box[1] + box[3]) / 2, abs=0.012)
    assert num_inside >= 0.7 * sum(box is not None for box in boxes)


def test_boxes_need_tiles() -> None:
    with pytest.raises(ArgumentError, match="known with AnyRes tiles alone, and image_grid_pinpoints is empty"):
        ImageTokens(grid=2, tile_size=28).boxes(30, 40)
