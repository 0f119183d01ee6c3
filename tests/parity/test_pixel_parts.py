"""The parts of documented processors against transformers' own, live: every setting and every form of input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import videolm
from videolm.errors import ArgumentError

pytest.importorskip("torchvision")

SMALL: dict[str, Any] = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28]]
FRAMES = ["LlavaNextVideoVideoProcessor", "VideoLlavaVideoProcessor"]
PICTURES = ["LlavaNextImageProcessor", "VideoLlavaImageProcessor"]
CHANGES: list[dict[str, Any]] = [
    {},
    {"do_resize": False},
    {"size": {"height": 20, "width": 30}},
    {"size": {"shortest_edge": 40}},
    {"resample": 0},
    {"resample": 1},
    {"resample": 2},
    {"do_center_crop": False},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5},
    {"do_normalize": False},
    {"do_normalize": False, "rescale_factor": 0.5},
    {"image_mean": [0.1, 0.2, 0.3]},
    {"image_std": [0.5, 0.6, 0.7]},
    {"image_mean": 0.5, "image_std": 0.25},
    {"do_convert_rgb": False},
]
CROPS: list[dict[str, Any]] = [{"crop_size": {"height": 35, "width": 21}}, {"crop_size": 40}]
TILES: list[dict[str, Any]] = [{"image_grid_pinpoints": [[28, 84], [56, 28]]}, {"do_pad": False}]
"""Changes for one family's frames and for tiles alone."""


def pixels(*shape: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, channels), dtype=np.uint8)


def both(name: str, **changes: Any) -> tuple[Any, Any]:
    """Ours and theirs with the same settings."""
    own = SMALL | ({"image_grid_pinpoints": PINPOINTS} if name == "LlavaNextImageProcessor" else {}) | changes
    return getattr(videolm, name)(**own), getattr(transformers, name)(**own)


def assert_equal(ours: Any, theirs: Any, atol: float = 0.0) -> None:
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        torch.testing.assert_close(torch.as_tensor(ours[name]), torch.as_tensor(expected), rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, change) for name in FRAMES for change in [*CHANGES, *CROPS]),
        *((name, change) for name in PICTURES for change in CHANGES),
        *(("VideoLlavaImageProcessor", change) for change in CROPS),
        *(("LlavaNextImageProcessor", change) for change in TILES),
    ],
    ids=str,
)
def test_every_setting_of_a_call_and_of_an_instance(name: str, change: dict[str, Any]) -> None:
    ours, theirs = both(name)
    medium = pixels(3, 40, 51) if name in FRAMES else pixels(40, 51)
    expected = theirs(medium, return_tensors="pt", **change)
    assert_equal(ours(medium, return_tensors="pt", **change), expected)
    changed, _ = both(name, **change)
    assert_equal(changed(medium, return_tensors="pt"), expected)


FORMS: dict[str, Any] = {
    "PIL": lambda picture: Image.fromarray(picture),
    "numpy": lambda picture: picture,
    "numpy, channels first": lambda picture: np.ascontiguousarray(np.moveaxis(picture, -1, 0)),
    "torch": lambda picture: torch.from_numpy(picture),
    "torch, channels first": lambda picture: torch.from_numpy(picture).permute(2, 0, 1),
    "float32": lambda picture: picture.astype(np.float32),
    "float64": lambda picture: picture.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PICTURES)
def test_every_form_of_pictures(name: str, form: str) -> None:
    ours, theirs = both(name)
    pictures = [FORMS[form](pixels(40, 51, seed=seed)) for seed in range(2)]
    batches = [pictures[0], pictures, [[picture] for picture in pictures]]
    if form != "PIL":
        batches.append(np.stack(pictures) if isinstance(pictures[0], np.ndarray) else torch.stack(pictures))
    for batch in batches:
        assert_equal(ours(batch, return_tensors="pt"), theirs(batch, return_tensors="pt"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, of a list of tensors
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FRAMES)
def test_every_form_of_videos(name: str, form: str) -> None:
    ours, theirs = both(name)
    frames = [FORMS[form](pixels(40, 51, seed=seed)) for seed in range(2)]
    batches: list[Any] = [frames, [frames, frames]]
    if form != "PIL":
        stack = np.stack if isinstance(frames[0], np.ndarray) else torch.stack
        clip = stack(frames)
        batches += [frames[0], clip, [clip, clip], stack([clip, clip]), [[clip], [clip]]]
    for batch in batches:
        assert_equal(ours(batch, return_tensors="pt"), theirs(batch, return_tensors="pt"))


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", [*FRAMES, *PICTURES])
def test_where_the_channels_stand_is_taken_as_said(name: str, order: str) -> None:
    ours, theirs = both(name)
    side = pixels(3, 20)  # [3, 20, 3] can be read both ways.
    medium = np.stack([side, side]) if name in FRAMES else side
    options: dict[str, Any] = {"input_data_format": order, "return_tensors": "pt"}
    assert_equal(ours(medium, **options), theirs(medium, **options))


@pytest.mark.parametrize("name", [*FRAMES, *PICTURES])
def test_values_from_0_to_1(name: str) -> None:
    ours, theirs = both(name, do_rescale=False)
    medium = pixels(*([2] if name in FRAMES else []), 40, 51).astype(np.float32) / 255
    assert_equal(ours(medium, return_tensors="pt"), theirs(medium, return_tensors="pt"))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "RGBX"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_other_modes_become_rgb(name: str, mode: str) -> None:
    ours, theirs = both(name)
    picture = Image.fromarray(pixels(40, 51, channels=4), "RGBA")
    picture = picture if mode == "RGBA" else picture.convert("RGB").convert(mode)
    assert_equal(ours(picture, return_tensors="pt"), theirs(picture, return_tensors="pt"))


@pytest.mark.parametrize("channels", [1, 4])
def test_arrays_of_other_numbers_of_channels_become_rgb(channels: int) -> None:
    ours, theirs = both("LlavaNextImageProcessor")
    picture = pixels(40, 51, channels=channels)
    assert_equal(ours(picture, return_tensors="pt"), theirs(picture, return_tensors="pt"))
    unit = {"images": picture.astype(np.float32) / 255, "do_rescale": False, "return_tensors": "pt"}
    # A rounding of the last bit: the arithmetic is in another order.
    assert_equal(ours(**unit), theirs(**unit), atol=2e-6)


@pytest.mark.parametrize("kind", ["pt", "np", None])
@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
def test_types_and_orders_of_what_comes_out(kind: str | None, order: str) -> None:
    ours, theirs = both("VideoLlavaImageProcessor")
    options: dict[str, Any] = {"return_tensors": kind, "data_format": order, "input_data_format": "channels_last"}
    found, expected = (part(pixels(40, 51), **options)["pixel_values_images"] for part in (ours, theirs))
    assert type(found) is type(expected)
    assert type(found[0]) is type(expected[0])
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_tiles_of_pictures_of_any_size(height: int, width: int, resample: int) -> None:
    ours, theirs = both("LlavaNextImageProcessor", resample=resample)
    picture = Image.fromarray(pixels(height, width))
    assert_equal(ours(picture, return_tensors="pt"), theirs(picture, return_tensors="pt"))


@given(st.integers(14, 200), st.integers(14, 200), st.sampled_from(FRAMES))
@settings(max_examples=40, deadline=None)
def test_frames_of_any_size(height: int, width: int, name: str) -> None:
    ours, theirs = both(name)
    clip = pixels(2, height, width)
    assert_equal(ours(clip, return_tensors="pt"), theirs(clip, return_tensors="pt"))


@pytest.mark.parametrize("change", [{}, {"resample": 2}, {"do_rescale": False}], ids=str)
def test_the_pillow_half_of_tiles(change: dict[str, Any]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    theirs = LlavaNextImageProcessorPil(image_grid_pinpoints=PINPOINTS, **SMALL)
    ours = videolm.LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, use_fast=False, **SMALL)
    for size in [(37, 61), (90, 20), (28, 28), (5, 7), (56, 56)]:
        picture = Image.fromarray(pixels(*size))
        expected = theirs(picture, return_tensors="pt", **change)
        assert_equal(ours(picture, return_tensors="pt", **change), {k: v.to(ours_type(v)) for k, v in expected.items()})


def ours_type(value: torch.Tensor) -> torch.dtype:
    """Pixel values are always float32 here; theirs stay bytes or become float64 by the settings."""
    return torch.float32 if value.is_floating_point() or value.dtype == torch.uint8 else value.dtype


@pytest.mark.parametrize("name", [*FRAMES, *PICTURES])
def test_what_differs_without_rescaling_and_normalising_is_the_type(name: str) -> None:
    ours, theirs = both(name, do_rescale=False, do_normalize=False)
    medium = pixels(*([2] if name in FRAMES else []), 40, 51)
    expected = theirs(medium, return_tensors="pt")
    assert_equal(ours(medium, return_tensors="pt"), {k: v.to(ours_type(v)) for k, v in expected.items()})


def test_where_theirs_goes_wrong_ours_does_not() -> None:
    # Whole numbers that are no bytes are resized without staying between 0 and 255.
    ours, theirs = both("LlavaNextVideoVideoProcessor", do_normalize=False, do_rescale=False)
    clip = np.where(pixels(2, 40, 51) > 127, np.uint8(255), np.uint8(0))
    assert_equal(ours(clip.astype(np.int64), return_tensors="pt"), ours(clip, return_tensors="pt"))
    assert theirs(clip.astype(np.int64), return_tensors="pt")["pixel_values_videos"].max() > 255
    # Filters that torch has not end in an error of torch; ours are Pillow's.
    picture = pixels(40, 51)
    tiles, _ = both("LlavaNextImageProcessor", do_rescale=False, do_normalize=False, image_grid_pinpoints=[[28, 28]])
    for filter_ in (Image.Resampling.BOX, Image.Resampling.HAMMING):
        found = tiles(picture, resample=filter_, return_tensors="pt")["pixel_values"][0, 0]
        expected = np.asarray(Image.fromarray(picture).resize((28, 28), filter_))
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)
    # Tiles that do not fill a pinpoint would be cut into pieces, of which the tokens are not counted.
    with pytest.raises(ArgumentError, match="28x56, which tiles of 40 pixels a side do not fill"):
        tiles(picture, crop_size=40, image_grid_pinpoints=PINPOINTS)
    # data_format is honoured for tiles and frames, too.
    frames, _ = both("LlavaNextVideoVideoProcessor")
    last = frames(clip, return_tensors="pt", data_format="channels_last")["pixel_values_videos"]
    assert_equal({"a": last.movedim(-1, 2)}, {"a": frames(clip, return_tensors="pt")["pixel_values_videos"]})
