"""Charts: what a map says is what is drawn, where it is drawn."""

import math
from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.world.charts import EMPTY, LETTERS, SIDE, Chart, Print, cell_of, sample_chart, sample_lines, sample_print
from videolm.world.drawing import draw_frame
from videolm.world.scene import Background, Scene, Shape, Text
from videolm.world.vocabulary import COLOURS, KINDS, WORDS, is_held_out

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


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.booleans())
def test_what_is_printed_stands_whole_in_its_cell_and_nowhere_else(seed: int, whole_words: bool) -> None:
    chart = sample_print(Random(seed), whole_words=whole_words)
    words = chart.read().split()
    assert len(words) == chart.rows * chart.columns == (8 if whole_words else 16)
    height, width = chart.scene.height, chart.scene.width
    plain = Scene(shapes=(), background=WHITE, height=height, width=width)
    for cell, word in enumerate(words):
        texts = {0: replace(chart.texts[cell], rgb=(0, 0, 0))} if cell in chart.texts else {}
        drawn = Print(scene=plain, rows=1, columns=1, texts=texts).draw()
        y, x = (drawn.min(axis=2) < 128).nonzero()
        if word == EMPTY:
            assert not texts
            assert not len(x)
            continue
        row, column = divmod(cell, chart.columns)
        # Its middle is in the cell, and nothing of it is cut off at the edge of the picture.
        assert row <= (y.min() + y.max()) / 2 / height * chart.rows <= row + 1
        assert column <= (x.min() + x.max()) / 2 / width * chart.columns <= column + 1
        assert x.min() > 0
        assert x.max() < width - 1
        assert word.isdecimal() or word in (WORDS if whole_words else LETTERS)


def test_print_is_read_row_by_row() -> None:
    def text(words: str) -> Text:
        return Text(words=words, x=0.5, y=0.5, height=0.1, rgb=(0, 0, 0))

    scene = Scene(shapes=(), background=WHITE)
    chart = Print(scene=scene, rows=2, columns=2, texts={2: text("B"), 1: text("A")})
    assert chart.read() == "No A B No"


@settings(max_examples=80, deadline=None)
@given(st.integers())
def test_lines_are_whole_and_one_below_the_other(seed: int) -> None:
    lines = sample_lines(Random(seed))
    words = lines.read().split()
    assert 1 <= len(words) == lines.rows <= 3
    height, width = lines.scene.height, lines.scene.width
    plain = Scene(shapes=(), background=WHITE, height=height, width=width)
    bottom = -1
    for line, word in enumerate(words):
        text = replace(lines.texts[line], rgb=(0, 0, 0))
        drawn = Print(scene=plain, rows=1, columns=1, texts={0: text}).draw()
        whole = Print(scene=plain, rows=1, columns=1, texts={0: replace(text, x=0.5)}).draw()
        y, x = (drawn.min(axis=2) < 128).nonzero()
        _, whole_x = (whole.min(axis=2) < 128).nonzero()
        assert text.words == word
        assert bottom < y.min() <= y.max() < height - 1
        assert np.ptp(x) > np.ptp(whole_x) * (1 - 0.35 / len(word)) - 1
        bottom = int(y.max())


@settings(max_examples=30, deadline=None)
@given(st.integers())
def test_the_map_of_actions_tells_what_changes_and_when(seed: int) -> None:
    chart = sample_chart(Random(seed), changes=True)
    plain = Scene(shapes=chart.scene.shapes, background=WHITE, height=chart.scene.height, width=chart.scene.width)
    words = chart.read("actions").split()
    times = {"early": (0.1, 0.3), "middle": (0.37, 0.63), "late": (0.69, 0.9)}
    for shape in chart.scene.shapes:
        assert not is_held_out(shape.colour, shape.kind, shape.action)
        alone = replace(plain, shapes=(shape,))
        word = words[cell_of(shape)]
        before, after = times.get(word.rpartition("-")[2], (0.0, 0.4))
        changed = not np.array_equal(draw_frame(alone, before), draw_frame(alone, after))
        assert changed == (word != "still")
        if word.startswith(("appears", "disappears")):
            assert shape.is_visible(after) == word.startswith("appears") != shape.is_visible(before)
            assert np.array_equal(draw_frame(alone, 0.0), draw_frame(alone, before))
            assert np.array_equal(draw_frame(alone, 1.0), draw_frame(alone, after))
    assert words.count(EMPTY) == SIDE**2 - len(chart.scene.shapes)


def test_charts_change_in_all_ways() -> None:
    words = {word for seed in range(60) for word in sample_chart(Random(seed), changes=True).read("actions").split()}
    events = {f"{event}-{period}" for event in ("appears", "disappears") for period in ("early", "middle", "late")}
    assert words == {EMPTY, "still", "rotating", "growing", "shrinking", *events}
