"""The whole documented processors against transformers' own: what theirs save, ours load; ids, masks, pixels equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast

import videolm
from videolm.processing.callable_tokenizer import CallableTokenizer

pytest.importorskip("torchvision")

SMALL: dict[str, Any] = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28]]
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}"
    "{% else %}{{ '<' + part['type'] + '>\n' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def assert_equal(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(torch.as_tensor(ours[name]), torch.as_tensor(value), rtol=0, atol=0)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_model_folder / "tokenizer.json"), padding_side="left", **NAMES
    )


@pytest.fixture(scope="module")
def make(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Theirs, and ours as loaded from what theirs saved."""

    def make_both(name: str) -> tuple[Any, Any]:
        prefix = name.removesuffix("Processor")
        pictures = {"VideoLlava": "VideoLlavaImageProcessor"}.get(prefix, "LlavaNextImageProcessor")
        tiled = {} if prefix == "VideoLlava" else {"image_grid_pinpoints": PINPOINTS}
        parts: dict[str, Any] = {
            "image_processor": getattr(transformers, pictures)(**SMALL, **tiled),
            "tokenizer": tokenizer,
            "chat_template": TEMPLATE,
            "patch_size": 7,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        }
        if prefix != "LlavaNext":
            parts["video_processor"] = getattr(transformers, f"{prefix}VideoProcessor")(**SMALL)
        theirs = getattr(transformers, name)(**parts)
        folder = tmp_path_factory.mktemp(name)
        theirs.save_pretrained(folder)
        return getattr(videolm, name).from_pretrained(folder), theirs

    cache: dict[str, tuple[Any, Any]] = {}
    return lambda name: cache.setdefault(name, make_both(name)) if name not in cache else cache[name]


BOTH = ["LlavaNextVideoProcessor", "VideoLlavaProcessor"]
PICTURE, CLIP = pixels(40, 51), pixels(8, 30, 33)
CALLS: dict[str, dict[str, Any]] = {
    "text": {"text": "USER: What colour is the circle? ASSISTANT:"},
    "image": {"text": "USER: <image>\nWhat? ASSISTANT:", "images": PICTURE},
    "video": {"text": "USER: <video>\nWhy is it so? ASSISTANT:", "videos": CLIP},
    "mixed": {"text": "USER: <image>\nWhat? It is. USER: <video>\nWhy? ASSISTANT:", "images": PICTURE, "videos": CLIP},
    "video first": {"text": "<video> and <image><image>", "images": [PICTURE, pixels(9, 90)], "videos": [CLIP]},
    "two prompts": {"text": ["<image>\nWhat?", "<video>\nWhy is it so?"], "images": PICTURE, "videos": CLIP},
    "with a text": {"text": ["<video> a", "b", "<video>"], "videos": [CLIP, pixels(8, 50, 30)]},
    "PIL": {"text": "<image> a <image>", "images": [Image.fromarray(PICTURE), Image.fromarray(pixels(90, 9))]},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BOTH)
def test_ids_masks_and_pixels(make: Any, name: str, call: str) -> None:
    ours, theirs = make(name)
    options: dict[str, Any] = {**CALLS[call], "padding": True, "return_tensors": "pt"}
    # Their tokenizer, in a class of no model, also gives what none of these models takes.
    expected = theirs(**options, return_token_type_ids=False)
    assert_equal(ours(**options), expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize("name", BOTH)
def test_padding_sides_types_and_settings_of_the_call(make: Any, name: str, kind: str, side: str) -> None:
    ours, theirs = make(name)
    options: dict[str, Any] = {
        **CALLS["two prompts"],
        **{"padding": "max_length", "max_length": 200, "padding_side": side, "return_tensors": kind},
        **{"do_normalize": False, "resample": 2, "rescale_factor": 0.5},
    }
    found, expected = ours(**options), theirs(**options, return_token_type_ids=False)
    assert {type(value) for value in found.values()} == {type(value) for value in expected.values()}
    assert_equal(found, expected)
    kept: dict[str, Any] = {**CALLS["mixed"], "return_tensors": kind, "images_kwargs": {"do_rescale": False}}
    assert_equal(ours(**kept), theirs(**kept, text_kwargs={"return_token_type_ids": False}))


def test_the_processor_of_pictures_alone(make: Any) -> None:
    ours, theirs = make("LlavaNextProcessor")
    for call in ("text", "image", "PIL"):
        options: dict[str, Any] = {**CALLS[call], "padding": True, "return_tensors": "pt"}
        assert_equal(ours(**options), theirs(**options, return_token_type_ids=False))


@given(height=st.integers(1, 400), width=st.integers(1, 400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_placeholders_of_pictures_of_any_size(make: Any, height: int, width: int) -> None:
    ours, theirs = make("LlavaNextVideoProcessor")
    options: dict[str, Any] = {"text": "<image>", "images": Image.new("RGB", (width, height)), "return_tensors": "pt"}
    expected = theirs(**options, return_token_type_ids=False)
    assert_equal(ours(**options), expected)


def test_chat_templates_and_what_they_save(make: Any, tmp_path: Path) -> None:
    ours, theirs = make("LlavaNextVideoProcessor")
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "That."}]},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Why?"}]},
    ]
    for ask in (True, False):
        prompt = theirs.apply_chat_template(messages, add_generation_prompt=ask)
        assert ours.apply_chat_template(messages, add_generation_prompt=ask) == prompt
    ours.save_pretrained(tmp_path)
    again = transformers.LlavaNextVideoProcessor.from_pretrained(tmp_path)
    options: dict[str, Any] = {**CALLS["mixed"], "return_tensors": "pt"}
    assert_equal(
        dict(again(**options, return_token_type_ids=False)), dict(theirs(**options, return_token_type_ids=False))
    )
    assert again.apply_chat_template(messages) == theirs.apply_chat_template(messages)


def test_videos_of_different_lengths_where_theirs_fail(make: Any) -> None:
    ours, theirs = make("LlavaNextVideoProcessor")
    clips = [pixels(2, 30, 33), pixels(3, 30, 33)]
    options: dict[str, Any] = {"text": ["<video>", "<video> a"], "padding": True, "return_tensors": "pt"}
    with pytest.raises(ValueError, match="stack expects each tensor to be equal size"):
        theirs(videos=clips, **options)
    found = ours(videos=clips, **options)
    for row, clip in enumerate(clips):
        alone = theirs(text=options["text"][row], videos=clip, return_tensors="pt")
        assert found.input_ids[row][found.attention_mask[row].bool()].tolist() == alone["input_ids"][0].tolist()
        torch.testing.assert_close(found.pixel_values_videos[row], alone["pixel_values_videos"][0], rtol=0, atol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_ids_and_masks(tiny_model_folder: Path, side: str) -> None:
    file = str(tiny_model_folder / "tokenizer.json")
    theirs: Any = PreTrainedTokenizerFast(tokenizer_file=file, padding_side=side, **NAMES)
    ours = CallableTokenizer.from_folder(tiny_model_folder)
    ours.padding_side = side
    texts = ["USER: What colour? ASSISTANT:", "", "a </s> b", "<video>"]
    for options in ({"padding": True}, {"padding": "max_length", "max_length": 40}):
        for more in ({}, {"add_special_tokens": False}, {"truncation": True, "max_length": 40}):
            said = theirs(texts, return_tensors="pt", return_token_type_ids=False, **{**options, **more})
            assert_equal(ours(texts, return_tensors="pt", **{**options, **more}), said)
    ids = theirs(texts)["input_ids"]
    assert ours(texts)["input_ids"] == ids
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours.batch_decode(ids, skip_special_tokens=True) == theirs.batch_decode(ids, skip_special_tokens=True)
