"""LLaVA-Video against LLaVA-OneVision of transformers, which is the same model where their settings coincide."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from videolm.families.llava_next_video2 import LlavaNextVideo2ForConditionalGeneration

from .comparing import assert_same_in_everything

transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 78, 79
SIDE = 22
"""Not a multiple of the patch size: the last two rows and columns of pixels are dropped."""
PINPOINTS = [[SIDE * rows, SIDE * columns] for rows in range(1, 5) for columns in range(1, 5)]
MakeBatch = Callable[..., Any]


@pytest.fixture(scope="module")
def theirs() -> Any:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 4,
        "vision_use_head": False,
    }
    text = {
        "model_type": "qwen2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 80,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio="anyres_max_2",
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.fixture(scope="module")
def ours(theirs: Any) -> LlavaNextVideo2ForConditionalGeneration:
    config = theirs.config.to_dict()
    kept = ("vision_config", "text_config", "image_token_index", "video_token_index", "vision_aspect_ratio")
    return LlavaNextVideo2ForConditionalGeneration.from_state_dict(
        {name: config[name] for name in kept}
        | {
            "image_grid_pinpoints": PINPOINTS,
            "pinpoint_order": "height_width",
            "round_unpad": True,
            "spatial_pool_mode": "bilinear",
            "newline_position": "one_token",
        },
        theirs.state_dict(),
    )


def assert_same(ours: Any, theirs: Any, inputs: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept])


@pytest.mark.parametrize("prompt", ["text_only", "one_video", "image_and_video", "video_then_images"])
def test_logits(ours: Any, theirs: Any, make_batch: MakeBatch, prompt: str) -> None:
    assert_same(ours, theirs, make_batch(ours, prompt).inputs)


@pytest.mark.parametrize(("height", "width"), [(22, 22), (88, 88), (70, 30), (3, 60), (44, 61)])
def test_picture_sizes(ours: Any, theirs: Any, make_batch: MakeBatch, height: int, width: int) -> None:
    batch = make_batch(ours)
    assert_same(ours, theirs, batch.row(batch.words(2), batch.image(height, width), batch.words(3)).inputs)


def test_greedy_ids(ours: Any, theirs: Any, make_batch: MakeBatch) -> None:
    inputs = make_batch(ours, "image_and_video").inputs
    expected = theirs.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert ours.generate(**inputs, max_new_tokens=6).tolist() == expected.tolist()


def test_everything_agrees(ours: Any, theirs: Any, make_batch: MakeBatch) -> None:
    assert_same_in_everything(copy.deepcopy(ours), copy.deepcopy(theirs), make_batch(ours, "mixed_rows").inputs)


# --- what OneVision has not: the reference's tower and projector, and the formulas of the original code ---


def pooled(projected: Tensor, mode: str, stride: int) -> Tensor:
    """``[F, D, side, side]`` from ``[F, patches, D]``."""
    side = math.isqrt(projected.shape[1])
    grid = projected.transpose(1, 2).unflatten(-1, (side, side))
    if mode == "bilinear":
        return functional.interpolate(grid, size=2 * (math.ceil(side / stride),), mode="bilinear")
    return {"average": functional.avg_pool2d, "max": functional.max_pool2d}[mode](grid, stride)


def rows_with_newlines(frame: Tensor, newline: Tensor) -> Tensor:
    """``[D, side, side]`` as ``[side * (side + 1), D]``."""
    column = newline[:, None, None].expand(-1, frame.shape[1], 1)
    return torch.cat([frame, column], dim=2).flatten(1).T


def project(theirs: Any, frames: Tensor) -> Tensor:
    states = theirs.model.vision_tower(frames, output_hidden_states=True).hidden_states
    projected: Tensor = theirs.model.multi_modal_projector(states[-1])
    return projected


def changed(ours: Any, **settings: Any) -> Any:
    faster = {"model.faster_token": torch.linspace(-1, 1, 32)} if "add_faster_video" in settings else {}
    return LlavaNextVideo2ForConditionalGeneration.from_state_dict(
        ours.config.to_dict() | settings, ours.state_dict() | faster
    )


@pytest.mark.parametrize("newline_position", ["grid", "frame", "one_token", "no_token"])
@pytest.mark.parametrize("mode", ["average", "max", "bilinear"])
@torch.inference_mode()
def test_pooling_and_newlines(ours: Any, theirs: Any, mode: str, newline_position: str) -> None:
    model = changed(ours, spatial_pool_mode=mode, newline_position=newline_position)
    frames = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    newline = theirs.model.image_newline
    parts = []
    for frame in pooled(project(theirs, frames), mode, 2):
        parts.append(rows_with_newlines(frame, newline) if newline_position == "grid" else frame.flatten(1).T)
        if newline_position == "frame":
            parts.append(newline[None])
    if newline_position == "one_token":
        parts.append(newline[None])
    (found,) = model.get_video_features(frames[None])
    torch.testing.assert_close(found, torch.cat(parts))
    assert len(found) == model.tokens.video.count(3)


@pytest.mark.parametrize("mode", ["average", "max", "bilinear"])
@torch.inference_mode()
def test_slow_and_fast_frames(ours: Any, theirs: Any, mode: str) -> None:
    settings = {"spatial_pool_mode": mode, "newline_position": "grid", "add_faster_video": True}
    model = changed(ours, **settings, faster_token_stride=3)
    frames = torch.randn(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    parts = []
    for index, projected in enumerate(project(theirs, frames)):
        # The paper counts floor(7 / 3) slow frames; code that takes every third would make the last one slow, too.
        (frame,) = pooled(projected[None], mode, 2 if index in (0, 3) else 4)
        parts += [rows_with_newlines(frame, theirs.model.image_newline), torch.linspace(-1, 1, 32)[None]]
    (found,) = model.get_video_features(frames[None])
    torch.testing.assert_close(found, torch.cat(parts))
    assert len(found) == model.tokens.video.count(7)


def test_pooling_before_the_projector_gives_other_logits(ours: Any, theirs: Any, make_batch: MakeBatch) -> None:
    before = LlavaNextVideo2ForConditionalGeneration.from_state_dict(
        ours.config.to_dict() | {"pooling_position": "before"}, ours.state_dict()
    )
    inputs = make_batch(ours, "one_video").inputs
    with torch.inference_mode():
        assert not torch.allclose(before(**inputs).logits, ours(**inputs).logits, atol=1e-3)
