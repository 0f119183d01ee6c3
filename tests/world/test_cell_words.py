"""What is said of each cell of each frame: of a scene written by hand word by word, of random ones by their pixels."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.world.cell_words import cell_words
from videolm.world.charts import EMPTY, SIDE, sample_chart
from videolm.world.drawing import draw_frame
from videolm.world.sampler import sample_scene
from videolm.world.scene import Background, Scene, Shape

WHITE = Background(top=(255, 255, 255), bottom=(255, 255, 255))
TIMES = (0.0, 0.5, 1.0)
PLACED = {"colour": "red", "kind": "star", "rgb": (255, 0, 0), "x": 0.3, "y": 0.6, "radius": 0.08}
CELL = 2 * SIDE + 1


def said(time_index: int, cell: int, *, times: tuple[float, ...] = TIMES, seed: int = 0, **changes: Any) -> str:
    scene = Scene(shapes=(Shape(**{**PLACED, **changes}),), background=WHITE, is_clip=True)
    words = cell_words(scene, times, Random(seed), empty=0.0)
    assert len(words) == len(times) * SIDE**2
    others = [word for index, word in enumerate(words) if index % SIDE**2 != cell]
    assert changes.get("travel") or not any(others)
    return words[time_index * SIDE**2 + cell]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["star", "still", "still"]),
        ({"motion": "rotating", "turn": 90.0}, ["star", "rotates", "rotates"]),
        ({"motion": "growing"}, ["star", "grows", "grows"]),
        ({"motion": "shrinking"}, ["star", "shrinks", "shrinks"]),
        ({"event": "appears", "event_time": 0.3}, ["", "appears", "appears"]),
        ({"event": "appears", "event_time": 0.8}, ["", "", "appears"]),
        ({"event": "disappears", "event_time": 0.3}, ["star", "disappears", "disappears"]),
        ({"event": "disappears", "event_time": 0.8}, ["star", "still", "disappears"]),
    ],
)
def test_the_cell_of_a_shape_says_what_has_changed(changes: dict[str, Any], expected: list[str]) -> None:
    assert [said(index, CELL, **changes) for index in range(3)] == expected


def test_what_moves_is_told_where_it_is_and_what_bounces_by_its_steps() -> None:
    moving = {"motion": "right", "travel": (0.5, 0.0)}
    assert said(1, CELL + 1, **moving) == said(2, CELL + 2, **moving) == "right"
    slowly = {"motion": "right", "travel": (0.03, 0.0)}
    assert [said(index, CELL, **slowly) for index in range(3)] == ["star", "", "right"]
    bouncing = {"motion": "bouncing", "travel": (0.0, 0.1), "bounces": 1.0}
    assert [said(index, CELL, times=(0.0, 0.4, 0.8, 1.0), **bouncing) for index in range(4)] == [
        "star", "down", "up", "bounces",
    ]  # fmt: skip
    diagonal = {"motion": "up-right", "travel": (0.1, -0.1)}
    assert {said(1, CELL, seed=seed, **diagonal) for seed in range(20)} == {"up", "right"}


@settings(max_examples=40, deadline=None)
@given(st.integers(), st.booleans())
def test_cells_that_are_called_empty_show_the_background_alone(seed: int, is_chart: bool) -> None:
    random = Random(seed)
    scene = sample_chart(random, changes=True).scene if is_chart else sample_scene(random, "lively", "train")
    circles = tuple(replace(shape, kind="circle") for shape in scene.shapes)
    plain = replace(scene, background=WHITE, shapes=circles)
    words = cell_words(scene, TIMES, random, empty=1.0)
    assert EMPTY in words or is_chart
    for index, time in enumerate(TIMES):
        pixels = draw_frame(plain, time)
        for cell in range(SIDE**2):
            if words[index * SIDE**2 + cell] == EMPTY:
                rows, columns = (
                    slice(-(-size * place // SIDE), size * (place + 1) // SIDE)
                    for size, place in zip(pixels.shape, divmod(cell, SIDE), strict=False)
                )
                assert np.all(pixels[rows, columns] == 255)
