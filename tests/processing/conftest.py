"""Small tokenizers of each kind that the families use, trained here, and a processor around them."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from videolm.processing.chat import ChatTemplate
from videolm.processing.pixels import PixelSettings
from videolm.processing.processor import Processor
from videolm.processing.tokenizer import Tokenizer
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

SENTENCES = [
    "USER: What colour is the circle? ASSISTANT: The circle is red.",
    "USER: Where does the video show the square? ASSISTANT: It moves left and then right.",
    "user assistant system [INST] Why is this video funny? [/INST] Because 3 stars <video> </s> spin.",
]

VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'video' %}{{ '<video>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% else %}{{ 'ASSISTANT: ' }}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
VICUNA_WITHOUT_END = VICUNA.replace(
    "{{ part['text'] }}{% endfor %}{{ eos_token }}", "{{ part['text'] + ' ' }}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] if part['type'] != 'text' %}{{ '<' + part['type'] + '>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for part in message['content'] if part['type'] != 'text' %}{{ '<' + part['type'] + '>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] | trim }}{% endfor %}"
    "{{ ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
TEMPLATES = {"vicuna": VICUNA, "vicuna_without_end": VICUNA_WITHOUT_END, "chatml": CHATML, "mistral": MISTRAL}
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def _metaspace(prepend_scheme: str) -> Backend:
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


KINDS = {
    "byte_level": _byte_level,
    "metaspace_first": lambda: _metaspace("first"),
    "metaspace_always": lambda: _metaspace("always"),
    "legacy_llama": lambda: _metaspace("first"),
}


def make_tokenizer(kind: str) -> Tokenizer:
    backend = KINDS[kind]()
    byte_tokens = [] if kind == "byte_level" else [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "byte_level" else []
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL + byte_tokens, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    data = json.loads(backend.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIAL]
    if kind == "legacy_llama":  # as Llama 2 and Vicuna write it: each stretch between special tokens gets a space
        data["pre_tokenizer"] = None
        prepend, replace = (
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        )
        data["normalizer"] = {"type": "Sequence", "normalizers": [prepend, replace]}
    backend = Backend.from_str(json.dumps(data))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<video>", "<image>")])
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"})


@pytest.fixture(scope="session")
def tokenizers_by_kind() -> dict[str, Tokenizer]:
    return {kind: make_tokenizer(kind) for kind in KINDS}


@pytest.fixture(params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest, tokenizers_by_kind: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers_by_kind[request.param]


@pytest.fixture
def make_processor(tokenizers_by_kind: dict[str, Tokenizer]):
    """A processor for 28-pixel tiles of 14-pixel patches: 2x2 patches a tile, 1 token a frame."""

    def make(template: str = "vicuna", tokenizer: str = "byte_level", **changes: object) -> Processor:
        chosen = tokenizers_by_kind[tokenizer]
        pixels = PixelSettings(size=(28, 28), crop_size=(28, 28))
        pinpoints = ((28, 56), (56, 28), (56, 56))
        settings = {
            "tokenizer": chosen,
            "chat_template": ChatTemplate(TEMPLATES[template], special_tokens=chosen.special_tokens),
            "image_pixels": pixels,
            "video_pixels": pixels,
            "tokens": VisualTokens(
                image=ImageTokens(grid=2, tile_size=28, pinpoints=pinpoints), video=VideoTokens(grid=2)
            ),
            "image_token_id": 9001,
            "video_token_id": 9000,
        }
        return Processor(**{**settings, **changes})

    return make
