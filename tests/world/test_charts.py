"""Charts: what a map says is what is drawn, where it is drawn."""

import math
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.world.charts import EMPTY, SIDE, Chart, cell_of, sample_chart
from videolm.world.drawing import draw_frame
from videolm.world.scene import Background, Scene, Shape
from videolm.world.vocabulary import COLOURS, KINDS, is_held_out

WHITE = Background(top=(255, 255, 255), bottom=(255, 255, 255))


@settings(max_examples=100, deadline=None)
@given(st.integers())
def test_charts_hold_no_held_out_combination_and_no_two_shapes_that_meet(seed: int) -> None:
    scene = sample_chart(Random(seed)).scene
    short = min(scene.height, scene.width)
    cells = [cell_of(shape) for shape in scene.shapes]
    assert len(set(cells)) == len(cells)
    for index, shape in enumerate(scene.shapes):
        assert not is_held_out(shape.colour, shape.kind, shape.action)
        x, y, reach = shape.x * scene.width, shape.y * scene.height, shape.radius * short
        # Sizes are rounded to even numbers after the shapes were placed.
        assert reach - 3 <= x <= scene.width - reach + 3
        assert reach - 3 <= y <= scene.height - reach + 3
        for other in scene.shapes[:index]:
            distance = math.hypot(x - other.x * scene.width, y - other.y * scene.height)
            assert distance > 0.95 * (reach + other.radius * short)


@settings(max_examples=30, deadline=None)
@given(st.integers())
def test_the_map_of_colours_is_what_is_painted_at_the_centres(seed: int) -> None:
    chart = sample_chart(Random(seed))
    plain = Scene(shapes=chart.scene.shapes, background=WHITE, height=chart.scene.height, width=chart.scene.width)
    pixels = draw_frame(plain, 0.0).astype(int)
    words = chart.read("colours").split()
    assert len(words) == SIDE**2
    assert words.count(EMPTY) == SIDE**2 - len(chart.scene.shapes)
    for shape in chart.scene.shapes:
        y, x = int(shape.y * plain.height), int(shape.x * plain.width)
        painted = plain if shape.kind != "ring" else None
        if painted is not None:  # The centre of a ring shows what is behind it.
            assert np.abs(pixels[y, x] - shape.rgb).max() <= 1
        assert words[int(shape.y * SIDE) * SIDE + int(shape.x * SIDE)] == shape.colour


def test_a_map_is_read_row_by_row() -> None:
    def shape(colour: str, kind: str, x: float, y: float) -> Shape:
        return Shape(colour=colour, kind=kind, rgb=(0, 0, 0), x=x, y=y, radius=0.1)

    shapes = (shape("red", "star", 0.3, 0.1), shape("blue", "ring", 0.9, 0.6))
    chart = Chart(scene=Scene(shapes=shapes, background=WHITE))
    assert chart.read("shapes") == "No star No No No No No No No No No ring No No No No"
    assert chart.read("colours") == "No red No No No No No No No No No blue No No No No"


def test_every_word_is_read_about_equally_often() -> None:
    charts = [sample_chart(Random(seed)) for seed in range(300)]
    for listing, names in (("shapes", KINDS), ("colours", COLOURS)):
        words = [word for chart in charts for word in chart.read(listing).split() if word != EMPTY]  # type: ignore[arg-type]
        for name in names:
            # White is never shown on bright backgrounds.
            assert 0.6 / len(names) < words.count(name) / len(words) < 1.3 / len(names)
