"""The processors of the families under their documented names, with the documented orders of arguments."""

from __future__ import annotations

from typing import Any

from videolm.errors import ArgumentError
from videolm.families.pixel_part import PIXEL_DEFAULTS
from videolm.families.processor_base import DocumentedProcessor
from videolm.families.processor_parts import FramePart, PicturePart
from videolm.families.processor_spec import ProcessorSpec
from videolm.media.sampling import FrameSampling
from videolm.processing.batch import BatchInputs
from videolm.processing.pixels import Backend

_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
_PINPOINTS_OF_4_42 = [[672, 336], [336, 672], [672, 672], [336, 1008], [1008, 336]]
_DEFAULTS = {
    "patch_size": 14,
    "vision_feature_select_strategy": "default",
    "image_token": "<image>",
    "video_token": "<video>",
    "num_additional_image_tokens": 1,
}
_SIGLIP = {
    "size": {"height": 384, "width": 384},
    "do_center_crop": False,
    "crop_size": {"height": 384, "width": 384},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

__all__ = [
    "PROCESSOR_CLASSES",
    "LlavaNextImageProcessor",
    "LlavaNextProcessor",
    "LlavaNextVideo2Processor",
    "LlavaNextVideoImageProcessor",
    "LlavaNextVideoProcessor",
    "LlavaNextVideoVideoProcessor",
    "VideoLlavaImageProcessor",
    "VideoLlavaProcessor",
    "VideoLlavaVideoProcessor",
]


class LlavaNextImageProcessor(PicturePart):
    """Pictures as AnyRes tiles."""

    order = ("do_resize", "size", "image_grid_pinpoints", *tuple(PIXEL_DEFAULTS)[2:], "do_pad")
    defaults = PIXEL_DEFAULTS | {"image_grid_pinpoints": _PINPOINTS, "do_pad": True}


class LlavaNextVideoVideoProcessor(FramePart):
    """Frames of videos."""


class LlavaNextVideoImageProcessor(FramePart):
    """Frames of videos, under the name and with the resizing that transformers 4.42 had."""

    order = ("do_resize", "size", "image_grid_pinpoints", *tuple(PIXEL_DEFAULTS)[2:])
    defaults = FramePart.defaults | {"image_grid_pinpoints": _PINPOINTS_OF_4_42}
    backend: Backend = "pil"

    def preprocess(self, images: Any, **options: Any) -> BatchInputs:  # type: ignore[override]
        """As the processor of videos; that these are called images is this class's history."""
        return super().preprocess(images, **options)


class VideoLlavaVideoProcessor(FramePart):
    """Frames of videos."""


class VideoLlavaImageProcessor(PicturePart):
    """Pictures of one tile each; it takes the frames of videos as well."""

    image_key = "pixel_values_images"
    tiled = False
    backend: Backend = "pil"

    def __call__(self, images: Any = None, videos: Any = None, **options: Any) -> BatchInputs:
        return self.preprocess(images, videos, **options)

    def preprocess(self, images: Any = None, videos: Any = None, **options: Any) -> BatchInputs:
        """Pixel values of pictures, of videos, or of both."""
        if images is None and videos is None:
            raise ArgumentError("There is no image and no video: at least one is expected. Pass images or videos.")
        legacy = options.pop("return_legacy_image_output", True)
        result = BatchInputs()
        if images is not None:
            result.update(super().preprocess(images, **options))
            if not legacy:
                result["pixel_values"] = result.pop("pixel_values_images")
        if videos is not None:
            frames = VideoLlavaVideoProcessor.from_dict(self.to_dict() | {"backend": self.backend})
            result.update(frames.preprocess(videos, **options))
        return result


class LlavaNextVideoProcessor(DocumentedProcessor):
    """LLaVA-NeXT-Video."""

    order = (
        *("video_processor", "image_processor", "tokenizer", "chat_template", "patch_size"),
        *("vision_feature_select_strategy", "video_token", "image_token", "num_additional_image_tokens"),
    )
    spec = ProcessorSpec(
        image_part=LlavaNextImageProcessor,
        video_part=LlavaNextVideoVideoProcessor,
        defaults=_DEFAULTS,
        sampling=FrameSampling(rule="linspace", num_frames=32),
    )


class LlavaNextProcessor(DocumentedProcessor):
    """LLaVA-NeXT, whose pictures' settings serve for the frames of videos too."""

    order = (
        *("image_processor", "tokenizer", "patch_size", "vision_feature_select_strategy", "chat_template"),
        *("image_token", "num_additional_image_tokens"),
    )
    spec = LlavaNextVideoProcessor.spec


class VideoLlavaProcessor(DocumentedProcessor):
    """Video-LLaVA."""

    order = (
        *("image_processor", "video_processor", "tokenizer", "patch_size", "vision_feature_select_strategy"),
        *("image_token", "video_token", "chat_template", "num_additional_image_tokens"),
    )
    spec = ProcessorSpec(
        image_part=VideoLlavaImageProcessor,
        video_part=VideoLlavaVideoProcessor,
        defaults=_DEFAULTS,
        sampling=FrameSampling(rule="linspace", num_frames=8),
        pool=None,
        keep_class_token=True,
        exact_frames=True,
    )


class _SiglipPictures(LlavaNextImageProcessor):
    """AnyRes tiles of another tower, tried in the order of their widths."""

    defaults = (
        LlavaNextImageProcessor.defaults
        | _SIGLIP
        | {"image_grid_pinpoints": [[384 * high, 384 * wide] for wide in range(1, 7) for high in range(1, 7)]}
    )


class _SiglipFrames(LlavaNextVideoVideoProcessor):
    """Frames of another tower."""

    defaults = LlavaNextVideoVideoProcessor.defaults | _SIGLIP


class LlavaNextVideo2Processor(DocumentedProcessor):
    """LLaVA-Video."""

    order = LlavaNextVideoProcessor.order
    spec = ProcessorSpec(
        image_part=_SiglipPictures,
        video_part=_SiglipFrames,
        defaults=_DEFAULTS
        | {
            "vision_feature_select_strategy": "full",
            "num_additional_image_tokens": 0,
            "add_time_instruction": False,
        },
        sampling=FrameSampling(rule="linspace", num_frames=64),
        newline="grid",
        max_grid_tiles=9,
        round_unpad=False,
    )


PROCESSOR_CLASSES: dict[str, type[DocumentedProcessor]] = {
    each.__name__: each
    for each in (LlavaNextVideoProcessor, LlavaNextProcessor, VideoLlavaProcessor, LlavaNextVideo2Processor)
}
"""By the name that a family declares and that files carry."""
