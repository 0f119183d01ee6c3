"""A tiny model folder, made once: random weights, a small tokenizer, the files that a real checkpoint has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videolm.families.auto import load_processor, new_model, save_model

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}
CONFIG = {
    "model_type": "llava_next_video",
    "vision_config": VISION,
    "text_config": TEXT,
    "image_token_index": 297,
    "video_token_index": 296,
    "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
}
PIXELS = {"do_center_crop": False, "size": {"height": 28, "width": 28}}
VIDEO_PIXELS = {**PIXELS, "num_frames": 8}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def built_folder(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], None]) -> Path:
    parts = tmp_path_factory.mktemp("parts")
    write_json(parts / "config.json", CONFIG)
    write_json(parts / "preprocessor_config.json", PIXELS)
    write_json(parts / "video_preprocessor_config.json", VIDEO_PIXELS)
    write_tokenizer(parts)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = new_model(CONFIG, seed=1)
    model.generation_config = {"eos_token_id": 2, "pad_token_id": 0}
    save_model(model, load_processor(parts), folder)
    return folder


@pytest.fixture
def tiny_folder(built_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built_folder, tmp_path / "tiny"))


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """What ``config.json`` of the tiny model was made from; a test may change it."""
    copied: dict[str, Any] = json.loads(json.dumps(CONFIG))
    return copied
