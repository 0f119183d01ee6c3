"""The number of visual tokens against worked numbers, and against layouts written out token by token."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from videolm.errors import ArgumentError
from videolm.visual_tokens import ImageTokens, TokenBudget, VideoTokens

PINPOINTS_336 = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
CLIP_336 = ImageTokens(grid=24, tile_size=336, pinpoints=PINPOINTS_336)
PINPOINTS_384 = tuple((384 * first, 384 * second) for first in range(1, 7) for second in range(1, 7))
ANYRES_MAX_9 = ImageTokens(
    grid=27, tile_size=384, pinpoints=PINPOINTS_384, pinpoint_order="width_height", max_grid_tiles=9, round_unpad=False
)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns", "count"),
    [
        (672, 672, 48, 48, 2928),
        (480, 640, 36, 48, 2340),
        (640, 480, 48, 36, 2352),
        (720, 1280, 28, 48, 1948),
        (1080, 1920, 28, 48, 1948),
        (1920, 1080, 48, 28, 1968),
        (427, 640, 32, 48, 2144),
        (334, 500, 24, 36, 1464),
        (336, 336, 24, 24, 1176),
        (336, 1008, 24, 72, 2328),
        (1008, 336, 72, 24, 2376),
        (100, 1000, 8, 72, 1160),
        (1, 1000, 0, 72, 576),
    ],
)
def test_pictures_of_the_clip_families(height: int, width: int, rows: int, columns: int, count: int) -> None:
    layout = CLIP_336.layout(height, width)
    assert (layout.out_rows, layout.out_columns, layout.count) == (rows, columns, count)


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns", "count"),
    [
        (384, 384, 27, 27, 1485),
        (640, 480, 40, 54, 2929),
        (1280, 720, 54, 96, 5967),
        (1920, 1080, 60, 108, 7269),
        (2304, 2304, 81, 81, 7371),
    ],
)
def test_pictures_of_anyres_max_9(width: int, height: int, rows: int, columns: int, count: int) -> None:
    layout = ANYRES_MAX_9.layout(height, width)
    assert (layout.out_rows, layout.out_columns, layout.count) == (rows, columns, count)


def test_the_order_of_a_pinpoint_pair_decides_ties() -> None:
    by_height = ImageTokens(grid=24, tile_size=336, pinpoints=PINPOINTS_336)
    by_width = ImageTokens(grid=24, tile_size=336, pinpoints=PINPOINTS_336, pinpoint_order="width_height")
    assert (by_height.choose_resolution(142, 184), by_width.choose_resolution(142, 184)) == ((336, 672), (672, 336))
    assert (by_height.count(142, 184), by_width.count(142, 184)) == (1368, 1026)


@pytest.mark.parametrize(("size", "rounded", "truncated"), [((110, 352), 1360, 1262), ((396, 704), 1948, 1850)])
def test_unpadding_with_and_without_rounding(size: tuple[int, int], rounded: int, truncated: int) -> None:
    raw = ImageTokens(grid=24, tile_size=336, pinpoints=PINPOINTS_336, round_unpad=False)
    assert (CLIP_336.count(*size), raw.count(*size)) == (rounded, truncated)


@pytest.mark.parametrize(
    ("newline", "keep_class_token", "count"),
    [(True, False, 730), (False, False, 729), (False, True, 730), (True, True, 731)],
)
def test_a_picture_of_one_tile(newline: bool, keep_class_token: bool, count: int) -> None:
    tokens = ImageTokens(grid=27, tile_size=384, newline=newline, keep_class_token=keep_class_token)
    assert (tokens.count(100, 900), tokens.layout(100, 900).num_tiles) == (count, 1)


def test_pictures_of_video_llava() -> None:
    assert ImageTokens(grid=16, tile_size=224, newline=False).count(480, 640) == 256


@pytest.mark.parametrize(("num_frames", "count"), [(8, 1152), (16, 2304), (32, 4608), (56, 8064), (64, 9216)])
def test_videos_of_llava_next_video(num_frames: int, count: int) -> None:
    assert VideoTokens(grid=24).count(num_frames) == count


@pytest.mark.parametrize(("grid", "stride", "per_frame"), [(24, 4, 36), (24, 1, 576), (16, 2, 64), (27, 2, 169)])
def test_strides_floor(grid: int, stride: int, per_frame: int) -> None:
    assert VideoTokens(grid=grid, stride=stride).per_frame == per_frame


@pytest.mark.parametrize(
    ("pool", "newline", "count"),
    [
        ("average", "grid", 11_648),
        ("average", "frame", 10_880),
        ("average", "one_token", 10_817),
        ("average", "none", 10_816),
        ("bilinear", "grid", 13_440),
        ("bilinear", "frame", 12_608),
        ("bilinear", "one_token", 12_545),
        ("bilinear", "none", 12_544),
    ],
)
def test_64_frames_of_llava_video(pool: str, newline: str, count: int) -> None:
    assert VideoTokens(grid=27, pool=pool, newline=newline).count(64) == count


def test_110_frames_of_llava_video() -> None:
    assert VideoTokens(grid=27, newline="grid").count(110) == 20_020


def test_videos_of_video_llava() -> None:
    tokens = VideoTokens(grid=16, pool=None, keep_class_token=True)
    assert (tokens.per_frame, tokens.count(8)) == (257, 2056)


@given(
    grid=st.integers(1, 30),
    stride=st.integers(1, 5),
    pool=st.sampled_from([None, "average", "max", "conv", "bilinear"]),
    newline=st.sampled_from(["none", "grid", "frame", "one_token"]),
    num_frames=st.integers(0, 5),
)
def test_a_videos_count_is_its_length_written_out(
    grid: int, stride: int, pool: str | None, newline: str, num_frames: int
) -> None:
    tokens = VideoTokens(grid=grid, stride=stride, pool=pool, newline=newline)
    step = 1 if pool is None else stride
    last = grid if pool in (None, "bilinear") else grid - step + 1  # a window that does not fit is dropped
    starts = range(0, last, step)
    written = []
    for frame in range(num_frames):
        for row in starts:
            written += [(frame, row, column) for column in starts]
            written += ["newline"] * (newline == "grid")
        written += ["newline"] * (newline == "frame")
    written += ["newline"] * (newline == "one_token")
    assert tokens.count(num_frames) == len(written)


@settings(max_examples=200)
@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    grid=st.integers(1, 28),
    order=st.sampled_from(["height_width", "width_height"]),
    newline=st.booleans(),
)
def test_a_pictures_count_is_its_map_without_padding_written_out(
    height: int, width: int, grid: int, order: str, newline: bool
) -> None:
    tokens = ImageTokens(
        grid=grid, tile_size=14 * grid, pinpoints=pinpoints(grid), pinpoint_order=order, newline=newline
    )
    layout = tokens.layout(height, width)
    map_rows, map_columns = layout.tile_rows * grid, layout.tile_columns * grid
    written: list[object] = [("base", i) for i in range(grid * grid)]
    for row in range(map_rows)[layout.top : layout.top + layout.rows]:
        kept = range(map_columns)[layout.left : layout.left + layout.columns]
        written += [(row, column) for column in kept]
        written += ["newline"] * newline
    assert len(written) == layout.count == tokens.count(height, width)
    assert layout.num_tiles == 1 + layout.tile_rows * layout.tile_columns
    # What is cut away is the same on both sides, and only along one axis.
    assert (map_rows - layout.rows, map_columns - layout.columns) == (2 * layout.top, 2 * layout.left)
    assert 0 in (layout.top, layout.left)


def pinpoints(grid: int) -> tuple[tuple[int, int], ...]:
    side = 14 * grid
    return ((side, 2 * side), (2 * side, side), (2 * side, 2 * side), (3 * side, side), (side, 3 * side))


@settings(max_examples=200)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_a_shrunk_map_holds_about_its_limit(height: int, width: int) -> None:
    layout = ANYRES_MAX_9.layout(height, width)
    assume(layout.rows and layout.columns)
    assert layout.out_rows * layout.out_columns <= 1.1**2 * 9 * 27**2
    if layout.rows * layout.columns <= 9 * 27**2:
        assert (layout.out_rows, layout.out_columns) == (layout.rows, layout.columns)


@settings(max_examples=200, deadline=None)  # The first example imports the reference.
@given(height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_counts_and_resolutions_are_those_of_transformers(height: int, width: int) -> None:
    from transformers.image_processing_utils import select_best_resolution
    from transformers.models.llava_next_video.processing_llava_next_video import LlavaNextVideoProcessor

    best = tuple(select_best_resolution([height, width], [list(pair) for pair in PINPOINTS_336]))
    assert CLIP_336.choose_resolution(height, width) == best
    unpadded, newlines = LlavaNextVideoProcessor._get_unpadded_features(
        None, height, width, 24, 24, best[0] // 336, best[1] // 336
    )
    assert CLIP_336.count(height, width) == unpadded + newlines + 576


@pytest.mark.parametrize("settings", [{"grid": 0}, {"grid": 24, "stride": 0}, {"grid": 24, "keep_class_token": True}])
def test_impossible_videos_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ArgumentError):
        VideoTokens(**settings)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_pictures_without_area_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match="has no tokens"):
        CLIP_336.count(*size)


def test_choosing_without_pinpoints_is_refused() -> None:
    with pytest.raises(ArgumentError, match="image_grid_pinpoints is empty"):
        ImageTokens(grid=16, tile_size=224).choose_resolution(10, 10)


@pytest.mark.parametrize(
    ("pool", "newline", "slow", "fast"),
    [
        ("average", "grid", 183, 43),
        ("average", "frame", 171, 38),
        ("average", "none", 170, 37),
        ("bilinear", "grid", 211, 57),
    ],
)
def test_slow_and_fast_frames(pool: str, newline: str, slow: int, fast: int) -> None:
    tokens = VideoTokens(grid=27, pool=pool, newline=newline, slow_every=5)
    assert (tokens.count(5), tokens.per_frame) == (slow + 4 * fast, slow)
    assert tokens.count(64) == 12 * slow + 52 * fast


def test_slow_fast_as_the_paper_counts() -> None:
    """Of 64 frames in groups of 3, the whole part of 64 / 3 is slow."""
    tokens = VideoTokens(grid=27, newline="none", slow_every=3)
    assert tokens.slow_frames(64) == tuple(range(0, 63, 3))
    assert tokens.count(64) == 21 * (13 * 13 + 1) + 43 * (6 * 6 + 1)
    assert VideoTokens(grid=27, newline="one_token", slow_every=3).count(64) == tokens.count(64) + 1
    assert VideoTokens(grid=27, slow_every=1).slow_frames(4) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slow_every": 0}, "one slow frame in 0"),
        ({"slow_every": 2, "pool": "conv"}, "the pooling conv"),
        ({"slow_every": 2, "stride": 14}, "at most 13"),
    ],
)
def test_slow_fast_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VideoTokens(**{"grid": 27, **changes})  # type: ignore[arg-type]


@given(percent=st.integers(1, 100), num_frames=st.integers(1, 200), newline=st.sampled_from(["none", "grid"]))
def test_a_budget_is_rounded_up_to_whole_tokens(percent: int, num_frames: int, newline: Any) -> None:
    tokens = VideoTokens(grid=27, newline=newline, budget=TokenBudget(fraction=percent / 100))
    assert tokens.full_count(num_frames) == tokens.per_frame * num_frames
    assert tokens.count(num_frames) == ceil(Fraction(percent, 100) * tokens.per_frame * num_frames)


@given(whole=st.integers(1, 20_000), data=st.data())
def test_a_fraction_of_whole_numbers_keeps_so_many(whole: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, whole))
    assert TokenBudget(fraction=kept / whole).of(whole) == kept


def test_the_smallest_budget_keeps_one_token() -> None:
    assert [TokenBudget(fraction=1e-9).of(count) for count in (0, 1, 100)] == [0, 1, 1]


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan"), "0.5", True])
def test_impossible_budgets_are_refused(fraction: Any) -> None:
    with pytest.raises(ArgumentError, match=r"expected a fraction above 0 and at most 1\. Use for example 0\.5\."):
        TokenBudget(fraction=fraction)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"token_reduction is 'best': expected one of evs, fastvid\."):
        TokenBudget(method="best")  # type: ignore[arg-type]


@given(
    num_tokens=st.integers(0, 3000), fraction=st.floats(0.05, 1), newline=st.sampled_from(["grid", "none", "one_token"])
)
def test_the_most_frames_that_fit(num_tokens: int, fraction: float, newline: Any) -> None:
    tokens = VideoTokens(grid=6, newline=newline, budget=TokenBudget(fraction=fraction))
    most = tokens.most_frames(num_tokens)
    assert tokens.count(most) <= num_tokens or most == 1
    assert tokens.count(most + 1) > num_tokens


def test_a_budget_below_one_frame_is_warned_of() -> None:
    tokens = VideoTokens(grid=4, budget=TokenBudget(fraction=0.1))
    assert tokens.warn_of(10, "a.mp4") == (
        "a.mp4 keeps 4 of 40 visual tokens, no more than its first frame has: nothing of the later ones is left.",
    )
    assert tokens.warn_of(11, "a.mp4") == ()
    assert tokens.within(TokenBudget(fraction=0.1, method="fastvid")).warn_of(10, "a.mp4") == ()
