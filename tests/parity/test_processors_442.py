"""The processors of transformers 4.42.4, whose saved files and results stand in ``assets``: ours must equal them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm import LlavaNextImageProcessor, LlavaNextVideoImageProcessor, LlavaNextVideoProcessor
from videolm.families.auto import new_model

from ..assets.make_transformers_442 import (
    CHANGES,
    CONVERSATION,
    FOLDER,
    PINPOINTS,
    PROMPTS,
    SMALL,
    clip,
    forms,
    media,
    pictures,
)

RESULTS = np.load(FOLDER / "results.npz")
PIXELS = "pixel_values_videos"


@pytest.fixture(scope="module")
def processor() -> LlavaNextVideoProcessor:
    """The documented constructor, around what was saved; tiles were made by Pillow then."""
    saved = LlavaNextVideoProcessor.from_pretrained(FOLDER, use_fast=False, patch_size=7)
    frames = LlavaNextVideoImageProcessor.from_pretrained(FOLDER)
    pictures = LlavaNextImageProcessor.from_pretrained(FOLDER, use_fast=False)
    return LlavaNextVideoProcessor(frames, pictures, saved.tokenizer, saved.chat_template, patch_size=7)


@pytest.mark.parametrize("name", CHANGES)
def test_frames_with_every_argument_of_a_call(name: str) -> None:
    found = LlavaNextVideoImageProcessor(**SMALL).preprocess(clip(), return_tensors="np", **CHANGES[name])
    assert found[PIXELS].dtype == np.float32
    np.testing.assert_array_equal(found[PIXELS], RESULTS[f"change/{name}/{PIXELS}"])


@pytest.mark.parametrize("name", forms())
def test_frames_in_every_form(name: str) -> None:
    part = LlavaNextVideoImageProcessor(**SMALL, do_rescale=name != "values from 0 to 1")
    np.testing.assert_array_equal(part(forms()[name], return_tensors="np")[PIXELS], RESULTS[f"form/{name}/{PIXELS}"])


def test_one_frame_resized() -> None:
    found = LlavaNextVideoImageProcessor().resize(clip()[0], {"shortest_edge": 10})
    np.testing.assert_array_equal(found, RESULTS["resize"])


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_and_pixels(processor: LlavaNextVideoProcessor, name: str) -> None:
    stored = {key.removeprefix(f"prompt/{name}/"): RESULTS[key] for key in RESULTS.files if f"prompt/{name}/" in key}
    found = processor(**media(PROMPTS[name]), return_tensors="np")
    assert set(found) == set(stored)
    for key in set(stored) - {"input_ids", "attention_mask"}:
        np.testing.assert_array_equal(found[key], stored[key])
    # That release left one placeholder for each medium in the prompt and the rest to the model.
    unknown = processor.tokenizer.convert_tokens_to_ids("<unk>")
    for ids, mask, single, its_mask in zip(
        found["input_ids"], found["attention_mask"], stored["input_ids"], stored["attention_mask"], strict=True
    ):
        assert _collapsed(ids[mask == 1]) == single[its_mask == 1].tolist()
        assert set(ids[mask == 0]) <= {unknown}


def test_an_odd_row_of_black_which_that_release_lost(processor: LlavaNextVideoProcessor) -> None:
    found = processor.image_processor(pictures()[2], return_tensors="np")["pixel_values"]
    # It left the row out, cut tiles of other sizes and resized them; later releases and ours put it last.
    np.testing.assert_array_equal(found[0, 0], RESULTS["odd"][0, 0])
    black = (0 - np.array(processor.image_processor.image_mean)) / np.array(processor.image_processor.image_std)
    np.testing.assert_allclose(found[0, 1, :, -2:, 0], black[:, None].repeat(2, axis=1), rtol=1e-6)
    assert (found[0, 1] != RESULTS["odd"][0, 1]).any()


def test_the_chat_template_in_its_file(processor: LlavaNextVideoProcessor) -> None:
    assert processor.apply_chat_template(CONVERSATION, add_generation_prompt=True) == str(RESULTS["conversation"])


def test_a_model_takes_the_inputs_of_that_release(processor: LlavaNextVideoProcessor) -> None:
    image_id, video_id = (processor.tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "<video>"))
    model = new_model(CONFIG | {"image_token_index": image_id, "video_token_index": video_id})
    for name in ("mixed", "two prompts", "several"):
        stored = {key.split("/")[-1]: torch.from_numpy(RESULTS[key]) for key in RESULTS.files if f"/{name}/" in key}
        with torch.inference_mode():
            then = model(**stored).logits[:, -1]
            now = model(**processor(**media(PROMPTS[name]), return_tensors="pt")).logits[:, -1]
        torch.testing.assert_close(then, now)


CONFIG: dict[str, Any] = {
    "model_type": "llava_next_video",
    "image_grid_pinpoints": PINPOINTS,
    "vision_config": {
        "model_type": "clip_vision_model",
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"image_size": 14, "patch_size": 7},
    },
    "text_config": {
        "model_type": "llama",
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"num_key_value_heads": 2, "vocab_size": 70, "max_position_embeddings": 256},
    },
}


def _collapsed(ids: np.ndarray) -> list[int]:
    """One placeholder for each run of them."""
    placeholders = {60, 61}
    return [token for value, run in groupby(ids.tolist()) for token in ([value] if value in placeholders else run)]


def test_files_stay_those_of_the_script() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {
        *("preprocessor_config.json", "processor_config.json", "results.npz"),
        *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
    }
