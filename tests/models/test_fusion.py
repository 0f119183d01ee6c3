"""Pooling and layout against slow explicit references and against transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextVideoConfig
from transformers.models.llava_next_video.modeling_llava_next_video import LlavaNextVideoModel, LlavaNextVideoPooler

from videolm.models.fusion import (
    ConvPool,
    lay_out_image,
    lay_out_slow_fast,
    lay_out_video,
    pool_patches,
    select_features,
)
from videolm.visual_tokens import ImageTokens, VideoTokens

NEWLINE = torch.tensor([-1.0, -2.0])


def numbered(num_tiles: int, num_tokens: int, width: int = 2) -> Tensor:
    """Every number differs from all others."""
    return torch.arange(1, num_tiles * num_tokens * width + 1, dtype=torch.float32).view(num_tiles, num_tokens, width)


def slow_video(features: Tensor, tokens: VideoTokens) -> list[Tensor]:
    rows = []
    for frame in features:
        patches = list(frame)
        if tokens.keep_class_token:
            rows.append(patches.pop(0))
        for index, patch in enumerate(patches):
            rows.append(patch)
            if tokens.newline == "grid" and (index + 1) % tokens.side == 0:
                rows.append(NEWLINE)
        if tokens.newline == "frame":
            rows.append(NEWLINE)
    return [*rows, NEWLINE] if tokens.newline == "one_token" else rows


@pytest.mark.parametrize("newline", ["none", "grid", "frame", "one_token"])
@pytest.mark.parametrize("keep_class_token", [False, True])
def test_a_video_is_laid_out_like_the_slow_reference(newline: Any, keep_class_token: bool) -> None:
    tokens = VideoTokens(grid=3, pool=None, newline=newline, keep_class_token=keep_class_token)
    features = numbered(2, 9 + keep_class_token)
    out = lay_out_video(features, tokens, NEWLINE)

    assert out.tolist() == torch.stack(slow_video(features, tokens)).tolist()
    assert len(out) == tokens.count(2)


def pooled_slowly(frame: Tensor, grid: int, stride: int, mode: str) -> list[list[Tensor]]:
    """Rows of cells, each the mean or the largest values of its window."""
    patches = frame.view(grid, grid, -1)
    starts = range(0, grid - stride + 1, stride)
    windows = [[patches[y : y + stride, x : x + stride].flatten(0, 1) for x in starts] for y in starts]
    return [[each.mean(dim=0) if mode == "average" else each.amax(dim=0) for each in row] for row in windows]


@pytest.mark.parametrize("newline", ["none", "grid", "frame", "one_token"])
@pytest.mark.parametrize("mode", ["average", "max"])
@pytest.mark.parametrize("num_frames", [1, 5, 6])
def test_slow_and_fast_frames_are_laid_out_like_the_slow_reference(newline: Any, mode: Any, num_frames: int) -> None:
    grid, faster = 9, torch.tensor([7.0, 8.0])
    tokens = VideoTokens(grid=grid, pool=mode, newline=newline, slow_every=3)
    features = torch.randn(num_frames, grid * grid, 2, generator=torch.Generator().manual_seed(0))
    expected: list[Tensor] = []
    for index, frame in enumerate(features):
        is_slow = index % 3 == 0 and index + 3 <= num_frames
        for row in pooled_slowly(frame, grid, 2 if is_slow else 4, mode):
            expected += row
            expected += [NEWLINE] * (newline == "grid")
        expected += [NEWLINE] * (newline == "frame")
        expected.append(faster)
    expected += [NEWLINE] * (newline == "one_token")
    out = lay_out_slow_fast(features, tokens, NEWLINE, faster)

    torch.testing.assert_close(out, torch.stack(expected))
    assert len(out) == tokens.count(num_frames)


@pytest.mark.parametrize("newline", ["none", "grid", "frame", "one_token"])
@pytest.mark.parametrize("mode", ["average", "max"])
def test_pooled_frames_with_newlines_like_the_slow_reference(newline: Any, mode: Any) -> None:
    tokens = VideoTokens(grid=5, pool=mode, newline=newline)
    features = torch.randn(3, 25, 2, generator=torch.Generator().manual_seed(1))
    expected: list[Tensor] = []
    for frame in features:
        for row in pooled_slowly(frame, 5, 2, mode):
            expected += row
            expected += [NEWLINE] * (newline == "grid")
        expected += [NEWLINE] * (newline == "frame")
    expected += [NEWLINE] * (newline == "one_token")

    torch.testing.assert_close(lay_out_video(pool_patches(features, tokens), tokens, NEWLINE), torch.stack(expected))


def slow_image(features: Tensor, tokens: ImageTokens, height: int, width: int) -> list[Tensor]:
    """Cell by cell: a cell of the map is kept when it is not padding of the picture scaled into the map."""
    layout = tokens.layout(height, width)
    rows = list(features[0])
    if not layout.tile_rows:
        return [*rows, NEWLINE] if tokens.newline else rows
    first = int(tokens.keep_class_token)
    for row in range(layout.top, layout.top + layout.rows):
        for column in range(layout.left, layout.left + layout.columns):
            tile = 1 + (row // tokens.grid) * layout.tile_columns + column // tokens.grid
            rows.append(features[tile, first + (row % tokens.grid) * tokens.grid + column % tokens.grid])
        if tokens.newline:
            rows.append(NEWLINE)
    return rows


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    pinpoints=st.sampled_from([(), ((8, 16), (16, 8), (16, 16)), ((24, 8), (8, 24), (16, 24))]),
    keep_class_token=st.booleans(),
    newline=st.booleans(),
)
def test_a_picture_is_laid_out_like_the_slow_reference(
    height: int, width: int, pinpoints: tuple[tuple[int, int], ...], keep_class_token: bool, newline: bool
) -> None:
    tokens = ImageTokens(grid=4, tile_size=8, pinpoints=pinpoints, keep_class_token=keep_class_token, newline=newline)
    layout = tokens.layout(height, width)
    features = numbered(layout.num_tiles, 16 + keep_class_token)
    out = lay_out_image(features, layout, NEWLINE if newline else None)

    assert out.tolist() == torch.stack(slow_image(features, tokens, height, width)).tolist()
    assert len(out) == tokens.count(height, width)


def their_config(**changes: Any) -> LlavaNextVideoConfig:
    return LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=16,
            patch_size=4,
        ),
        text_config=LlamaConfig(
            vocab_size=20,
            hidden_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            intermediate_size=4,
        ),
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]],
        **changes,
    )


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (16, 16), (40, 40), (10, 90), (90, 11), (33, 47), (5, 16)])
def test_pictures_are_packed_like_transformers_packs_them(size: tuple[int, int]) -> None:
    tokens = ImageTokens(grid=4, tile_size=16, pinpoints=((16, 32), (32, 16), (32, 32), (48, 16), (16, 48)))
    layout = tokens.layout(*size)
    features = numbered(layout.num_tiles, 16)
    theirs = LlavaNextVideoModel(their_config())
    expected, _ = theirs.pack_image_features([features], torch.tensor([size]), "default", image_newline=NEWLINE)

    assert torch.equal(lay_out_image(features, layout, NEWLINE), expected[0])


@pytest.mark.parametrize("mode", ["average", "max", "conv"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pooling_matches_transformers(mode: Any, stride: int) -> None:
    theirs = LlavaNextVideoPooler(
        their_config(spatial_pool_mode=mode, spatial_pool_stride=stride, spatial_pool_out_channels=16)
    )
    conv = ConvPool(16, stride)
    if mode == "conv":
        conv.load_state_dict(theirs.state_dict())
    features = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(
        pool_patches(features, VideoTokens(grid=4, pool=mode, stride=stride), conv), theirs(features)
    )


def test_windows_that_do_not_fit_are_dropped() -> None:
    features = numbered(1, 25, 1)
    pooled = pool_patches(features, VideoTokens(grid=5, pool="average", stride=2))

    assert pooled[0, :, 0].tolist() == [4.0, 6.0, 14.0, 16.0]


def test_bilinear_pooling_rounds_up_and_weighs_by_distance() -> None:
    grid, side = 5, 3
    features = torch.randn(2, grid * grid, 3, generator=torch.Generator().manual_seed(0))
    pooled = pool_patches(features, VideoTokens(grid=grid, pool="bilinear", stride=2))
    expected = torch.zeros(2, side, side, 3)
    for row in range(side):
        for column in range(side):
            down, right = ((index + 0.5) * grid / side - 0.5 for index in (row, column))
            for near_row in (math.floor(down), math.floor(down) + 1):
                for near_column in (math.floor(right), math.floor(right) + 1):
                    weight = (1 - abs(down - near_row)) * (1 - abs(right - near_column))
                    index = min(near_row, grid - 1) * grid + min(near_column, grid - 1)
                    expected[:, row, column] += weight * features[:, index]

    torch.testing.assert_close(pooled.view(2, side, side, 3), expected)


def test_a_large_map_is_shrunk_before_its_newlines() -> None:
    tokens = ImageTokens(grid=2, tile_size=4, pinpoints=((16, 16),), max_grid_tiles=4)
    layout = tokens.layout(16, 16)
    assert (layout.rows, layout.columns, layout.out_rows, layout.out_columns) == (8, 8, 4, 4)
    features = torch.arange(17 * 4, dtype=torch.float32).view(17, 4, 1).expand(-1, -1, 2)
    out = lay_out_image(features, layout, NEWLINE)
    # Halving averages 2x2 cells, which here are exactly one tile each.
    means = features[1:].mean(dim=1).view(4, 4, 2)

    assert torch.equal(out[:4], features[0])
    assert torch.equal(out[4:].view(4, 5, 2)[:, :4], means)
    assert torch.equal(out[4:].view(4, 5, 2)[:, 4], NEWLINE.expand(4, 2))
    assert len(out) == layout.count


def test_selected_states_are_joined_on_channels() -> None:
    first, second = numbered(1, 3), -numbered(1, 3)

    assert torch.equal(
        select_features([first, second], drop_class_token=True), torch.cat([first, second], dim=-1)[:, 1:]
    )
    assert select_features([first], drop_class_token=False) is first
