"""Shapes over time: where they are, how large, and whether they show."""

import pytest

from videolm.world.scene import Shape


def shape(**changes: object) -> Shape:
    values: dict[str, object] = {"colour": "red", "kind": "square", "rgb": (255, 0, 0), "x": 0.2, "y": 0.5}
    return Shape(**{**values, "radius": 0.1, **changes})  # type: ignore[arg-type]


def test_a_moving_shape_goes_its_whole_way() -> None:
    mover = shape(motion="up-right", travel=(0.4, -0.3))
    assert mover.place(0.0) == (0.2, 0.5)
    assert mover.place(0.5) == pytest.approx((0.4, 0.35))
    assert mover.place(1.0) == pytest.approx((0.6, 0.2))


def test_a_bouncing_shape_returns_after_each_bounce() -> None:
    bouncer = shape(motion="bouncing", travel=(0.4, 0.0), bounces=2.0)
    assert [round(bouncer.place(time)[0], 6) for time in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.2, 0.6, 0.2, 0.6, 0.2]


def test_growing_and_shrinking_mirror_each_other() -> None:
    growing, shrinking = shape(motion="growing"), shape(motion="shrinking")
    assert [growing.size(time) for time in (0.0, 1.0)] == pytest.approx([0.042, 0.1])
    assert growing.size(0.3) == pytest.approx(shrinking.size(0.7))


def test_a_rotating_shape_turns_and_others_do_not() -> None:
    assert shape(motion="rotating", angle=5.0, turn=90.0).heading(0.5) == 50.0
    assert shape(motion="still", angle=5.0, turn=90.0).heading(0.5) == 5.0


def test_events_show_and_hide_at_their_time() -> None:
    comes, goes = shape(event="appears", event_time=0.5), shape(event="disappears", event_time=0.5)
    assert [comes.is_visible(time) for time in (0.0, 0.49, 0.5, 1.0)] == [False, False, True, True]
    assert [goes.is_visible(time) for time in (0.0, 0.49, 0.5, 1.0)] == [True, True, False, False]
    assert comes.period == "middle"
