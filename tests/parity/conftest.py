"""What the comparisons share: tiny random models made by the reference's own classes, and batches for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

VOCABULARY = 80
IMAGE_ID, VIDEO_ID = 78, 79
PATCH = 4


class Batch:
    """Prompts of words and media, padded on the left; ``inputs`` is what both models take."""

    def __init__(self, model: Any, seed: int = 0) -> None:
        self.tokens = model.tokens
        self.side = model.tokens.image.tile_size
        self.generator = torch.Generator().manual_seed(seed)
        self.rows: list[list[int]] = []
        self.tiles: list[torch.Tensor] = []
        self.sizes: list[tuple[int, int]] = []
        self.videos: list[torch.Tensor] = []

    def pixels(self, count: int) -> torch.Tensor:
        return torch.randn(count, 3, self.side, self.side, generator=self.generator)

    def words(self, count: int) -> list[int]:
        return torch.randint(3, 70, (count,), generator=self.generator).tolist()

    def image(self, height: int, width: int) -> list[int]:
        layout = self.tokens.image.layout(height, width)
        self.tiles.append(self.pixels(layout.num_tiles))
        self.sizes.append((height, width))
        return [IMAGE_ID] * layout.count

    def video(self, num_frames: int = 3) -> list[int]:
        self.videos.append(self.pixels(num_frames))
        return [VIDEO_ID] * self.tokens.video.count(num_frames)

    def row(self, *parts: list[int]) -> Batch:
        self.rows.append([1, *(token for part in parts for token in part)])
        return self

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        longest = max(map(len, self.rows))
        inputs = {
            "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in self.rows]),
            "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in self.rows]),
        }
        if self.tiles:
            most = max(map(len, self.tiles))
            padded = [torch.cat([tiles, tiles.new_zeros(most - len(tiles), *tiles.shape[1:])]) for tiles in self.tiles]
            inputs |= {"pixel_values": torch.stack(padded), "image_sizes": torch.tensor(self.sizes)}
        if self.videos:
            inputs["pixel_values_videos"] = torch.stack(self.videos)
        return inputs


def text_only(batch: Batch) -> Batch:
    return batch.row(batch.words(9))


def one_video(batch: Batch) -> Batch:
    return batch.row(batch.words(2), batch.video(), batch.words(5))


def image_and_video(batch: Batch) -> Batch:
    return batch.row(batch.words(2), batch.image(40, 23), batch.words(3), batch.video(), batch.words(4))


def video_then_images(batch: Batch) -> Batch:
    return batch.row(batch.video(2), batch.image(16, 16), batch.image(7, 90), batch.words(4))


def mixed_rows(batch: Batch) -> Batch:
    batch.row(batch.words(4))
    batch.row(batch.words(2), batch.image(31, 57), batch.words(6))
    batch.row(batch.video(2), batch.words(3))
    batch.row(batch.words(1), batch.video(2), batch.words(3), batch.image(90, 20), batch.words(2))
    return batch.row(batch.words(11))


def fill(batch: Batch, prompt: str) -> Batch:
    """The batch with the rows that have this name."""
    prompts = {each.__name__: each for each in (text_only, one_video, image_and_video, video_then_images, mixed_rows)}
    return prompts[prompt](batch)


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch for one of our models, empty or with the rows of a named prompt."""

    def make(model: Any, prompt: str | None = None) -> Batch:
        return Batch(model) if prompt is None else fill(Batch(model), prompt)

    return make


def vision_settings(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 4 * PATCH,
        "patch_size": PATCH,
    } | changes


def text_settings(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    settings = {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if model_type == "mistral":
        settings["sliding_window"] = None
    return settings | changes


@pytest.fixture
def make_reference() -> Callable[..., Any]:
    """A LLaVA-NeXT-Video model of the reference's class; keywords replace keys of its configuration."""
    transformers = pytest.importorskip("transformers")

    def make(
        decoder: str = "llama",
        *,
        vision: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Any:
        side = vision_settings(**(vision or {}))["image_size"]
        settings = {
            "vision_config": vision_settings(**(vision or {})),
            "text_config": text_settings(decoder, **(text or {})),
            "image_token_index": IMAGE_ID,
            "video_token_index": VIDEO_ID,
            "image_grid_pinpoints": [
                [side, 2 * side],
                [2 * side, side],
                [2 * side, 2 * side],
                [3 * side, side],
                [side, 3 * side],
            ],
        } | changes
        torch.manual_seed(0)
        config = transformers.LlavaNextVideoConfig(**settings)
        model = transformers.LlavaNextVideoForConditionalGeneration(config).eval()
        # The reference starts with zero biases and tiny weights; larger ones make differences visible.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return model

    return make
