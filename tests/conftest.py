"""What several rooms' tests share: a tiny model with random weights, in a folder as a user would have it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCES = [
    "USER: What colour is the circle? ASSISTANT: The circle is red and moves to the left.",
    "USER: How many shapes are there? ASSISTANT: There are three shapes, a star and two rings.",
]
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<video>", "<image>"]
TINY_CONFIG: dict[str, Any] = {
    "model_type": "llava_next_video",
    "image_token_index": 4,
    "video_token_index": 3,
    "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 400,
        "max_position_embeddings": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
}
PREPROCESSOR = {
    "do_center_crop": False,
    "size": {"height": 28, "width": 28},
    "crop_size": {"height": 28, "width": 28},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


class _MissingOperators(MetaPathFinder):
    """Declares the two operators that torchvision's Python code names and a torch without CUDA cannot load.

    The wheels of torchvision are compiled for CUDA; transformers needs only what is written in Python. Declared when
    that part is imported, and not here, so that tests without torch stay free of it.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "torchvision._meta_registrations":
            import torch
            from torchvision.extension import _has_ops

            if not _has_ops():
                self.library = torch.library.Library("torchvision", "DEF")
                for name in ("nms", "qnms"):
                    self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _MissingOperators())


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of few random parameters, its tokenizer and its processor. Do not write to it."""
    from videolm.families import auto

    parts = tmp_path_factory.mktemp("tiny_parts")
    write_tiny_parts(parts)
    folder = tmp_path_factory.mktemp("tiny_model") / "tiny"
    auto.save_model(auto.new_model(TINY_CONFIG, seed=7), auto.load_processor(parts), folder)
    return folder


def write_tiny_parts(folder: Path) -> None:
    """Everything that a model folder holds, save for the weights."""
    files = {
        "config.json": TINY_CONFIG,
        "preprocessor_config.json": PREPROCESSOR,
        "tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    tiny_tokenizer().save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def write_tokenizer() -> Callable[[Path], None]:
    """Writes a tokenizer of 292 tokens at most, of which the last two are the placeholders, into a folder."""

    def write(folder: Path) -> None:
        sentences = ["USER: what is this? ASSISTANT: a red circle"] * 3
        tokenizer = byte_level_bpe(sentences, vocab_size=290, special_tokens=["<pad>", "<s>", "</s>"])
        tokenizer.add_special_tokens([AddedToken("<video>", special=True), AddedToken("<image>", special=True)])
        tokenizer.save(str(folder / "tokenizer.json"))
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(names))

    return write


def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE of 400 tokens that begins a prompt with ``<s>``."""
    tokenizer = byte_level_bpe(SENTENCES, vocab_size=400, special_tokens=SPECIAL_TOKENS)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def byte_level_bpe(sentences: Sequence[str], *, vocab_size: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Trained on ``sentences``, without a template for prompts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 of twelve frames at six a second, 64x48 pixels, in which everything becomes brighter."""
    import av

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            pixels = np.full((48, 64, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG, 60 pixels wide and 30 high, that fades from black to red."""
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, 60)
    Image.fromarray(pixels).save(path)
    return path


SMALL_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
SMALL_TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL_PINPOINTS = {"image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}
SMALL_FAMILIES: dict[str, dict[str, Any]] = {
    "llava_next_video": SMALL_PINPOINTS,
    "llava_next": SMALL_PINPOINTS | {"text_config": SMALL_TEXT | {"model_type": "mistral", "sliding_window": None}},
    "llava_next_video2": SMALL_PINPOINTS
    | {
        "vision_config": SMALL_CLIP | {"model_type": "siglip_vision_model"},
        "text_config": SMALL_TEXT | {"model_type": "qwen2"},
        "add_time_instruction": True,
    },
    "video_llava": {},
}
"""A small model of each family: what its configuration has beside parts and placeholders."""


@pytest.fixture(scope="session")
def write_small_model(write_tokenizer: Callable[[Path], None]) -> Callable[..., Path]:
    """Writes a small model of a family, with its tokenizer and processor, into a folder that it makes."""
    from videolm.families import auto

    def write(family: str, folder: Path, **changes: Any) -> Path:
        config = {"vision_config": SMALL_CLIP, "text_config": SMALL_TEXT} | SMALL_FAMILIES[family]
        for name, value in changes.items():
            config[name] = config[name] | value if isinstance(value, dict) else value
        # As the tokenizer has them; the two families have them in different orders.
        ids = {"image_token_index": 291, "video_token_index": 290, "model_type": family}
        squashed = {"size": {"height": 28, "width": 28}, "do_center_crop": False, "image_mean": 0.5, "image_std": 0.5}
        pixels = squashed if family == "llava_next_video2" else {"size": {"shortest_edge": 28}}
        parts = folder / "parts"
        parts.mkdir(parents=True)
        (parts / "config.json").write_text(json.dumps(config | ids))
        (parts / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 28, "width": 28}} | pixels))
        write_tokenizer(parts)
        processor = auto.load_processor(parts)
        auto.save_model(auto.new_model(config | ids, seed=len(family)), processor, folder / "model")
        return folder / "model"

    return write
