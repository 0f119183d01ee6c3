"""Makes ``golden/transformers_442``: what the processors of transformers 4.42.4 save and give.

Run in an environment of its own (Python 3.11; torch is not needed). Pillow is the one of ``constraints.txt``, since its
own filters differ in the last level from release to release::

    python -m venv env
    env/bin/pip install transformers==4.42.4 tokenizers==0.19.1 "numpy<2" pillow==13.0.0 jinja2
    env/bin/python tests/assets/make_transformers_442.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent / "golden" / "transformers_442"
SMALL: dict[str, Any] = {"size": {"shortest_edge": 14}, "crop_size": {"height": 14, "width": 14}}
PINPOINTS = [[14, 28], [28, 14], [28, 28]]
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no resize": {"do_resize": False},
    "size": {"size": {"height": 11, "width": 15}},
    "edge": {"size": {"shortest_edge": 20}},
    **{f"resample {number}": {"resample": number} for number in range(6)},
    "no crop": {"do_center_crop": False},
    "crop": {"crop_size": {"height": 17, "width": 9}},
    "crop of one number": {"crop_size": 10},
    "no rescale": {"do_rescale": False},
    "factor": {"rescale_factor": 1 / 127.5},
    "no normalize": {"do_normalize": False},
    "mean": {"image_mean": [0.1, 0.2, 0.3]},
    "deviation": {"image_std": [0.5, 0.6, 0.7]},
    "channels last": {"data_format": "channels_last"},
    "channels said": {"input_data_format": "channels_last", "data_format": "channels_first"},
}
"""Arguments of one call of the frames' processor."""
PROMPTS: dict[str, dict[str, Any]] = {
    "text": {"text": "USER: What is it? ASSISTANT:"},
    "image": {"text": "USER: <image>\nWhat is it? ASSISTANT:", "images": 1},
    "video": {"text": "USER: <video>\nWhy is it so? ASSISTANT:", "videos": 1},
    "mixed": {"text": "USER: <image>\nWhat? It is. USER: <video>\nWhy? ASSISTANT:", "images": 1, "videos": 1},
    "two prompts": {"text": ["<image>\nWhat?", "<video>\nWhy is it so?"], "images": 1, "videos": 1, "padding": True},
    "several": {"text": ["<image> a <image>", "b <video>"], "images": 2, "videos": 1, "padding": True},
}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "That."}]},
    {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "video"}]},
]


def clip(seed: int = 0) -> np.ndarray:
    """Two frames of noise."""
    return np.random.default_rng(seed).integers(0, 256, (2, 18, 23, 3), dtype=np.uint8)


def forms() -> dict[str, Any]:
    """Videos as callers may pass them."""
    frames = [Image.fromarray(frame) for frame in clip()]
    return {
        "array": clip(),
        "channels first": np.ascontiguousarray(clip().transpose(0, 3, 1, 2)),
        "frames": frames,
        "videos of frames": [frames, [Image.fromarray(frame) for frame in clip(1)]],
        "list of arrays": [clip(), clip(1)],
        "values from 0 to 1": clip().astype(np.float32) / 255,
    }


def pictures() -> list[Image.Image]:
    """A high one, a wide one, and one whose tiles need an odd number of black rows."""
    high, wide, odd = clip()[0].repeat(2, axis=0), clip(1)[0, :, :21].repeat(2, axis=1), clip(1)[0].repeat(2, axis=1)
    return [Image.fromarray(picture) for picture in (high, wide, odd)]


def media(prompt: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a processor's call for one of the prompts."""
    given = {"images": pictures(), "videos": [clip()]}
    return {name: given[name][:value] if name in given else value for name, value in prompt.items()}


def main() -> None:
    from transformers import LlavaNextImageProcessor, LlavaNextVideoImageProcessor, LlavaNextVideoProcessor

    part = LlavaNextVideoImageProcessor(**SMALL)
    found = {f"change/{name}": part(clip(), return_tensors="np", **change) for name, change in CHANGES.items()}
    for name, videos in forms().items():
        given = {"do_rescale": False} if name == "values from 0 to 1" else {}
        found[f"form/{name}"] = part(videos, return_tensors="np", **given)
    others = {"resize": part.resize(clip()[0], {"shortest_edge": 10})}

    image_part = LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **SMALL)
    processor = LlavaNextVideoProcessor(part, image_part, make_tokenizer(), chat_template=TEMPLATE)
    processor.save_pretrained(FOLDER)
    for name, prompt in PROMPTS.items():
        found[f"prompt/{name}"] = processor(**media(prompt), return_tensors="np")
    others["odd"] = image_part(pictures()[2], return_tensors="np")["pixel_values"]
    others["conversation"] = np.array(processor.apply_chat_template(CONVERSATION, add_generation_prompt=True))
    arrays = {f"{case}/{name}": np.asarray(value) for case, values in found.items() for name, value in values.items()}
    np.savez_compressed(FOLDER / "results.npz", **arrays, **others)


TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def make_tokenizer() -> Any:
    """A small tokenizer of Llama's kind: spaces are characters, and one is put before a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
    from transformers import LlamaTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    replaced = decoders.Replace("\u2581", " ")
    backend.decoder = decoders.Sequence([replaced, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["USER: What is it? Why is it so? ASSISTANT: It is that."] * 3, trainer)
    tokenizer = LlamaTokenizerFast(tokenizer_object=backend, add_bos_token=True, pad_token="<unk>")
    tokenizer.padding_side = "left"
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in ("<video>", "<image>")])
    return tokenizer


if __name__ == "__main__":
    main()
