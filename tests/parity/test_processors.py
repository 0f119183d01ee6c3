"""The documented processors against those of transformers that need no torchvision, and against their formulas.

What transformers computes with torchvision, which is not installed here, is repeated below as the formula that it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.families.processor_classes import (
    LlavaNextImageProcessor,
    LlavaNextVideoVideoProcessor,
    VideoLlavaImageProcessor,
)
from videolm.processing.callable_tokenizer import CallableTokenizer

pytest.importorskip("transformers")

SMALL: dict[str, Any] = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28]]
SIZES = [(37, 61), (90, 20), (28, 28), (5, 7), (56, 56)]
CHANGES = [{}, {"do_normalize": False}, {"do_rescale": False}, {"image_mean": 0.5, "image_std": 0.25}, {"resample": 2}]


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def assert_equal(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_tiles_of_pictures(change: dict[str, Any]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    theirs = LlavaNextImageProcessorPil(image_grid_pinpoints=PINPOINTS, **SMALL)
    ours = LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, use_fast=False, **SMALL)
    pictures = [Image.fromarray(pixels(*size)) for size in SIZES]
    given = {name: [value] * 3 if name.startswith("image_") else value for name, value in change.items()}
    theirs_said = theirs(pictures, return_tensors="pt", **given)
    ours_said = ours(pictures, return_tensors="pt", **change)
    assert_equal(
        {name: value.float() for name, value in ours_said.items()}, {k: v.float() for k, v in theirs_said.items()}
    )


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_one_tile(size: tuple[int, int], change: dict[str, Any]) -> None:
    from transformers import VideoLlavaImageProcessor as Reference

    picture = pixels(*size)
    theirs = Reference(**SMALL)(picture, return_tensors="pt", **change)
    ours = VideoLlavaImageProcessor(**SMALL)(picture, return_tensors="pt", **change)
    assert_equal(ours, {name: value.float() for name, value in theirs.items()})


@pytest.mark.parametrize("size", [(40, 50), (61, 33), (28, 28)])
def test_frames_are_those_of_the_formula(size: tuple[int, int]) -> None:
    clip, part = pixels(3, *size), LlavaNextVideoVideoProcessor(**SMALL)
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()
    high, wide = (int(28 * side / min(size)) for side in size)
    if (high, wide) != size:
        frames = torch.nn.functional.interpolate(frames, size=(high, wide), mode="bicubic", antialias=True)
    top, left = (high - 28) // 2, (wide - 28) // 2
    frames = frames[:, :, top : top + 28, left : left + 28].float()
    mean, std = (torch.tensor(each).view(3, 1, 1) * 255.0 for each in (part.image_mean, part.image_std))
    assert_equal(part(clip, return_tensors="pt"), {"pixel_values_videos": ((frames - mean) / std)[None]})


@pytest.mark.parametrize("side", ["left", "right"])
def test_ids_and_masks(tiny_model_folder: Path, side: str) -> None:
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    file = str(tiny_model_folder / "tokenizer.json")
    theirs: Any = PreTrainedTokenizerFast(tokenizer_file=file, padding_side=side, **names)
    ours = CallableTokenizer.from_folder(tiny_model_folder)
    ours.padding_side = side
    texts = ["USER: What colour? ASSISTANT:", "", "a </s> b", "<video>"]
    for options in ({"padding": True}, {"padding": "max_length", "max_length": 40}):
        for more in ({}, {"add_special_tokens": False}, {"truncation": True, "max_length": 40}):
            said = theirs(texts, return_tensors="pt", return_token_type_ids=False, **{**options, **more})
            assert_equal(ours(texts, return_tensors="pt", **{**options, **more}), said)
    ids = theirs(texts)["input_ids"]
    assert ours(texts)["input_ids"] == ids
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours.batch_decode(ids, skip_special_tokens=True) == theirs.batch_decode(ids, skip_special_tokens=True)
