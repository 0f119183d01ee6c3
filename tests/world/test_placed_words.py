"""What is said of parts of a picture, checked by the pixels of those parts."""

from random import Random

import numpy as np
import pytest
from PIL import Image

from videolm.world.charts import EMPTY, sample_lines
from videolm.world.drawing import draw_frame, letter_boxes, paste_text
from videolm.world.placed_words import placed_words
from videolm.world.sampler import sample_scene
from videolm.world.scene import Text


def part(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    return pixels[
        max(round(top * height), 0) : max(round(bottom * height), 0),
        max(round(left * width), 0) : max(round(right * width), 0),
    ]


@pytest.mark.parametrize("words", ["HELP", "ZOO", "472", "I"])
@pytest.mark.parametrize("size", [(240, 240), (180, 320), (300, 170)])
def test_all_ink_of_a_letter_is_in_its_box(words: str, size: tuple[int, int]) -> None:
    height, width = size
    text = Text(words=words, x=0.45, y=0.6, height=0.12, rgb=(255, 255, 255))
    boxes = letter_boxes(text, height, width)
    assert [letter for letter, _ in boxes] == list(words)
    canvas = Image.new("RGB", (width, height))
    paste_text(canvas, text)
    pixels = np.asarray(canvas).astype(int)[:, :, 0]
    ink = [part(pixels, box).sum() for _, box in boxes]
    # At the borders between letters a column of smoothed pixels may be a neighbour's.
    assert sum(ink) == pytest.approx(pixels.sum(), rel=0.06)
    assert min(ink) > 0.05 * sum(ink)
    # A letter printed alone at the same place has the ink that was found in its box.
    for (letter, box), found in zip(boxes, ink, strict=True):
        alone = Image.new("RGB", (width, height))
        paste_text(alone, Text(words=letter, x=(box[0] + box[2]) / 2, y=0.6, height=0.12, rgb=(255, 255, 255)))
        assert np.asarray(alone).astype(int)[:, :, 0].sum() == pytest.approx(found, rel=0.25)


def test_shapes_have_their_colour_around_their_centre_and_empty_places_have_none() -> None:
    num_shapes = num_empty = 0
    for seed in range(60):
        scene = sample_scene(Random(seed), "text", "train")
        assert scene.text is not None
        pixels = draw_frame(scene, 0.0)
        without = draw_frame(type(scene)(**{**vars(scene), "shapes": (), "text": None}), 0.0)
        words = placed_words(scene, [scene.text], Random(seed))
        count = len(scene.text.words)
        assert "".join(word for word, _ in words[:count]) == scene.text.words
        by_kind = {shape.kind: shape for shape in scene.shapes}
        for word, box in words[count:]:
            differs = part(np.abs(pixels.astype(int) - without), box).max(initial=0) > 0
            if word == EMPTY:
                num_empty += 1
                assert not differs
            else:
                num_shapes += 1
                centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                assert any(shape.kind == word and shape.place(0.0) == pytest.approx(centre) for shape in scene.shapes)
                assert differs
                assert word in by_kind
    assert num_shapes > 30
    assert num_empty > 100


def test_each_line_of_a_print_has_its_letters() -> None:
    for seed in range(30):
        printed = sample_lines(Random(seed))
        words = placed_words(printed.scene, tuple(printed.texts.values()), Random(seed))
        letters = "".join(word for word, _ in words if word != EMPTY)
        assert letters == printed.read().replace(" ", "")
