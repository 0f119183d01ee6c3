"""A tiny model folder, a source of drawn clips, and configurations that train one on the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import yaml

WORDS = ["A chat", "USER: what moves", "ASSISTANT: a red ball moves left", "the blue cube is still"]

MODEL = {
    "model_type": "llava_next_video",
    "image_token_index": 301,
    "video_token_index": 300,
    "image_grid_pinpoints": [[16, 32], [32, 16]],
    "vision_feature_layer": -1,
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    },
    "text_config": {
        "model_type": "llama",
        "vocab_size": 320,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}
PIXELS = {
    "size": {"height": 16, "width": 16},
    "do_center_crop": False,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "num_frames": 2,
}

SOURCE = '''
"""Clips of one colour, a picture now and then; the fourth of ten is broken where that is asked for."""
import os

import numpy as np

from videolm.training.data import TrainingSample

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}


class Colours:
    def __init__(self, broken=False, video=True):
        self.broken, self.video = broken, video

    def sample(self, index):
        name = list(COLOURS)[index % 3]
        if self.broken and index % 10 == 3:
            raise ValueError(f"sample {index} is broken")
        frames = np.full((2 + index % 3, 20, 24, 3), COLOURS[name], np.uint8)
        kind = "video" if self.video else "image"
        question = [{"type": kind}, {"type": "text", "text": "what colour? " * (1 + index % 4)}]
        messages = ({"role": "user", "content": question}, {"role": "assistant", "content": f"a {name} thing"})
        return TrainingSample(id=f"c{index}", media=(frames if self.video else frames[0],), messages=messages)


class Deadly(Colours):
    def sample(self, index):
        if index == 2:
            os._exit(3)
        return super().sample(index)


class Finite(Colours):
    def __len__(self):
        return 5
'''

MakeConfig = Callable[..., Path]


def write_model_folder(folder: Path) -> Path:
    """A folder from which a model starts from scratch."""
    folder.mkdir(parents=True)
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<unk>", "<s>", "</s>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(WORDS, trainer)
    backend.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    files: dict[str, dict[str, Any]] = {
        "tokenizer_config.json": {**names, "add_bos_token": True},
        "config.json": MODEL,
        "preprocessor_config.json": PIXELS,
        "generation_config.json": {"eos_token_id": 2},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("model") / "start")


@pytest.fixture
def make_config(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeConfig:
    """Write a configuration that trains the tiny model on the clips; arguments replace its keys."""
    (tmp_path / "colours_source.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "colours_source", raising=False)

    def make(name: str = "run", **changes: Any) -> Path:
        part = {"train": True, "lr": 0.01}
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / name),
            "model": {"config": str(model_folder / "config.json"), "position_init": "sincos"},
            "data": [
                {"name": "clips", "source": "colours_source:Colours", "weight": 3},
                {"name": "pictures", "source": "colours_source:Colours", "options": {"video": False}},
            ],
            "steps": 6,
            "batch": {"samples_per_step": 4},
            "parts": {"vision": part, "projector": part, "decoder": part},
            "optimizer": {"warmup_steps": 2},
            "precision": "fp32",
            "device": "cpu",
            "workers": 0,
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return make
