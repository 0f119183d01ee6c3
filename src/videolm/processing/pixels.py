"""Frames to the model's size and to normalised values: uint8 ``[H, W, 3]`` in, ``[F, 3, h, w]`` floats out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from videolm.errors import ArgumentError, ConfigError, ProcessingError

Resize = Literal["shortest_edge", "exact", "pad", "none"]
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Backend = Literal["torch", "pil"]
Size = tuple[int, int]

_RESAMPLES: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order of PIL's numbers, which configuration files use."""
_TORCH_MODES = {"nearest": "nearest-exact"} | {mode: mode for mode in ("lanczos", "bilinear", "bicubic")}
"""The filters that torch has, by its own names."""
_MAX_RESIZED_PIXELS = 2**26
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

__all__ = ["Backend", "PixelSettings", "Resample", "Resize", "Size", "denormalise", "fit_frame", "normalise", "resize"]


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """How a frame becomes the model's input. Sizes are ``(height, width)``."""

    resize: Resize = "shortest_edge"
    """shortest_edge keeps the aspect ratio; exact does not; pad first makes the frame square with ``pad_color``."""
    size: Size = (336, 336)
    """For shortest_edge both numbers are that edge."""
    do_center_crop: bool = True
    crop_size: Size = (336, 336)
    resample: Resample = "bicubic"
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, float, float] = _CLIP_MEAN
    image_std: tuple[float, float, float] = _CLIP_STD
    pad_color: tuple[int, int, int] = (0, 0, 0)
    backend: Backend = "torch"
    """torch is fast; pil is bit-equal to Pillow, which also does what torch has no filter for. They differ by at most
    2/255, and by more only where pixels of both extremes touch: values are clipped between two passes, whose order
    Pillow chooses by the size."""
    fused: bool = False
    """Rescale mean and deviation instead of the pixels, as transformers' torch processors do: the last bits differ."""

    def __post_init__(self) -> None:
        if min(*self.size, *self.crop_size) < 1:
            raise ArgumentError(
                f"Frames cannot be made {self.size} and cropped to {self.crop_size} pixels: every side must be at "
                "least 1. Correct size and crop_size in preprocessor_config.json."
            )
        if self.resize in ("shortest_edge", "pad") and self.size[0] != self.size[1]:
            raise ArgumentError(
                f"The resize rule {self.resize} has the size {self.size}: one edge is expected. Use equal numbers, or "
                "the rule exact."
            )
        if 0 in self.image_std:
            raise ArgumentError(
                f"image_std is {self.image_std}: values above 0 are expected. Correct preprocessor_config.json."
            )

    @property
    def output_size(self) -> Size | None:
        """The size of every finished frame, None where it depends on the frame."""
        if self.do_center_crop:
            return self.crop_size
        return self.size if self.resize in ("exact", "pad") else None

    @classmethod
    def from_preprocessor(
        cls, config: Mapping[str, Any], *, default_size: int = 224, backend: Backend = "torch"
    ) -> PixelSettings:
        """Read the keys of a Hugging Face ``preprocessor_config.json``; ``pad_to_square`` is ours."""
        rule, size = _read_size(config.get("size", {"shortest_edge": default_size}))
        if config.get("pad_to_square"):
            rule = "pad"
        if not config.get("do_resize", True):
            rule = "none"
        _, crop = _read_size(config.get("crop_size", {"height": default_size, "width": default_size}))
        mean, std = (_three(config.get(key, value), key) for key, value in _DEFAULT_STATISTICS)
        return cls(
            resize=rule,
            size=size,
            do_center_crop=bool(config.get("do_center_crop", True)),
            crop_size=crop,
            resample=_read_resample(config.get("resample", 3)),
            do_rescale=bool(config.get("do_rescale", True)),
            rescale_factor=float(config.get("rescale_factor", 1 / 255)),
            do_normalize=bool(config.get("do_normalize", True)),
            image_mean=mean,
            image_std=std,
            pad_color=cast(tuple[int, int, int], tuple(config.get("pad_color", (0, 0, 0)))),
            backend=backend,
        )

    def to_preprocessor(self) -> dict[str, Any]:
        """The keys that ``from_preprocessor`` reads."""
        edges = {"height": self.size[0], "width": self.size[1]}
        config: dict[str, Any] = {
            "do_resize": self.resize != "none",
            "size": {"shortest_edge": self.size[0]} if self.resize == "shortest_edge" else edges,
            "resample": _RESAMPLES.index(self.resample),
            "do_center_crop": self.do_center_crop,
            "crop_size": {"height": self.crop_size[0], "width": self.crop_size[1]},
            "do_rescale": self.do_rescale,
            "rescale_factor": self.rescale_factor,
            "do_normalize": self.do_normalize,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "do_convert_rgb": True,
        }
        if self.resize == "pad":
            config |= {"pad_to_square": True, "pad_color": list(self.pad_color)}
        return config


_DEFAULT_STATISTICS = (("image_mean", _CLIP_MEAN), ("image_std", _CLIP_STD))


def resize(frame: np.ndarray, size: Size, settings: PixelSettings) -> np.ndarray:
    """Resize one ``[H, W, 3]`` frame, uint8 or float, to exactly ``size``."""
    if frame.shape[:2] == size:
        return frame
    if settings.backend == "pil" or settings.resample not in _TORCH_MODES:
        return _resize_with_pillow(frame, size, Image.Resampling(_RESAMPLES.index(settings.resample)))
    if not frame.flags.writeable or not frame.flags.c_contiguous:
        frame = np.array(frame, order="C")  # torch shares memory with writable arrays only
    # Channels stay last in memory: this path of torch's kernel is nearly twice as fast, with equal values.
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]  # [1, 3, H, W]
    mode = _TORCH_MODES[settings.resample]
    image = functional.interpolate(image, size=size, mode=mode, antialias=settings.resample != "nearest")
    return image[0].permute(1, 2, 0).contiguous().numpy()


def _resize_with_pillow(frame: np.ndarray, size: Size, resample: Image.Resampling) -> np.ndarray:
    if frame.dtype == np.uint8:
        return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), resample))
    # Pillow filters bytes alone: values from 0 to 1 are brought to its range and back.
    scale = 255 if frame.min() >= 0 and frame.max() <= 1 else 1
    pixels = np.clip(frame * np.float32(scale), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), resample)).astype(np.float32) / scale


def fit_frame(frame: np.ndarray, settings: PixelSettings) -> np.ndarray:
    """One uint8 or float frame at the model's size; a frame that has it already comes back as it is."""
    height, width = frame.shape[:2]
    if settings.resize == "exact":
        frame = resize(frame, settings.size, settings)
    elif settings.resize == "pad":
        frame = resize(_pad_to_square(frame, settings.pad_color), settings.size, settings)
    elif settings.resize == "shortest_edge":
        edge, short = settings.size[0], min(height, width)
        size = int(edge * height / short), int(edge * width / short)
        if size[0] * size[1] > _MAX_RESIZED_PIXELS:
            raise ProcessingError(
                f"A picture of {width}x{height} pixels would become {size[1]}x{size[0]}: at most {_MAX_RESIZED_PIXELS} "
                "pixels are expected. Crop it to a less extreme shape."
            )
        frame = resize(frame, size, settings)
    if settings.do_center_crop:
        frame = _center_crop(frame, settings.crop_size, settings.backend)
    return np.ascontiguousarray(frame)


def _pad_to_square(frame: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    height, width = frame.shape[:2]
    if height == width:
        return frame
    side = max(height, width)
    square = np.empty((side, side, 3), dtype=frame.dtype)
    square[:] = color
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = frame
    return square


def _center_crop(frame: np.ndarray, size: Size, backend: Backend) -> np.ndarray:
    slices, pads = [], []
    for have, want in zip(frame.shape[:2], size, strict=True):
        start = max(0, (have - want) // 2)
        slices.append(slice(start, start + want))
        missing = max(0, want - have)
        # transformers puts the odd row of padding first with PIL and last with torch
        first = (missing + 1) // 2 if backend == "pil" else missing // 2
        pads.append((first, missing - first))
    frame = frame[slices[0], slices[1]]
    return np.pad(frame, [*pads, (0, 0)]) if frame.shape[:2] != size else frame


def normalise(frames: Sequence[np.ndarray], settings: PixelSettings, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rescale and normalise frames of one size.

    A uint8 has 256 values, so each channel needs one table look-up a pixel: the values are those of the formula.

    Returns:
        ``[F, 3, H, W]``.
    """
    if frames[0].dtype != np.uint8:
        return torch.from_numpy(_formula(np.stack(frames).transpose(0, 3, 1, 2), settings)).to(dtype)
    table = _value_table(settings, dtype)
    height, width = frames[0].shape[:2]
    values = np.empty((len(frames), 3, height, width), dtype=table.dtype)
    for frame, planes in zip(frames, values, strict=True):
        for channel in range(3):
            np.take(table[channel], frame[..., channel], out=planes[channel], mode="clip")
    return torch.from_numpy(values).view(dtype)


def denormalise(pixel_values: Tensor, settings: PixelSettings) -> np.ndarray:
    """The pictures behind ``[F, 3, H, W]`` pixel values: uint8 ``[F, H, W, 3]``."""
    values = pixel_values.detach().to("cpu", torch.float32)
    if settings.do_normalize:
        mean, std = (torch.tensor(three).view(3, 1, 1) for three in (settings.image_mean, settings.image_std))
        values = values * std + mean
    if settings.do_rescale:
        values = values / settings.rescale_factor
    return values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


@lru_cache(maxsize=16)
def _value_table(settings: PixelSettings, dtype: torch.dtype) -> np.ndarray:
    """``[3, 256]`` values of the formula; half precisions as their bits, which numpy can look up."""
    levels = np.repeat(np.arange(256, dtype=np.float64)[None, None, None], 3, axis=1)  # [1, 3, 1, 256]
    values = _formula(levels, settings)[0, :, 0]
    table = torch.from_numpy(values).to(dtype)
    return (table.view(torch.int16) if dtype.itemsize == 2 else table).numpy()


def _formula(values: Any, settings: PixelSettings) -> np.ndarray:
    """Rescaled and normalised ``[F, 3, H, W]``."""
    mean, std = (np.array(each, np.float32).reshape(3, 1, 1) for each in (settings.image_mean, settings.image_std))
    if settings.fused and settings.do_rescale:
        scale = np.float32(1 / settings.rescale_factor)
        if settings.do_normalize:
            mean, std = mean * scale, std * scale
        else:
            values = values.astype(np.float32) * np.float32(settings.rescale_factor)
    elif settings.do_rescale:
        values = values.astype(np.float64) * settings.rescale_factor
    values = values.astype(np.float32)
    return np.asarray((values - mean) / std if settings.do_normalize else values)


def _read_size(size: Any) -> tuple[Resize, Size]:
    match {name: edge for name, edge in size.items() if edge is not None} if isinstance(size, Mapping) else size:
        case int(edge):
            return "shortest_edge", (edge, edge)
        case {"shortest_edge": int(edge), **others} if not others:
            return "shortest_edge", (edge, edge)
        case [int(height), int(width)]:
            return "exact", (height, width)
        case {"height": int(height), "width": int(width), **others} if not others:
            return "exact", (height, width)
    raise ConfigError(
        f"The size {size!r} of a picture processor is not known: expected a number, shortest_edge, or height and "
        "width. Correct preprocessor_config.json."
    )


def _read_resample(resample: Any) -> Resample:
    if resample in _RESAMPLES:
        return cast(Resample, resample)
    if isinstance(resample, int) and 0 <= resample < len(_RESAMPLES):
        return _RESAMPLES[resample]
    raise ConfigError(
        f"The resampling filter {resample!r} is not known: expected a number from 0 to 5, or one of "
        f"{', '.join(_RESAMPLES)}. Correct preprocessor_config.json."
    )


def _three(values: Any, key: str) -> tuple[float, float, float]:
    if isinstance(values, int | float) and not isinstance(values, bool):
        values = [values] * 3
    if isinstance(values, Sequence) and len(values) == 3 and all(isinstance(value, (int, float)) for value in values):
        return cast(tuple[float, float, float], tuple(map(float, values)))
    raise ConfigError(f"{key} is {values!r}: expected three numbers. Correct preprocessor_config.json.")
