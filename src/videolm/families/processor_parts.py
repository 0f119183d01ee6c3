"""The two halves of a documented processor that see pixels: one for pictures, one for the frames of videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from videolm.contracts import Frames, VisualInput
from videolm.errors import ArgumentError
from videolm.families.pixel_part import PIXEL_DEFAULTS, PixelPart
from videolm.families.processor_files import video_settings
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling
from videolm.processing.anyres import picture_tiles
from videolm.processing.batch import BatchInputs, stack_alike
from videolm.processing.picture_arrays import ChannelFormat, channel_format, layout_of, read_pictures, read_videos
from videolm.processing.pixels import PixelSettings, fit_frame, normalise
from videolm.processing.pixels import resize as resize_frame
from videolm.processing.tensor_types import as_type, tensor_type
from videolm.visual_tokens import ImageTokens

LIMITS = tuple(field.name for field in fields(MediaLimits))
"""Bounds on files and URLs that a call may change."""

__all__ = ["LIMITS", "FramePart", "PicturePart", "as_asked", "layout_in", "tile_side"]


class PicturePart(PixelPart):
    """Pictures to pixel values: one tile each, or AnyRes tiles where there are ``image_grid_pinpoints``."""

    image_key: ClassVar[str] = "pixel_values"
    tiled: ClassVar[bool] = True
    onto_white: ClassVar[bool] = True
    """Whether transparent pictures in memory are laid onto white."""

    def __call__(self, images: Any, **options: Any) -> BatchInputs:
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: Any = None,
        data_format: Any = "channels_first",
        input_data_format: Any = None,
        **settings: Any,
    ) -> BatchInputs:
        """Pixel values of pictures.

        Args:
            images: PIL, numpy or torch, paths or URLs; one, a list, or lists of lists.
            return_tensors: ``pt``, ``np``, ``jax`` or ``tf``; None: a list of numpy arrays.
            data_format: Where the channels stand in what comes out; None: where they stood.
            settings: Replace this processor's own for this call.
        """
        kind, given = tensor_type(return_tensors), channel_format(input_data_format, "input_data_format")
        media = self.prepare(images, given, settings)
        values = self.stack(media, padded=self.pads(settings))
        return as_asked(values, kind, channel_format(data_format) or given or layout_in(images))

    def prepare(self, images: Any, given: ChannelFormat | None, settings: Mapping[str, Any]) -> list[VisualInput]:
        """Each picture's tiles; their tokens are not counted here."""
        settings, limits = _without_limits(settings)
        values, pixels = self.merged(settings), self.pixel_settings(settings)
        rgb = bool(values["do_convert_rgb"])
        pictures = read_pictures(images, given, rgb=rgb, onto_white=self.onto_white, limits=limits)
        media = []
        for picture in pictures:
            tiles = self._tiles(picture, pixels, values.get("image_grid_pinpoints"))
            size = (picture.shape[0], picture.shape[1])
            media.append(VisualInput(kind="image", pixel_values=normalise(tiles, pixels), size=size, num_tokens=0))
        return media

    def _tiles(self, picture: np.ndarray, pixels: PixelSettings, pinpoints: Any) -> list[np.ndarray]:
        if not self.tiled:
            return [fit_frame(picture, pixels)]
        side = tile_side(pixels)
        # Which tiles there are does not depend on the patches in them, so one patch a tile will do.
        pairs = tuple((int(high), int(wide)) for high, wide in pinpoints)
        _check_whole_tiles(pairs, side)
        tokens = ImageTokens(grid=1, tile_size=side, pinpoints=pairs)
        base, *grid = picture_tiles(picture, pixels, tokens)
        if pixels.size != base.shape[:2]:
            base = resize_frame(picture, pixels.size, pixels)
        return [fit_frame(tile, pixels) for tile in (base, *grid)]

    def adopt(self, tokens: ImageTokens) -> None:
        """Cut tiles as the model puts them together again, whatever list the processor's own file has."""
        if self.tiled:
            # Processors take a pair as (height, width).
            step = 1 if tokens.pinpoint_order == "height_width" else -1
            self.change({"image_grid_pinpoints": [list(pair[::step]) for pair in tokens.pinpoints]})

    def pads(self, settings: Mapping[str, Any]) -> bool:
        """Whether a call with these settings fills up pictures of fewer tiles."""
        value = settings.get("do_pad")
        return bool(getattr(self, "do_pad", True) if value is None else value)

    def stack(self, media: Sequence[VisualInput], *, padded: bool = True) -> dict[str, Any]:
        """The pixel values of several pictures under the names that models take."""
        tiles = [medium.pixel_values for medium in media]
        if not self.tiled:
            return {self.image_key: stack_alike([tile[0] for tile in tiles])}
        stacked = torch.nn.utils.rnn.pad_sequence(tiles, batch_first=True) if padded else stack_alike(tiles)
        return {self.image_key: stacked, "image_sizes": torch.tensor([medium.size for medium in media])}


class FramePart(PixelPart):
    """Videos to pixel values."""

    defaults: ClassVar[dict[str, Any]] = PIXEL_DEFAULTS | dict.fromkeys(("do_sample_frames", "num_frames", "fps"))
    type_key: ClassVar[str] = "video_processor_type"
    file_name: ClassVar[str] = "video_preprocessor_config.json"

    @classmethod
    def _settings_in(cls, folder: Path) -> dict[str, Any]:
        return video_settings(folder)

    def __call__(self, videos: Any, **options: Any) -> BatchInputs:
        return self.preprocess(videos, **options)

    def preprocess(
        self,
        videos: Any,
        *,
        return_tensors: Any = None,
        data_format: Any = "channels_first",
        input_data_format: Any = None,
        **settings: Any,
    ) -> BatchInputs:
        """Pixel values of videos, which may differ in length; the arguments are those of pictures.

        Args:
            videos: Frames as one array or as a list, paths or URLs; one video, a list, or lists of lists. Of a file all
                frames are taken unless ``num_frames`` (so many, evenly) or ``fps`` (so many a second) says otherwise;
                frames in memory are all taken unless this call says otherwise, and only then is ``video_metadata`` of
                use: of each video in memory a mapping with ``fps``, ``total_num_frames`` and ``frames_indices``.
        """
        kind, given = tensor_type(return_tensors), channel_format(input_data_format, "input_data_format")
        values = self.stack(self.prepare(videos, given, settings))
        return as_asked(values, kind, channel_format(data_format) or given or layout_in(videos))

    def prepare(
        self,
        videos: Any,
        given: ChannelFormat | None,
        settings: Mapping[str, Any],
        sampling: FrameSampling | None = None,
        note_of: Callable[[Frames], str] = lambda frames: "",
    ) -> list[VisualInput]:
        """Each video's frames; their tokens are not counted here.

        Args:
            sampling: How the model chooses frames of files, where these settings have nothing else.
            note_of: What the prompt says about a video.
        """
        settings, limits = _without_limits(settings)
        metadata = settings.pop("video_metadata", None)
        values, pixels = self.merged(settings), self.pixel_settings(settings)
        by_call, own = _sampling(settings), _sampling(vars(self))
        # A model's sampling was read from these same settings and also knows the rule.
        if sampling is not None and (own is None or own.num_frames == sampling.num_frames):
            own = sampling
        every = values["do_sample_frames"] is False and by_call is None
        clips = read_videos(
            videos,
            given,
            files=None if every else by_call or own,
            arrays=by_call or own if values["do_sample_frames"] else by_call,
            metadata=metadata,
            on_frame=lambda frame: fit_frame(frame, pixels),
            rgb=bool(values["do_convert_rgb"]),
            limits=limits,
        )
        return [_clip(clip, pixels, note_of(clip)) for clip in clips]

    def stack(self, media: Sequence[VisualInput]) -> dict[str, Any]:
        """The pixel values of several videos; a list where they differ in their number of frames."""
        return {"pixel_values_videos": stack_alike([medium.pixel_values for medium in media])}


def _without_limits(settings: Mapping[str, Any]) -> tuple[dict[str, Any], MediaLimits]:
    """Settings of pixels, and what a call says about files and URLs."""
    limits = {name: value for name, value in settings.items() if name in LIMITS}
    return {name: value for name, value in settings.items() if name not in LIMITS}, MediaLimits(**limits)


def tile_side(pixels: PixelSettings) -> int:
    """Pixels a side of one tile."""
    return pixels.crop_size[0] if pixels.do_center_crop else pixels.size[0]


def _check_whole_tiles(pinpoints: Sequence[tuple[int, int]], side: int) -> None:
    for high, wide in pinpoints:
        if high % side or wide % side:
            raise ArgumentError(
                f"image_grid_pinpoints holds {high}x{wide}, which tiles of {side} pixels a side do not fill: multiples "
                "of crop_size (of size, without do_center_crop) are expected. Change crop_size and size together with "
                "the pinpoints."
            )


def _clip(clip: Frames, pixels: PixelSettings, note: str) -> VisualInput:
    values = normalise(clip.pixels, pixels)
    size = (values.shape[-2], values.shape[-1])
    return VisualInput(kind="video", pixel_values=values, size=size, num_tokens=0, note=note)


def _sampling(settings: Mapping[str, Any]) -> FrameSampling | None:
    num_frames, fps = settings.get("num_frames"), settings.get("fps")
    if fps is not None:
        return FrameSampling(rule="fps", fps=fps, num_frames=num_frames)
    return None if num_frames is None else FrameSampling(rule="arange", num_frames=num_frames)


def as_asked(values: Mapping[str, Any], kind: str | None, order: ChannelFormat | None) -> BatchInputs:
    """The same values in another library's type, and pixels in another order of channels."""
    finished = {}
    for name, value in values.items():
        if name.startswith("pixel_values") and order == "channels_last":
            value = [each.movedim(-3, -1) for each in value] if isinstance(value, list) else value.movedim(-3, -1)
        finished[name] = as_type(value, kind)
    return BatchInputs(finished)


def layout_in(media: Any) -> ChannelFormat:
    """Where the channels stand in the first of these media; a file or a PIL picture has them last."""
    while isinstance(media, (list, tuple)) and media:
        media = media[0]
    return layout_of(np.asarray(media)) if isinstance(media, (np.ndarray, Tensor)) else "channels_last"
