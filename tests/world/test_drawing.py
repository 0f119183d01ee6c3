"""Drawn pixels: the right paint in the right place, and files that decode to what was drawn."""

from random import Random

import numpy as np
import pytest

from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.world.drawing import draw_frame, encode_clip, encode_picture, frame_times
from videolm.world.sampler import sample_scene
from videolm.world.scene import Background, Scene, Shape
from videolm.world.vocabulary import KINDS

GREY = Background(top=(60, 60, 60), bottom=(60, 60, 60))


def one_shape(kind: str, **changes: object) -> Scene:
    values: dict[str, object] = {"x": 0.25, "y": 0.5, "radius": 0.2, "colour": "red", "rgb": (250, 10, 10)}
    return Scene(shapes=(Shape(kind=kind, **{**values, **changes}),), background=GREY, height=100, width=200)  # type: ignore[arg-type]


# Shares of the circumscribed circle's area: 1; 2 x 0.82^2 x 2 / pi; half base x height / pi; ...
AREAS = {"circle": 1.0, "square": 0.856, "triangle": 0.54, "star": 0.393, "ring": 0.664, "cross": 0.649}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_covers_its_area_around_its_centre(kind: str) -> None:
    pixels = draw_frame(one_shape(kind), 0.0)
    assert pixels.shape == (100, 200, 3)
    share = (pixels[..., 0].astype(float) - 60) / 190
    assert share.sum() / (np.pi * 20**2) == pytest.approx(AREAS[kind], abs=0.03)
    rows, columns = np.nonzero(share > 0.5)
    assert abs(columns.mean() - 49.5) < 1
    assert abs(rows.mean() - 49.5) < 5  # a triangle's centre of mass lies below its middle
    assert (pixels[:, 100:] == 60).all()


def test_ring_has_a_hole_and_cross_has_empty_corners() -> None:
    assert draw_frame(one_shape("ring"), 0.0)[50, 50].tolist() == [60, 60, 60]
    cross = draw_frame(one_shape("cross"), 0.0)
    assert cross[50, 50].tolist() == [250, 10, 10]
    assert cross[38, 38].tolist() == [60, 60, 60]


def test_a_disappeared_shape_leaves_only_background() -> None:
    scene = one_shape("circle", event="disappears", event_time=0.5)
    assert (draw_frame(scene, 0.8) == 60).all()
    assert not (draw_frame(scene, 0.2) == 60).all()


def test_an_encoded_clip_decodes_to_what_was_drawn() -> None:
    scene = sample_scene(Random("encoded"), "motion", "train")
    frames = load_media(encode_clip(scene, crf=12), sampling=FrameSampling(num_frames=4))
    assert frames.num_source_frames == scene.num_frames
    for index, pixels in zip(frames.frame_indices, frames.pixels, strict=True):
        drawn = draw_frame(scene, frame_times(scene)[index])
        assert np.abs(drawn.astype(int) - pixels.astype(int)).mean() < 6


def test_an_encoded_picture_is_exact() -> None:
    scene = sample_scene(Random("picture"), "text", "train")
    assert np.array_equal(load_media(encode_picture(scene), sampling=FrameSampling()).pixels[0], draw_frame(scene, 0.0))
