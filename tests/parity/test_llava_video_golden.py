"""LLaVA-Video against results of the original code: tiny checkpoints in the original layout, loaded as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm.contracts import VisualInput
from videolm.families.auto import load_model
from videolm.families.llava_next_video2 import LlavaNextVideo2ForConditionalGeneration

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "golden" / "llava_video"
CASES = ["lv_average_grid", "lv_average_one_token", "lv_bilinear_grid", "lv_image_2x3", "lv_image_shrunk"]
MEDIUM = -200
# The original ran in another release of torch: sums are added up in another order.
TOLERANCE = 2e-4


@pytest.mark.parametrize("name", CASES)
def test_original_checkpoints_give_the_original_logits_and_ids(name: str) -> None:
    case = np.load(GOLDEN / name / "case.npz")
    model = load_model(GOLDEN / name)
    assert isinstance(model, LlavaNextVideo2ForConditionalGeneration)
    inputs = inputs_of(case, model)
    placeholders = (model.config.image_token_index, model.config.video_token_index)
    assert sum(int((inputs["input_ids"] == token).sum()) for token in placeholders) == int(case["n_visual"])

    with torch.inference_mode():
        logits = model(**inputs).logits
    expected = torch.from_numpy(case["logits"])
    assert logits.shape == expected.shape
    assert float((logits - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())

    wanted = case["generated"].tolist()
    output = model.generate(**inputs, max_new_tokens=len(wanted))
    assert output[0, inputs["input_ids"].shape[1] :].tolist() == wanted


@pytest.mark.parametrize("name", CASES)
def test_the_part_without_text_counts_the_same(name: str) -> None:
    case = np.load(GOLDEN / name / "case.npz")
    model = load_model(GOLDEN / name)
    medium = medium_of(case, model)
    with torch.inference_mode():
        (features,) = model.encode_media([medium])
    assert medium.num_tokens == len(features.tokens) == int(case["n_visual"])


def medium_of(case: Any, model: Any) -> VisualInput:
    pixels = torch.from_numpy(case["pixels"])
    width, height = case["image_size_wh"].tolist()
    kind = case["kind"].item()
    tokens = model.tokens
    count = tokens.video.count(len(pixels)) if kind == "video" else tokens.image.count(height, width)
    return VisualInput(kind=kind, pixel_values=pixels, size=(height, width), num_tokens=count)


def inputs_of(case: Any, model: Any) -> dict[str, torch.Tensor]:
    """What ``forward`` takes: the one mark of the original expanded to as many placeholders as there are tokens."""
    medium = medium_of(case, model)
    is_video = medium.kind == "video"
    placeholder = model.config.video_token_index if is_video else model.config.image_token_index
    ids: list[int] = []
    for token in case["ids"][0].tolist():
        ids += [placeholder] * medium.num_tokens if token == MEDIUM else [token]
    inputs = {"input_ids": torch.tensor([ids])}
    if is_video:
        return inputs | {"pixel_values_videos": medium.pixel_values[None]}
    return inputs | {"pixel_values": medium.pixel_values[None], "image_sizes": torch.tensor([medium.size])}
