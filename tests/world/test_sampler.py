"""Random scenes keep their promises: nothing held out in training, no collisions, paint that its name fits."""

import colorsys
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.world.sampler import MAPPED, PATH_TIMES, SceneStyle, sample_scene
from videolm.world.vocabulary import ACTIONS, COLOURS, KINDS, is_held_out

STYLES: tuple[SceneStyle, ...] = ("motion", "lively", "events", "crowd", "map", "changes", "still", "text")


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.sampled_from(STYLES))
def test_training_scenes_hold_no_held_out_combination(seed: int, style: SceneStyle) -> None:
    scene = sample_scene(Random(seed), style, "train")
    assert not any(is_held_out(s.colour, s.kind, s.action) for s in scene.shapes)


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.sampled_from(STYLES[:5]))
def test_test_scenes_hold_a_held_out_combination(seed: int, style: SceneStyle) -> None:
    scene = sample_scene(Random(seed), style, "test")
    assert any(is_held_out(s.colour, s.kind, s.action) for s in scene.shapes)


def test_every_word_is_held_out_in_some_company_and_learned_in_others() -> None:
    for kind in KINDS:
        for action in ACTIONS:
            assert sum(is_held_out(colour, kind, action) for colour in COLOURS) == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(), st.sampled_from(STYLES))
def test_shapes_stay_inside_and_apart(seed: int, style: SceneStyle) -> None:
    scene = sample_scene(Random(seed), style, "train")
    short = min(scene.width, scene.height)
    for time in PATH_TIMES:
        centres = []
        for shape in scene.shapes:
            x, y = shape.place(time)
            reach = shape.radius * short
            assert x * scene.width - reach >= -3
            assert x * scene.width + reach <= scene.width + 3
            assert y * scene.height - reach >= -3
            assert y * scene.height + reach <= scene.height + 3
            centres.append((x * scene.width, y * scene.height, reach))
        for index, (x, y, reach) in enumerate(centres):
            for other_x, other_y, other_reach in centres[:index]:
                assert math.hypot(x - other_x, y - other_y) > 0.95 * (reach + other_reach)


@pytest.mark.parametrize("style", STYLES)
def test_names_are_unique_and_paint_is_far_from_other_colours(style: SceneStyle) -> None:
    hues = {"red": 0, "orange": 30, "yellow": 56, "green": 120, "blue": 225, "purple": 287}
    for seed in range(60):
        scene = sample_scene(Random(seed), style, "train")
        assert len({shape.name for shape in scene.shapes}) == len(scene.shapes)
        for shape in scene.shapes:
            hue, saturation, _ = colorsys.rgb_to_hsv(*(c / 255 for c in shape.rgb))
            if shape.colour == "white":
                assert saturation < 0.07
                continue
            distance = {name: abs((hue * 360 - at + 180) % 360 - 180) for name, at in hues.items()}
            assert min(distance, key=distance.__getitem__) == shape.colour


def test_the_same_seed_gives_the_same_scene() -> None:
    assert sample_scene(Random("a"), "motion", "train") == sample_scene(Random("a"), "motion", "train")
    assert sample_scene(Random("a"), "motion", "train") != sample_scene(Random("b"), "motion", "train")


@settings(max_examples=100, deadline=None)
@given(st.integers(), st.sampled_from(MAPPED))
def test_each_shape_of_a_map_keeps_to_a_quarter_of_its_own(seed: int, style: SceneStyle) -> None:
    scene = sample_scene(Random(seed), style, "train")
    short = min(scene.width, scene.height)
    quarters = []
    for shape in scene.shapes:
        row, column = int(shape.y * 2), int(shape.x * 2)
        quarters.append((row, column))
        for time in PATH_TIMES:
            x, y = shape.place(time)
            reach = shape.size(time) * short - 3
            assert column * 0.5 * scene.width <= x * scene.width - reach
            assert x * scene.width + reach <= (column + 1) * 0.5 * scene.width
            assert row * 0.5 * scene.height <= y * scene.height - reach
            assert y * scene.height + reach <= (row + 1) * 0.5 * scene.height
    assert len(set(quarters)) == len(quarters)
