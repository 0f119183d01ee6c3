"""The page about adding a family: its code blocks together are a family that loads, answers, saves and trains."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from videolm import session
from videolm.errors import CheckpointError, ConfigError
from videolm.families import auto

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-family.md"
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIG = {
    "model_type": "pebble",
    "image_token_index": 297,
    "video_token_index": 296,
    "vision_config": SMALL | {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 7},
    "text_config": SMALL | {"model_type": "llama", "vocab_size": 300, "max_position_embeddings": 512},
}


@pytest.fixture
def pebble(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file that the page writes, in the list of families."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("pebble")
    monkeypatch.setitem(sys.modules, "pebble", module)
    exec(compile("\n".join(blocks), str(PAGE), "exec"), module.__dict__)
    model_class = module.PebbleForConditionalGeneration
    monkeypatch.setattr(auto, "MODEL_CLASSES", (*auto.MODEL_CLASSES, model_class))
    monkeypatch.setitem(auto._BY_TYPE, "pebble", model_class)
    return module


@pytest.fixture
def folder(pebble: ModuleType, tmp_path: Path, write_tokenizer: Callable[[Path], None]) -> Path:
    parts = tmp_path / "parts"
    parts.mkdir()
    square = {"do_center_crop": False, "size": {"height": 28, "width": 28}}
    for name, values in (("config.json", CONFIG), ("preprocessor_config.json", square)):
        (parts / name).write_text(json.dumps(values))
    write_tokenizer(parts)
    auto.save_model(auto.new_model(CONFIG, seed=1), auto.load_processor(parts), tmp_path / "pebble")
    return tmp_path / "pebble"


def test_it_answers_about_videos_and_pictures(folder: Path) -> None:
    opened = session.load(folder, device="cpu", dtype="float32")
    video = np.random.default_rng(0).integers(0, 256, (12, 30, 50, 3), dtype=np.uint8)
    answer = opened.ask(video, "what is this?", max_new_tokens=4)
    assert answer.usage.visual_tokens == 8 * (2 * 2 + 1)
    assert opened.ask(video[0], "what is this?", max_new_tokens=4).usage.visual_tokens == 16
    assert opened.sampling.num_frames == 8


@torch.inference_mode()
def test_its_features_are_those_that_the_page_describes(pebble: ModuleType, folder: Path) -> None:
    model = pebble.PebbleForConditionalGeneration.from_pretrained(folder)
    frames = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    (state,) = model.model.vision_tower(frames, (model.config.settings().vision.num_hidden_layers - 1,))
    grid = model.model.multi_modal_projector(state[:, 1:]).transpose(1, 2).unflatten(-1, (4, 4))
    pooled = functional.max_pool2d(grid, 2).flatten(2).transpose(1, 2)
    newline = model.model.image_newline.expand(2, 1, -1)
    (found,) = model.get_video_features(frames[None])
    torch.testing.assert_close(found, torch.cat([pooled, newline], dim=1).flatten(0, 1))


def test_its_files_have_the_names_of_the_page(pebble: ModuleType, folder: Path) -> None:
    names = set(load_file(folder / "model.safetensors"))
    assert {name.partition(".")[0] for name in names} == {"eye", "bridge", "frame_end", "mouth"}
    loaded, made = auto.load_model(folder), auto.new_model(CONFIG, seed=1)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(made.state_dict()), rtol=0, atol=0)
    assert type(loaded).__name__ == "PebbleForConditionalGeneration"
    assert (pebble.PebbleModel.__name__, type(loaded.model)) == ("PebbleModel", pebble.PebbleModel)
    with pytest.raises(CheckpointError, match=r"pebble \(eye\.embeddings\.\)"):
        pebble.PebbleForConditionalGeneration.from_state_dict(CONFIG, {"nose.weight": torch.ones(1)})


def test_it_learns(pebble: ModuleType) -> None:
    model = pebble.PebbleForConditionalGeneration(CONFIG)
    ids = torch.tensor([[1, *[296] * 5, 7, 8]])
    output = model(ids, pixel_values_videos=torch.randn(1, 1, 3, 28, 28), labels=ids.masked_fill(ids == 296, -100))
    output.loss.backward()
    assert type(output) is pebble.PebbleCausalLMOutputWithPast
    assert float(model.model.image_newline.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"projector_hidden_act": "relu"}, "expected one of gelu, silu"), ({"spatial_pool_stride": 0}, "at least 1")],
)
def test_wrong_values_name_their_key(pebble: ModuleType, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(values))} is .* in the configuration of pebble: .*{message}"):
        pebble.PebbleConfig(**values)
