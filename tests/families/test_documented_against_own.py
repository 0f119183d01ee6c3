"""The documented processors against that of sessions: the same ids, tiles and counts from every family's folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm import AutoProcessor
from videolm.families.auto import load_processor
from videolm.families.convert import convert

FAMILIES = ["llava_next", "llava_next_video", "llava_next_video2", "video_llava"]
PROMPT = "<image> and <video> what?"


@pytest.fixture(scope="module", params=[(name, layout) for name in FAMILIES for layout in ("hf", "original")], ids=str)
def processors(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    write_small_model: Callable[..., Path],
) -> tuple[Any, Any]:
    family, layout = request.param
    root = tmp_path_factory.mktemp(family)
    folder = write_small_model(family, root)
    if layout == "original":
        folder = convert(folder, root / "original", layout="original").folder
    # One family's documented class resizes pictures by Pillow unless told otherwise.
    return AutoProcessor.from_pretrained(folder, use_fast=True), load_processor(folder)


@given(height=st.integers(4, 150), width=st.integers(4, 150))
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore:A video of 2 frames", "ignore:Nothing tells when the frames")
def test_the_same_of_every_size(processors: tuple[Any, Any], height: int, width: int) -> None:
    documented, own = processors
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    media: dict[str, Any] = {"text": PROMPT, "images": picture, "videos": picture[None].repeat(2, axis=0)}
    found, expected = documented(**media), own(**media)
    assert found.input_ids.tolist() == expected.input_ids.tolist()
    pictures = found.get("pixel_values", found.get("pixel_values_images"))
    torch.testing.assert_close(pictures.flatten(0, -4), expected.pixel_values.flatten(0, -4), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pixel_values_videos, expected.pixel_values_videos, rtol=0, atol=1e-6)
