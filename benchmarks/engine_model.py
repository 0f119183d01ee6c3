"""Makes the model of the engine's benchmarks, once, in a folder outside the repository: random weights, real shapes."""

from __future__ import annotations

import json
import os
import shutil
import string
from pathlib import Path
from typing import Any

import torch
from clips import CACHE
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from videolm.families import auto

SPECIAL = ("<unk>", "<s>", "</s>", "<video>", "<image>")
TOWER = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
DECODER = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32064, "max_position_embeddings": 8192,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
SMALL_TOWER = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56,
}  # fmt: skip
SMALL_DECODER = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 512,
}  # fmt: skip
SLIM_TOWER = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
SLIM_DECODER = {
    "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 65536,
}  # fmt: skip
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mid": ({}, {}),
    "slim": (SLIM_TOWER, SLIM_DECODER),
    "small": (SMALL_TOWER, SMALL_DECODER),
}


def model_folder(kind: str = "mid", dtype: str = "bfloat16", cache: Path = CACHE) -> Path:
    """A model's folder, made if the cache does not hold it yet: ``mid`` (573 million weights), ``slim`` or ``small``.

    ``slim`` has the frames and tokens of ``mid``, a long context and few weights: for how things grow.
    """
    folder = cache / f"{kind}-{dtype}-2"
    if not folder.exists():
        partial = cache / f"{kind}-{dtype}.partial-{os.getpid()}"
        parts = partial / "parts"
        parts.mkdir(parents=True)
        config = config_of(kind)
        _write_parts(parts, config)
        model = auto.new_model(config, seed=0).to(getattr(torch, dtype))
        auto.save_model(model, auto.load_processor(parts), partial / "model")
        shutil.copy(parts / "preprocessor_config.json", partial / "model" / "preprocessor_config.json")
        os.replace(partial / "model", folder)
        shutil.rmtree(partial)
    return folder


def config_of(kind: str) -> dict[str, Any]:
    """``config.json`` of a kind of model."""
    small, (tower, decoder) = kind == "small", PARTS[kind]
    return {
        "model_type": "llava_next_video", "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "image_token_index": 4, "video_token_index": 3, "tie_word_embeddings": False,
        "image_grid_pinpoints": [[56, 112], [112, 56]] if small else [[336, 672], [672, 336], [672, 672]],
        "vision_config": TOWER | tower,
        "text_config": DECODER | decoder,
    }  # fmt: skip


def _write_parts(folder: Path, config: dict[str, Any]) -> None:
    side = config["vision_config"]["image_size"]
    preprocessor = {
        "do_center_crop": True, "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
        "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "rescale_factor": 1 / 255, "image_grid_pinpoints": config["image_grid_pinpoints"],
    }  # fmt: skip
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    files = {
        "config.json": config,
        "preprocessor_config.json": {**preprocessor, "image_processor_type": "LlavaNextImageProcessor"},
        "video_preprocessor_config.json": {**preprocessor, "video_processor_type": "LlavaNextVideoVideoProcessor"},
        "tokenizer_config.json": {**names, "tokenizer_class": "PreTrainedTokenizerFast"},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values, indent=1))
    byte_tokenizer(config["text_config"]["vocab_size"]).save(str(folder / "tokenizer.json"))


def byte_tokenizer(size: int) -> Tokenizer:
    """One token a byte, after the special ones; what is left of the vocabulary are words that no text holds."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert set(string.ascii_letters) <= set(alphabet)
    pieces = [*SPECIAL, *alphabet]
    # Random weights give any id, and a streamed token has to be seen.
    pieces += [f"\u0120w{index}" for index in range(len(pieces), size)]
    vocabulary = {token: index for index, token in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer
