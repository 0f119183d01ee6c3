"""The folder that training starts from: tokenizer, chat template, model and processor settings, without weights.

``python -m videolm.mini.start FOLDER`` writes it; the result depends on nothing but this file and the world's words.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from videolm.mini.stream import MovingShapes
from videolm.world.phrasings import PHRASINGS
from videolm.world.vocabulary import WORDS

IMAGE_SIZE = 112
PATCH_SIZE = 14
NUM_FRAMES = 8
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<video>", "<image>")
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

# The answer begins with the space that follows "ASSISTANT:", so that a prompt is a prefix of what was learned.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set text -%}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}
{%- endset -%}
{{- text + ' ' -}}
{%- elif message['role'] == 'user' -%}
{{- 'USER: ' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] if part['type'] != 'text' -%}{{- '<' + part['type'] + '>\\n' -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{- part['text'] -}}{%- endfor -%}
{%- endif -%}
{{- ' ' -}}
{%- else -%}
{{- 'ASSISTANT:' -}}
{%- generation -%}
{{- ' ' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}
{{- '</s>' -}}
{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE of the world's language: any text can be written, the world's words are short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=960,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def _corpus() -> Iterator[str]:
    for shown, style in (("clip", "motion"), ("clip", "events"), ("still", "still"), ("picture", "text")):
        source = MovingShapes(shown=shown, styles={style: 1}, seed=0, encoded=0.0)  # type: ignore[arg-type, dict-item]
        for index in range(500):
            for message in source.sample(index).messages:
                content = message["content"]
                text = content if isinstance(content, str) else content[-1]["text"]
                yield f"USER: {text} " if message["role"] == "user" else f"ASSISTANT: {text}"
    for _ in range(20):
        yield from (f" {word}." for word in WORDS)
        # All phrasings, so that none is spelled in letters; which words follow them is not learned here.
        yield from (phrasing for phrasings in PHRASINGS.values() for phrasing in phrasings)


def model_config(vocab_size: int, special: dict[str, int]) -> dict[str, Any]:
    """The ``config.json`` of the bundled model."""
    return {
        "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "model_type": "llava_next_video",
        "image_token_index": special["<image>"],
        "video_token_index": special["<video>"],
        "pad_token_id": special["<pad>"],
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "image_grid_pinpoints": [
            [IMAGE_SIZE, 2 * IMAGE_SIZE],
            [2 * IMAGE_SIZE, IMAGE_SIZE],
            [2 * IMAGE_SIZE, 2 * IMAGE_SIZE],
        ],
        "spatial_pool_mode": "average",
        "spatial_pool_stride": 2,
        "tie_word_embeddings": False,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "hidden_act": "gelu",
        },
        "text_config": {
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "rope_theta": 10000.0,
            "bos_token_id": special["<s>"],
            "eos_token_id": special["</s>"],
            "pad_token_id": special["<pad>"],
        },
    }


def write_start(folder: str | Path) -> None:
    """Write everything but weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    special = {token: tokenizer.get_vocab()[token] for token in SPECIAL_TOKENS}
    vocab_size = -(-tokenizer.get_vocab_size() // 64) * 64
    pixels = {
        "do_resize": True,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "do_convert_rgb": True,
        "do_center_crop": False,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }
    files = {
        "config.json": model_config(vocab_size, special),
        "generation_config.json": {
            "bos_token_id": special["<s>"],
            "eos_token_id": special["</s>"],
            "pad_token_id": special["<pad>"],
        },
        "preprocessor_config.json": {"image_processor_type": "LlavaNextImageProcessor", **pixels},
        "video_preprocessor_config.json": {
            "video_processor_type": "LlavaNextVideoVideoProcessor",
            **pixels,
            "num_frames": NUM_FRAMES,
        },
        "processor_config.json": {
            "processor_class": "LlavaNextVideoProcessor",
            "patch_size": PATCH_SIZE,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
            "video_token": "<video>",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "padding_side": "left",
            "add_bos_token": False,
            "model_max_length": 4096,
        },
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    write_start(sys.argv[1])
