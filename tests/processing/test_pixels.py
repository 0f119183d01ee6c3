"""Pixels against Pillow, the plain formula and transformers' image processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.errors import ArgumentError, ConfigError, ProcessingError
from videolm.processing.pixels import PixelSettings, denormalise, fit_frame, normalise, resize

CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise over a gradient: sharp edges and flat parts."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width, dtype=np.float64)[None, :, None]
    picture = np.where(rng.random((height, width, 1)) < 0.5, ramp, rng.integers(0, 256, (height, width, 3)))
    return picture.astype(np.uint8)


@pytest.mark.parametrize("resample", ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"])
@pytest.mark.parametrize("size", [(28, 28), (90, 31), (40, 70)])
def test_the_pil_backend_is_pillow(resample: str, size: tuple[int, int]) -> None:
    frame = noise(47, 70)
    expected = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling[resample.upper()]))
    np.testing.assert_array_equal(resize(frame, size, PixelSettings(backend="pil", resample=resample)), expected)


@pytest.mark.parametrize("resample", ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"])
@pytest.mark.parametrize("size", [(28, 28), (90, 31), (40, 70)])
def test_the_torch_backend_is_within_two_levels_of_pillow(resample: str, size: tuple[int, int]) -> None:
    frame = noise(47, 70)
    ours, exact = (resize(frame, size, PixelSettings(backend=b, resample=resample)) for b in ("torch", "pil"))
    difference = np.abs(ours.astype(int) - exact.astype(int))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.02


def test_memory_order_does_not_change_the_values() -> None:
    frame = noise(47, 70)
    contiguous = torch.from_numpy(frame).permute(2, 0, 1).contiguous()[None]
    expected = torch.nn.functional.interpolate(contiguous, size=(28, 31), mode="bicubic", antialias=True)
    np.testing.assert_array_equal(resize(frame, (28, 31), PixelSettings()), expected[0].permute(1, 2, 0).numpy())


def test_views_and_read_only_arrays_are_read_like_copies() -> None:
    frame = noise(47, 70)
    locked = frame.copy()
    locked.flags.writeable = False
    for view, copy in ((locked, frame), (frame[::-1, ::2], frame[::-1, ::2].copy())):
        np.testing.assert_array_equal(resize(view, (28, 28), PixelSettings()), resize(copy, (28, 28), PixelSettings()))


def clip_processor(name: str, **settings: Any) -> Any:
    if name == "clip":
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        return CLIPImageProcessorPil(**settings)
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil(**settings)


@pytest.mark.parametrize("size", [(360, 640), (641, 359), (28, 28), (29, 28), (28, 45), (35, 28), (20, 20), (13, 50)])
@pytest.mark.parametrize("crop", [28, 27, 33])
def test_clip_frames_are_those_of_transformers(size: tuple[int, int], crop: int) -> None:
    config = {"size": {"shortest_edge": 28}, "crop_size": {"height": crop, "width": crop}, **CLIP}
    frame = noise(*size)
    theirs = clip_processor("clip", **config)(Image.fromarray(frame), return_tensors="pt")["pixel_values"]
    settings = PixelSettings.from_preprocessor(config, backend="pil")
    ours = normalise([fit_frame(frame, settings)], settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_siglip_frames_are_those_of_transformers() -> None:
    config = {
        "size": {"height": 28, "width": 28},
        "do_center_crop": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    frame = noise(36, 64)
    theirs = clip_processor("siglip", resample=3, **config)(Image.fromarray(frame), return_tensors="pt")["pixel_values"]
    settings = PixelSettings.from_preprocessor(config, backend="pil")
    torch.testing.assert_close(normalise([fit_frame(frame, settings)], settings), theirs, rtol=0, atol=0)


def test_padding_to_a_square_is_that_of_transformers() -> None:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    config = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, **CLIP}
    frame = noise(35, 64)
    theirs = LlavaImageProcessorPil(do_pad=True, **config)(Image.fromarray(frame), return_tensors="pt")["pixel_values"]
    colour = [int(255 * mean) for mean in CLIP["image_mean"]]
    settings = PixelSettings.from_preprocessor({**config, "pad_to_square": True, "pad_color": colour}, backend="pil")
    torch.testing.assert_close(normalise([fit_frame(frame, settings)], settings), theirs, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_table_is_the_formula(dtype: torch.dtype) -> None:
    settings = PixelSettings()
    frames = [np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3), noise(16, 16)]
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    scaled = (pixels.to(torch.float64) * settings.rescale_factor).to(torch.float32)
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (settings.image_mean, settings.image_std))
    torch.testing.assert_close(normalise(frames, settings, dtype), ((scaled - mean) / std).to(dtype), rtol=0, atol=0)


def test_rescaling_and_normalising_can_be_left_out() -> None:
    frame = noise(4, 4)
    values = normalise([frame], PixelSettings(do_rescale=False, do_normalize=False))
    torch.testing.assert_close(values[0].permute(1, 2, 0), torch.from_numpy(frame).float(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_denormalising_gives_the_frames_back(dtype: torch.dtype) -> None:
    frames = np.stack([noise(16, 16), noise(16, 16, seed=1)])
    back = denormalise(normalise(list(frames), PixelSettings(), dtype), PixelSettings())
    tolerance = 0 if dtype == torch.float32 else 1
    assert np.abs(back.astype(int) - frames.astype(int)).max() <= tolerance


@pytest.mark.parametrize("rule", ["shortest_edge", "exact", "pad"])
@pytest.mark.parametrize("size", [(36, 64), (64, 36), (28, 28), (7, 9)])
def test_a_finished_frame_comes_back_as_it_is(rule: str, size: tuple[int, int]) -> None:
    settings = PixelSettings(resize=rule, size=(28, 28), crop_size=(28, 28), do_center_crop=rule == "shortest_edge")
    once = fit_frame(noise(*size), settings)
    assert once.shape == (*settings.output_size, 3)
    np.testing.assert_array_equal(fit_frame(once, settings), once)


def test_settings_survive_the_file() -> None:
    for settings in (
        PixelSettings(),
        PixelSettings(resize="exact", size=(20, 30), do_center_crop=False, resample="bilinear", image_mean=(0.5,) * 3),
        PixelSettings(resize="pad", pad_color=(1, 2, 3)),
        PixelSettings(resize="none"),
    ):
        again = PixelSettings.from_preprocessor(settings.to_preprocessor())
        assert again.to_preprocessor() == settings.to_preprocessor()


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"size": {"longest_edge": 3}}, "size"),
        ({"size": "large"}, "size"),
        ({"resample": 9}, "resampling filter"),
        ({"resample": "sharp"}, "resampling filter"),
        ({"image_mean": [1, 2]}, "image_mean"),
        ({"image_std": "0.5"}, "image_std"),
    ],
)
def test_unknown_settings_are_refused(config: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        PixelSettings.from_preprocessor(config)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": (0, 0)},
        {"crop_size": (5, -1)},
        {"size": (5, 6)},
        {"image_std": (0.5, 0.0, 0.5)},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        PixelSettings(**settings)


def test_the_advice_to_use_pil_is_true() -> None:
    assert PixelSettings(resample="lanczos", backend="pil").resample == "lanczos"


def test_a_frame_that_would_grow_beyond_reason_is_refused() -> None:
    with pytest.raises(ProcessingError, match="less extreme shape"):
        fit_frame(np.zeros((1, 2000, 3), np.uint8), PixelSettings())
