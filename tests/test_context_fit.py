"""Frames, pooling and stretched positions for a context: worked numbers, and that what is chosen always fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.cli.main import main
from videolm.context_fit import ContextFit
from videolm.contracts import Frames
from videolm.errors import ArgumentError
from videolm.media.sampling import FrameSampling
from videolm.options import MediaOptions
from videolm.session import load
from videolm.visual_tokens import TokenBudget, VideoTokens

CLIP = VideoTokens(grid=24)
"""144 tokens a frame, 36 with twice the stride."""
EIGHT = FrameSampling(rule="arange", num_frames=8)


def taken(fit: ContextFit, duration_s: float, *, default: FrameSampling = EIGHT) -> tuple[int, int | None, float]:
    """Frames, stride and factor for a video of 30 frames a second."""
    indices = fit.sampling(default, None, 4096).indices(int(duration_s * 30), 30.0)
    fitted = fit.fit(len(indices))
    return len(indices), fitted.budget.stride, fitted.rope_factor


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (2, (8, None, 1)),
        (21, (21, None, 1)),  # 21 * 144 + 1000 = 4024
        (22, (22, None, 2)),
        (49, (49, None, 2)),  # 49 * 144 + 1000 = 8056
        (98, (49, None, 2)),
        (99, (99, 4, 2)),
        (199, (199, 4, 2)),  # 199 * 36 + 1000 = 8164
        (3600, (199, 4, 2)),
    ],
)
def test_frames_of_the_model_with_4096_positions(duration_s: float, expected: Any) -> None:
    assert taken(ContextFit(window=4096, may_stretch=True, rules=CLIP), duration_s) == expected


@pytest.mark.parametrize(
    ("changes", "duration_s", "expected"),
    [
        ({"may_stretch": False}, 60, (60, 4, 1)),
        ({"may_stretch": False}, 42, (21, None, 1)),
        ({"num_videos": 2}, 22, (22, None, 2)),
        ({"num_videos": 2}, 11, (11, None, 2)),
        ({"rules": CLIP.within(TokenBudget(fraction=0.5))}, 40, (40, None, 1)),
        ({"rules": VideoTokens(grid=16, pool="conv")}, 3600, (112, None, 2)),
        ({"rules": VideoTokens(grid=16, pool=None, keep_class_token=True, usual_frames=8)}, 3600, (8, None, 1)),
        ({"window": 32768, "rules": VideoTokens(grid=27, newline="grid"), "may_stretch": False}, 170, (170, None, 1)),
        ({"window": 32768, "rules": VideoTokens(grid=27, newline="grid"), "may_stretch": False}, 340, (174, None, 1)),
        ({"window": 10240, "may_stretch": False}, 64, (64, None, 1)),
    ],
)
def test_frames_of_other_models(changes: dict[str, Any], duration_s: float, expected: Any) -> None:
    settings = {"window": 4096, "may_stretch": True, "rules": CLIP} | changes
    assert taken(ContextFit(**settings), duration_s) == expected


def test_a_model_that_takes_frames_by_the_second_may_take_few() -> None:
    default = FrameSampling(rule="fps", fps=1.0, num_frames=64)
    assert taken(ContextFit(window=4096, may_stretch=True, rules=CLIP), 3, default=default) == (3, None, 1)


@given(
    num_frames=st.integers(1, 20_000),
    fps=st.sampled_from([None, 5.0, 29.97]),
    window=st.integers(300, 40_000),
    may_stretch=st.booleans(),
    num_videos=st.integers(1, 3),
    fraction=st.sampled_from([1.0, 0.3]),
    newline=st.sampled_from(["none", "grid"]),
)
def test_what_is_chosen_fits(
    num_frames: int, fps: float, window: int, may_stretch: bool, num_videos: int, fraction: float, newline: Any
) -> None:
    rules = VideoTokens(grid=12, newline=newline, budget=TokenBudget(fraction=fraction))
    fit = ContextFit(window=window, may_stretch=may_stretch, rules=rules, num_videos=num_videos)
    indices = fit.sampling(EIGHT, None, 500).indices(num_frames, fps)
    fitted = fit.fit(len(indices))
    count = rules.within(fitted.budget).count(len(indices))
    assert indices == sorted(set(indices))
    assert 1 <= len(indices) <= min(num_frames, 500)
    assert num_videos * count < window * fitted.rope_factor or len(indices) == 1


def still_video(num_frames: int) -> Frames:
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, 28, 28, 3), dtype=np.uint8)
    return Frames(
        kind="video",
        pixels=tuple(pixels),
        source="v.mp4",
        size=(28, 28),
        frame_indices=tuple(range(num_frames)),
        num_source_frames=num_frames,
    )


def test_a_long_video_stretches_positions_and_says_so(tiny_model_folder: Path) -> None:
    session = load(tiny_model_folder)  # 1024 positions, 4 tokens a frame
    # Frames that were read before are all there is, whatever their number.
    answer = session.ask(still_video(300), "What is this?", frames="auto", max_new_tokens=3)
    assert answer.media[0].chosen == {"frames": 300, "pool_stride": 2, "tokens_per_frame": 4, "rope_factor": 2.0}
    assert answer.warnings == (
        "v.mp4: chosen are 300 of 300 frames, pooled with stride 2, 4 tokens each, and positions divided by 2, "
        "for a context of 1024.",
    )
    short = session.ask(still_video(100), "What is this?", frames="auto", max_new_tokens=3)
    plain = session.ask(still_video(100), "What is this?", max_new_tokens=3)
    assert short.media[0].chosen is not None
    assert (short.media[0].chosen["rope_factor"], plain.media[0].chosen) == (1.0, None)
    assert short.output_ids == plain.output_ids


def test_the_command_line_takes_auto(tiny_model_folder: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", "--frames", "auto", "--model", str(tiny_model_folder), str(clip)]) == 0
    assert "chosen are 12 of 12 frames" in capsys.readouterr().err
    assert main(["inspect", "--json", "--frames", "few", str(clip)]) == 2


def test_other_words_are_refused() -> None:
    with pytest.raises(ArgumentError, match="frames is 'all': expected a whole number or auto"):
        MediaOptions(frames="all")  # type: ignore[arg-type]
