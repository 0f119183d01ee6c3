"""Tiny checkpoints under the names that the documentation uses, in a hub cache of their own, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from videolm.families.auto import new_model

VICUNA_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'] | upper + ': ' }}{% endif %}"
    "{% for kind in ('image', 'video') %}"
    "{% for part in message['content'] if part['type'] == kind %}{{ '<' + kind + '>\\n' }}{% endfor %}"
    "{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""What the hub's template does: no words of its own, media before the text whatever their order, no end marks."""

CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for part in message['content'] if part['type'] != 'text' %}{{ '<' + part['type'] + '>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Every word of the tests' prompts, so that one is a token or two, as with the real tokenizers.
WORDS = (
    "A watchful guide talks with a visitor and keeps to what can be seen. USER: What does the sign say? ASSISTANT: The "
    "sign says stop. USER: What is going on in this clip? How many birds sit on the wire? Two birds sit there. And why "
    "is it so? system user assistant"
)
SIDE, PATCH = 42, 7
VOCABULARY = 400
_SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
_TEXT = {
    # Rows of 64 numbers are the shortest that bitsandbytes multiplies rightly on a CPU.
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_CLIP = _VISION | {"model_type": "clip_vision_model"}
_PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
_PIXELS: dict[str, Any] = {
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_TILES = _PIXELS | {"image_grid_pinpoints": _PINPOINTS, "do_pad": True}
_SQUASHED = {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}


def _next_video(folder: Path) -> dict[str, Any]:
    """LLaVA-NeXT-Video with the files of the summer of 2024: one preprocessor file, no processor_config.json."""
    kind = {"image_processor_type": "LlavaNextImageProcessor", "processor_class": "LlavaNextVideoProcessor"}
    write_json(folder / "preprocessor_config.json", _TILES | kind)
    write_json(folder / "chat_template.json", {"chat_template": VICUNA_TEMPLATE})
    return {
        "model_type": "llava_next_video",
        "vision_config": _CLIP,
        "text_config": _TEXT | {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.5}},
        "image_grid_pinpoints": _PINPOINTS,
        "ignore_index": -100,
        "use_image_newline_parameter": True,
    }


def next_video_of_4_44(folder: Path) -> dict[str, Any]:
    """The same a month later: a file for frames, processor_config.json, and here with a Mistral decoder."""
    config = _next_video(folder)
    write_json(folder / "video_preprocessor_config.json", _PIXELS | {"processor_class": "LlavaNextVideoProcessor"})
    write_json(folder / "processor_config.json", {"processor_class": "LlavaNextVideoProcessor"})
    return config | {"text_config": _TEXT | {"model_type": "mistral", "sliding_window": None, "rope_theta": 1e6}}


def _video_llava(folder: Path) -> dict[str, Any]:
    """Video-LLaVA with one file for each part of its processor."""
    write_json(folder / "preprocessor_config.json", _PIXELS | {"image_processor_type": "VideoLlavaImageProcessor"})
    write_json(
        folder / "video_preprocessor_config.json", _PIXELS | {"video_processor_type": "VideoLlavaVideoProcessor"}
    )
    attributes = {"patch_size": PATCH, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"}
    write_json(folder / "processor_config.json", {"processor_class": "VideoLlavaProcessor"} | attributes)
    return {"model_type": "video_llava", "vision_config": _CLIP, "text_config": _TEXT | {"model_type": "llama"}}


def _next_video2(folder: Path) -> dict[str, Any]:
    """LLaVA-Video as converted, with the template inside the tokenizer's file."""
    write_json(folder / "preprocessor_config.json", _TILES | _SQUASHED)
    write_json(folder / "video_preprocessor_config.json", _PIXELS | _SQUASHED)
    write_json(folder / "processor_config.json", {"processor_class": "LlavaNextVideo2Processor"})
    names = json.loads((folder / "tokenizer_config.json").read_text())
    del names["bos_token"]
    ends = {"add_bos_token": False, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    write_json(folder / "tokenizer_config.json", names | ends | {"chat_template": CHATML_TEMPLATE})
    return {
        "model_type": "llava_next_video2",
        "vision_config": _VISION | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "text_config": _TEXT | {"model_type": "qwen2", "bos_token_id": 5, "eos_token_id": 4, "pad_token_id": 5},
        "image_grid_pinpoints": _PINPOINTS,
    }


CHECKPOINTS = {
    "llava-hf/LLaVA-NeXT-Video-7B-hf": _next_video,
    "LanguageBind/Video-LLaVA-7B-hf": _video_llava,
    "llava-hf/LLaVA-NeXT-Video-7B-Qwen2-hf": _next_video2,
}


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))


def write_tokenizer(folder: Path) -> dict[str, int]:
    """A tokenizer that knows the words of the prompts whole; returns the ids of the placeholders."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 10,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken("<video>", special=True), AddedToken("<image>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>", "add_bos_token": True}
    write_json(folder / "tokenizer_config.json", names)
    return {f"{kind}_token_index": tokenizer.token_to_id(f"<{kind}>") for kind in ("image", "video")}


def write_checkpoint(cache: Path, name: str, write_parts: Callable[[Path], dict[str, Any]]) -> None:
    """A model as the hub's client leaves it in its cache.

    Args:
        write_parts: Writes the processor's files and returns what ``config.json`` says.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / "0123456789012345678901234567890123456789"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(folder.name)
    placeholders = write_tokenizer(folder)
    model = new_model(write_parts(folder) | placeholders, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():  # Larger weights: answers that depend on the prompt.
            parameter.mul_(4)
        model.lm_head.weight[model.config.text_config.eos_token_id] = 0  # No answer ends before its limit.
    ends = {name: getattr(model.config.text_config, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    model.generation_config = {f"{name}_token_id": value for name, value in ends.items()}
    model.write_files(folder)
