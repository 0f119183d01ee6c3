"""Sampling rules: positions against numpy's own arange and linspace, and against the drawings in the docstrings."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.errors import ArgumentError
from videolm.media.sampling import FrameSampling, arange_indices, fps_indices, linspace_indices

NUM_SOURCE_FRAMES = st.integers(0, 100_000)
NUM_FRAMES = st.integers(1, 512)
FPS = st.floats(0.01, 1000.0)


def test_the_drawn_examples() -> None:
    assert arange_indices(12, 4) == [0, 3, 6, 9]
    assert linspace_indices(12, 4) == [0, 3, 7, 11]
    assert fps_indices(12, 4.0) == [0, 4, 8]
    assert arange_indices(10, 4) == [0, 2, 5, 7]
    assert linspace_indices(10, 4) == [0, 3, 6, 9]
    assert fps_indices(10, 3.0) == [0, 3, 6, 9]


@given(NUM_SOURCE_FRAMES, NUM_FRAMES)
def test_arange_is_the_documentations_line(num_source_frames: int, num_frames: int) -> None:
    if num_source_frames <= num_frames:
        assert arange_indices(num_source_frames, num_frames) == list(range(num_source_frames))
        return
    theirs = np.arange(0, num_source_frames, num_source_frames / num_frames).astype(int)

    assert arange_indices(num_source_frames, num_frames) == theirs[:num_frames].tolist()


@given(NUM_SOURCE_FRAMES, NUM_FRAMES)
def test_linspace_is_the_originals_line(num_source_frames: int, num_frames: int) -> None:
    if num_source_frames <= num_frames:
        assert linspace_indices(num_source_frames, num_frames) == list(range(num_source_frames))
        return
    theirs = np.linspace(0, num_source_frames - 1, num_frames, dtype=int)

    assert linspace_indices(num_source_frames, num_frames) == theirs.tolist()


@given(NUM_SOURCE_FRAMES, FPS, FPS, st.none() | NUM_FRAMES)
def test_fps_is_the_originals_list_with_its_bound(
    num_source_frames: int, source_fps: float, fps: float, max_frames: int | None
) -> None:
    theirs = list(range(0, num_source_frames, max(1, round(source_fps / fps))))
    if max_frames is not None and len(theirs) > max_frames:
        theirs = np.linspace(0, num_source_frames - 1, max_frames, dtype=int).tolist()

    assert fps_indices(num_source_frames, source_fps, fps=fps, max_frames=max_frames) == theirs


@given(
    NUM_SOURCE_FRAMES,
    st.none() | FPS,
    st.builds(FrameSampling, rule=st.sampled_from(["arange", "linspace"]), num_frames=NUM_FRAMES)
    | st.builds(FrameSampling, rule=st.just("fps"), num_frames=NUM_FRAMES, fps=st.none() | FPS, max_frames=NUM_FRAMES),
)
def test_positions_ascend_lie_inside_and_keep_the_bound(
    num_source_frames: int, source_fps: float | None, sampling: FrameSampling
) -> None:
    indices = sampling.indices(num_source_frames, source_fps)

    assert indices == sorted(set(indices))
    assert all(0 <= index < num_source_frames for index in indices)
    assert len(indices) <= (sampling.max_frames or sampling.num_frames or 0)
    assert bool(indices) == bool(num_source_frames)


@pytest.mark.parametrize("source_fps", [None, 0.0, float("nan"), float("inf"), 0.2])
def test_fps_of_an_unknown_or_slow_source_takes_every_frame(source_fps: float | None) -> None:
    assert fps_indices(5, source_fps, fps=1.0) == [0, 1, 2, 3, 4]


def test_the_fps_rule_is_bounded_by_num_frames_unless_max_frames_is_given() -> None:
    assert FrameSampling(rule="fps").indices(300, 30.0) == [0, 42, 85, 128, 170, 213, 256, 299]
    assert FrameSampling(rule="fps", max_frames=16).indices(300, 30.0) == list(range(0, 300, 30))
    assert FrameSampling(rule="fps", num_frames=None, fps=10.0).indices(30, 30.0) == list(range(0, 30, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "random"}, "The sampling rule is 'random'. Expected one of arange, linspace, fps."),
        ({"num_frames": 0}, "num_frames is 0. Expected a whole number, 1 or more."),
        ({"num_frames": -3}, "num_frames is -3. Expected a whole number, 1 or more."),
        ({"num_frames": 2.5}, "num_frames is 2.5. Expected a whole number, 1 or more."),
        ({"num_frames": True}, "num_frames is True. Expected a whole number, 1 or more."),
        ({"num_frames": None}, "The rule linspace was given no num_frames."),
        ({"rule": "fps", "fps": 0}, "fps is 0. Expected a number of frames a second above 0."),
        ({"rule": "fps", "fps": float("nan")}, "fps is nan. Expected a number of frames a second above 0."),
        ({"rule": "fps", "max_frames": 0}, "max_frames is 0. Expected a whole number, 1 or more."),
        ({"fps": 2.0}, "fps=2.0 was given with the rule linspace. Only the fps rule uses it."),
        (
            {"rule": "arange", "max_frames": 4},
            "max_frames=4 was given with the rule arange. Only the fps rule uses it.",
        ),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        FrameSampling(**settings)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_negative_number_of_source_frames_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"num_source_frames is -1\. Expected a whole number, 0 or more\."):
        linspace_indices(-1, 8)
