"""Times, rate and duration from time stamps, or from the declared rate."""

from fractions import Fraction

import pytest

from videolm.media.timeline import Timeline, make_timeline


def test_times_count_from_the_first_stamp() -> None:
    assert make_timeline([90, 93, 96], Fraction(1, 90), Fraction(30), last_duration=3) == Timeline(
        times_s=(0.0, 1 / 30, 2 / 30), fps=30.0, duration_s=0.1
    )


def test_the_declared_rate_is_believed_where_stamps_agree() -> None:
    milliseconds = [0, 33, 67, 100, 133]

    assert make_timeline(milliseconds, Fraction(1, 1000), Fraction(30)).fps == 30.0


def test_the_measured_rate_wins_where_the_declared_one_is_wrong() -> None:
    timeline = make_timeline([0, 1, 2, 4], Fraction(1), Fraction(30))

    assert (timeline.fps, timeline.duration_s) == (0.75, pytest.approx(4 + 4 / 3))


@pytest.mark.parametrize("pts", [[None, None], [0, None], [5, 5], [5, 3]])
def test_stamps_that_do_not_ascend_give_way_to_the_declared_rate(pts: list[int | None]) -> None:
    assert make_timeline(pts, Fraction(1, 90), Fraction(25)) == Timeline(times_s=(0.0, 0.04), fps=25.0, duration_s=0.08)


def test_nothing_known_is_nothing_said() -> None:
    assert make_timeline([None, None], None, None) == Timeline(times_s=(), fps=None, duration_s=None)


def test_one_frame_has_the_declared_rate() -> None:
    assert make_timeline([7], Fraction(1, 10), Fraction(10)) == Timeline(times_s=(0.0,), fps=10.0, duration_s=0.1)
    assert make_timeline([7], Fraction(1, 10), None) == Timeline(times_s=(0.0,), fps=None, duration_s=0.0)
