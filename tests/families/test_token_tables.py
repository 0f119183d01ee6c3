"""Real sizes: configurations and documented processors count the same, and as ``test_visual_tokens`` lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from videolm import (
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideo2Config,
    LlavaNextVideo2Processor,
    LlavaNextVideoConfig,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    VideoLlavaConfig,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)
from videolm.families.processor_spec import as_pinpoints
from videolm.visual_tokens import VisualTokens

from ..test_visual_tokens import ANYRES_MAX_9, CLIP_336

LARGE: dict[str, Any] = {"size": {"shortest_edge": 336}, "crop_size": 336}
SIGLIP = LlavaNextVideo2Processor.spec
PROCESSORS: dict[str, tuple[Any, Any]] = {
    "llava_next_video": (
        LlavaNextVideoConfig(),
        LlavaNextVideoProcessor(LlavaNextVideoVideoProcessor(**LARGE), LlavaNextImageProcessor(**LARGE)),
    ),
    "llava_next": (LlavaNextConfig(), LlavaNextProcessor(LlavaNextImageProcessor(**LARGE))),
    "video_llava": (VideoLlavaConfig(), VideoLlavaProcessor(VideoLlavaImageProcessor(), VideoLlavaVideoProcessor())),
    "llava_next_video2": (LlavaNextVideo2Config(), LlavaNextVideo2Processor(SIGLIP.video_part(), SIGLIP.image_part())),
}


@pytest.mark.parametrize("family", PROCESSORS)
@given(height=st.integers(1, 2500), width=st.integers(1, 2500), num_frames=st.integers(1, 110))
@settings(max_examples=100, deadline=None)
def test_processors_count_as_models_do(family: str, height: int, width: int, num_frames: int) -> None:
    config, processor = PROCESSORS[family]
    models, own = config.visual_tokens(), processor.visual_tokens()
    assert own.image.layout(height, width) == models.image.layout(height, width)
    assert own.video == models.video
    assert own.video.count(num_frames) == models.video.count(num_frames)


def test_the_listed_numbers_are_those_of_the_models() -> None:
    next_video, next_ = LlavaNextVideoConfig().visual_tokens(), LlavaNextConfig().visual_tokens()
    assert next_video == next_ == VisualTokens(image=CLIP_336, video=next_video.video)
    assert LlavaNextVideo2Config().visual_tokens().image == ANYRES_MAX_9
    counts = {family: config.visual_tokens().video.count(8) for family, (config, _) in PROCESSORS.items()}
    assert counts == {"llava_next_video": 1152, "llava_next": 1152, "video_llava": 2056, "llava_next_video2": 1456}
    bilinear = LlavaNextVideo2Config(spatial_pool_mode="bilinear")
    assert [bilinear.visual_tokens().video.count(frames) for frames in (1, 64)] == [210, 13_440]
    for position, count in (("frame", 10_880), ("one_token", 10_817), ("no_token", 10_816), ("grid", 11_648)):
        assert LlavaNextVideo2Config(newline_position=position).visual_tokens().video.count(64) == count
    assert VideoLlavaConfig().visual_tokens().image.count(480, 640) == 256


def test_tiles_are_cut_as_the_model_puts_them_together(tmp_path: Any) -> None:
    # Ties between a wide and a high grid are decided by the order of the list and of each pair.
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (142, 184, 3), dtype=np.uint8))
    wide_first, high_first = SIGLIP.image_part(), SIGLIP.image_part()
    high_first.configure({"image_grid_pinpoints": [[384, 768], [768, 384]]})
    wide_first.configure({"image_grid_pinpoints": [[768, 384], [384, 768]]})
    one, other = (part(picture, return_tensors="np")["pixel_values"] for part in (wide_first, high_first))
    assert one.shape == other.shape == (1, 3, 3, 384, 384)
    assert (one[0, 1] != other[0, 1]).any()
    for order, expected in (("width_height", other), ("height_width", one)):
        config = LlavaNextVideo2Config(image_grid_pinpoints=[[768, 384], [384, 768]], pinpoint_order=order)
        part = SIGLIP.image_part(image_grid_pinpoints=[[384, 384]])
        part.adopt(config.visual_tokens().image)
        np.testing.assert_array_equal(part(picture, return_tensors="np")["pixel_values"], expected)
        layout = config.visual_tokens().image.layout(142, 184)
        assert as_pinpoints(part.image_grid_pinpoints)[0] == (384 * layout.tile_rows, 384 * layout.tile_columns)
