"""Fewer visual tokens: exactly as many as were counted, in order, the right ones, and all of them unchanged at 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videolm.contracts import VisualInput
from videolm.models.fusion import lay_out_slow_fast, lay_out_video
from videolm.models.reduction import kept_patches, reduce_video
from videolm.visual_tokens import TokenBudget, VideoTokens

from .tiny import CONFIG, GRID, SIZE, clip, tiny_model, with_video

PATCH = SIZE // GRID
NEWLINE, FASTER = torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0])


def still(num_frames: int) -> Tensor:
    """One frame of noise, repeated."""
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).repeat(num_frames, 1, 1, 1)


def rows_of(num_frames: int, tokens: VideoTokens) -> Tensor:
    """Rows ``[T, 2]`` that hold their frame and their place in it; newlines are -1, ends of slow-fast frames -2."""
    side = tokens.side if tokens.slow_every is None else tokens.grid
    count = side**2 + int(tokens.keep_class_token)
    marks = torch.stack([torch.arange(num_frames).repeat_interleave(count), torch.arange(count).repeat(num_frames)], 1)
    features = marks.float().view(num_frames, count, 2)
    if tokens.slow_every is not None:
        return lay_out_slow_fast(features, tokens, NEWLINE, FASTER)
    return lay_out_video(features, tokens, NEWLINE)


def evs(fraction: float, **rules: Any) -> VideoTokens:
    return VideoTokens(grid=GRID, budget=TokenBudget(fraction=fraction), **rules)


LAYOUTS = st.sampled_from(
    [
        {"newline": newline, **rules}
        for newline in ("none", "grid", "frame", "one_token")
        for rules in (
            {},
            {"pool": "max"},
            {"pool": "bilinear"},
            {"pool": "conv"},
            {"pool": None},
            {"pool": None, "keep_class_token": True},
            {"slow_every": 2, "stride": 1},
        )
    ]
)


@settings(deadline=None, max_examples=150)
@given(
    rules=LAYOUTS,
    method=st.sampled_from(["evs", "fastvid"]),
    fraction=st.floats(0.001, 1),
    num_frames=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_what_stays_is_as_much_as_was_counted_and_in_order(
    rules: dict[str, Any], method: Any, fraction: float, num_frames: int, seed: int
) -> None:
    tokens = VideoTokens(grid=GRID, budget=TokenBudget(fraction=fraction, method=method), **rules)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(num_frames, 3, SIZE, SIZE, generator=generator)
    whole = torch.randn(tokens.full_count(num_frames), 5, generator=generator)
    reduced = reduce_video(whole, pixels, tokens)
    assert len(reduced) == tokens.count(num_frames)
    if method == "evs":
        places = [int(torch.nonzero((whole == row).all(1))[0]) for row in reduced]
        assert places == sorted(set(places))


@pytest.mark.parametrize("method", ["evs", "fastvid"])
@pytest.mark.parametrize("newline", ["none", "grid"])
def test_all_tokens_are_the_very_same(method: Any, newline: Any) -> None:
    medium, config = clip(3), with_video(newline=newline)
    medium = replace(medium, num_tokens=config.tokens.video.count(3))
    model = tiny_model(config)
    with torch.inference_mode():
        (plain,) = model.encode_media([medium])
        (kept,) = model.encode_media([replace(medium, budget=TokenBudget(fraction=1.0, method=method))])
    assert torch.equal(plain.tokens, kept.tokens)


def test_nearly_all_tokens_merge_only_what_is_left_out() -> None:
    # One token of 8 goes; the 7 that stay are themselves, save for the one that takes it in.
    tokens = VideoTokens(grid=GRID, budget=TokenBudget(fraction=0.8, method="fastvid"))
    rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    reduced = reduce_video(rows, still(2), tokens)
    same = [any(torch.equal(row, other) for other in rows) for row in reduced]
    assert sorted(same) == [False, *[True] * 6]


def test_of_a_still_clip_the_first_frame_stays() -> None:
    tokens = evs(1 / 4)
    reduced = reduce_video(rows_of(4, tokens), still(4), tokens)
    assert reduced.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_a_patch_that_moves_stays() -> None:
    tokens, pixels = evs(6 / 16), still(4)
    pixels[1, :, :8, 8:] += 1  # the second cell of the second frame changes, and in the third frame changes back
    reduced = reduce_video(rows_of(4, tokens), pixels, tokens)
    assert reduced.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 1], [2, 1]]


def test_less_than_a_frame_keeps_what_stands_out_of_the_first() -> None:
    tokens, pixels = evs(2 / 8), torch.zeros(2, 3, SIZE, SIZE)
    pixels[:, :, 8:, 8:] = 3
    pixels[:, :, 8:, :8] = -1
    reduced = reduce_video(rows_of(2, tokens), pixels, tokens)
    assert reduced.tolist() == [[0, 2], [0, 3]]


def test_a_row_ends_as_long_as_something_of_it_stays() -> None:
    tokens, pixels = evs(9 / 12, newline="grid"), still(2)
    pixels[1, :, 8:, :8] += 1
    whole = rows_of(2, tokens)
    assert whole[:6].tolist() == [[0, 0], [0, 1], [-1, -1], [0, 2], [0, 3], [-1, -1]]
    reduced = reduce_video(whole, pixels, tokens)
    # The third place is that of the first patch of the second frame, the earliest of those that did not change.
    assert reduced[6:].tolist() == [[1, 0], [1, 2], [-1, -1]]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"newline": "frame"}, [[1, 3], [-1, -1]]),
        ({"newline": "one_token"}, [[1, 3], [-1, -1]]),
        ({"pool": None, "keep_class_token": True}, [[1, 0], [1, 16]]),
    ],
)
def test_ends_and_class_tokens_come_with_the_patches_of_their_frame(rules: dict[str, Any], expected: Any) -> None:
    first = {"frame": 5, "one_token": 4}.get(rules.get("newline", ""), 17)
    full = VideoTokens(grid=GRID, **rules).full_count(3)
    tokens, pixels = evs((first + 2) / full, **rules), still(3)
    pixels[1:, :, 12:, 12:] += 1  # once, in the last patch
    assert tokens.count(3) == first + 2
    assert reduce_video(rows_of(3, tokens), pixels, tokens)[first:].tolist() == expected


def test_slow_and_fast_frames_are_compared_alike() -> None:
    tokens = evs((17 + 1 + 2 * 5) / (2 * 17 + 2 * 5), stride=1, slow_every=2)
    pixels = still(4)
    pixels[1:] += 0.1
    pixels[3] += torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) + 1
    reduced = reduce_video(rows_of(4, tokens), pixels, tokens)
    frames = reduced[:, 0].tolist()
    # The first frame and the last changed; 5 of the second's equal cells and its end are next, since they come first.
    assert frames.count(0) == 16
    assert frames.count(3) == 4
    assert frames.count(-2) == 3
    assert frames.count(1) == 4


def test_like_patches_are_merged_into_one_of_them() -> None:
    # Two frames of two kinds of patches each: one of each kind stays and stands for the rest.
    tokens = VideoTokens(grid=GRID, budget=TokenBudget(fraction=2 / 8, method="fastvid"))
    a, b = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    nudge = torch.tensor([0.0, 0.0, 0.01])
    rows = torch.stack([a, b + nudge, b, b - nudge, a, b, b, b])
    reduced = reduce_video(rows, still(2), tokens)
    assert len(reduced) == 2
    torch.testing.assert_close(reduced[0], a)
    torch.testing.assert_close(reduced[1], b, atol=1e-3, rtol=0)


def test_a_scene_of_its_own_keeps_its_share() -> None:
    tokens = VideoTokens(grid=GRID, budget=TokenBudget(fraction=1 / 4, method="fastvid"))
    generator = torch.Generator().manual_seed(0)
    scenes = [torch.randn(4, 6, generator=generator) for _ in range(2)]
    rows = torch.cat([scenes[0]] * 6 + [scenes[1]] * 2)  # 8 frames, a cut after the sixth
    reduced = reduce_video(rows, still(8), tokens)
    near = [min(range(2), key=lambda scene: float((scenes[scene] - row).norm(dim=1).min())) for row in reduced]
    assert near == [0] * 6 + [1] * 2


def test_the_places_that_stay_are_told_without_weights() -> None:
    tokens, pixels = evs(5 / 8), still(2)
    pixels[1, :, 8:, :8] += 1
    kept = kept_patches(pixels, tokens)
    assert kept is not None
    assert [frame.tolist() for frame in kept] == [[[True, True], [True, True]], [[False, False], [True, False]]]
    assert kept_patches(pixels, tokens.within(TokenBudget(fraction=0.5, method="fastvid"))) is None


def budgeted(seed: int, budget: TokenBudget) -> VisualInput:
    plain = clip(4, seed=seed)
    return replace(plain, budget=budget, num_tokens=CONFIG.tokens.video.within(budget).count(4))


def test_one_batch_may_hold_several_budgets() -> None:
    model = tiny_model()
    media = [clip(4), budgeted(1, TokenBudget(fraction=0.5)), budgeted(2, TokenBudget(fraction=0.3, method="fastvid"))]
    with torch.inference_mode():
        together = model.encode_media(media)
        alone = [model.encode_media([medium])[0] for medium in media]
    assert [len(features.tokens) for features in together] == [16, 8, 5]
    for features, other in zip(together, alone, strict=True):
        torch.testing.assert_close(features.tokens, other.tokens)
