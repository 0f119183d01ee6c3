"""Folders of the original code: pictures padded to a square, cropped or tiled, and the prompts of Llama 3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from videolm.contracts import Frames
from videolm.errors import CheckpointError
from videolm.families.auto import load_config, load_model, load_processor
from videolm.families.convert import convert
from videolm.families.processor_classes import LlavaNextProcessor, VideoLlavaProcessor
from videolm.session import load

MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, write_small_model: Callable[..., Path]) -> dict[str, Path]:
    found = {}
    for family in ("llava_next", "video_llava"):
        root = tmp_path_factory.mktemp(family)
        found[family] = convert(write_small_model(family, root), root / "original", layout="original").folder
    return found


@pytest.fixture
def folder_with(originals: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy whose config.json says otherwise."""

    def make(family: str, **changes: Any) -> Path:
        folder = Path(shutil.copytree(originals[family], tmp_path / "-".join([family, *map(str, changes.values())])))
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | changes))
        return folder

    return make


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frames(pixels: np.ndarray) -> Frames:
    return Frames(kind="image", pixels=(pixels,), source="picture", size=pixels.shape[:2])


@pytest.mark.parametrize(("family", "tokens"), [("llava_next", 16 + 1), ("video_llava", 16)])
@pytest.mark.parametrize(("height", "width", "top", "left"), [(14, 28, 7, 0), (28, 9, 0, 9), (28, 28, 0, 0)])
def test_a_square_filled_with_the_mean_colour(
    folder_with: Callable[..., Path], family: str, tokens: int, height: int, width: int, top: int, left: int
) -> None:
    """A picture as large as a tile, so that nothing is resized; an odd column is filled on the right."""
    folder = folder_with(family, image_aspect_ratio="pad")
    medium = load_processor(folder).prepare_medium(frames(picture(height, width)))
    square = np.empty((28, 28, 3), np.uint8)
    square[:] = [int(channel * 255) for channel in MEAN]
    square[top : top + height, left : left + width] = picture(height, width)
    expected = torch.from_numpy((square / 255 - MEAN) / STD).permute(2, 0, 1)
    assert medium.num_tokens == tokens
    torch.testing.assert_close(medium.pixel_values, expected[None].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "processor_class", "name"),
    [("llava_next", LlavaNextProcessor, "pixel_values"), ("video_llava", VideoLlavaProcessor, "pixel_values_images")],
)
def test_the_documented_processors_see_the_same(
    folder_with: Callable[..., Path], family: str, processor_class: Any, name: str
) -> None:
    folder = folder_with(family, image_aspect_ratio="pad")
    found = processor_class.from_pretrained(folder)(text="<image> what?", images=picture(14, 28))
    ours = load_processor(folder).prepare_medium(frames(picture(14, 28)))
    assert int((found["input_ids"] == load_config(folder).image_token_index).sum()) == ours.num_tokens
    torch.testing.assert_close(found[name].flatten(0, -4), ours.pixel_values, rtol=0, atol=1e-6)


def test_frames_of_videos_are_never_padded(folder_with: Callable[..., Path]) -> None:
    clip = np.random.default_rng(2).integers(0, 256, (2, 30, 50, 3), dtype=np.uint8)
    medium = Frames(kind="video", pixels=tuple(clip), source="clip", size=(30, 50))
    pixels = [
        load_processor(folder_with("llava_next", image_aspect_ratio=ratio)).prepare_medium(medium).pixel_values
        for ratio in ("pad", "square", "anyres")
    ]
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])


def test_one_tile_and_one_newline_in_the_models_rows(folder_with: Callable[..., Path]) -> None:
    folder = folder_with("llava_next", image_aspect_ratio="pad")
    model, medium = load_model(folder), load_processor(folder).prepare_medium(frames(picture(14, 28)))
    with torch.inference_mode():
        (features,) = model.encode_media([medium])
    newline = model.model.image_newline
    assert newline is not None
    assert len(features.tokens) == 17
    assert torch.equal(features.tokens[-1], newline)
    answer = load(folder, device="cpu").ask(picture(14, 28), "what is this?", max_new_tokens=3)
    assert answer.usage.visual_tokens == 17


def test_what_the_file_says_of_the_shape_of_pictures(folder_with: Callable[..., Path]) -> None:
    large = frames(picture(60, 60))
    counts = {
        ratio: load_processor(folder_with("llava_next", image_aspect_ratio=ratio)).prepare_medium(large).num_tokens
        for ratio in ("anyres", "anyres_max_1", "square")
    }
    assert (counts["square"], counts["anyres"], counts["anyres_max_1"]) == (17, 16 + 8 * 9, 16 + 4 * 5)
    silent = folder_with("llava_next", image_aspect_ratio=None, image_grid_pinpoints=None)
    assert load_config(silent).vision_aspect_ratio == "square"


def test_padding_is_nothing_that_the_port_knows(folder_with: Callable[..., Path], tmp_path: Path) -> None:
    for family, lost in (
        ("llava_next", r"2 settings \(vision_aspect_ratio 'pad', pad_to_square True\)"),
        ("video_llava", r"1 setting \(pad_to_square True\)"),
    ):
        folder = folder_with(family, image_aspect_ratio="pad")
        with pytest.raises(CheckpointError, match=f"cannot hold {lost} of this model"):
            convert(folder, tmp_path / "new", layout="hf")
        dropped = convert(folder, tmp_path / f"{family}-new", layout="hf", drop=True).folder
        settings = json.loads((dropped / "preprocessor_config.json").read_text())
        assert (settings["size"], settings["do_center_crop"]) == ({"shortest_edge": 28}, True)
        again = convert(folder, tmp_path / f"{family}-again", layout="original").folder
        assert json.loads((again / "config.json").read_text())["image_aspect_ratio"] == "pad"


# --- prompts ---


@pytest.fixture
def llama_3(folder_with: Callable[..., Path]) -> Path:
    """A folder whose tokenizer was made for Llama 3, with the template for texts alone that it comes with."""
    from tokenizers import Tokenizer, processors

    folder = folder_with("llava_next", model_type="llava_llama")
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    first = backend.token_to_id(special[0])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], first)]
    )
    backend.save(str(folder / "tokenizer.json"))
    names = {"bos_token": special[0], "eos_token": "<|end_of_text|>", "chat_template": "{{ messages[0]['content'] }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def test_a_prompt_of_llama_3(llama_3: Path) -> None:
    processor = load_processor(llama_3)
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Why?"},
    ]
    head, end = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
    system = (
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language."
    )
    turns = [("system", system), ("user", "<image>\nWhat is this?"), ("assistant", "A cat."), ("user", "Why?")]
    expected = "".join(head.format(role) + text + end for role, text in turns) + head.format("assistant")
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == expected
    ids = processor.prepare(messages, [frames(picture(14, 28))]).input_ids
    begin = processor.tokenizer.token_to_id("<|begin_of_text|>")
    assert (ids[0], ids.count(begin)) == (begin, 1)
    own = processor.apply_chat_template([{"role": "system", "content": "Be brief."}, *messages])
    assert own.startswith(head.format("system") + "Be brief." + end)


def test_an_answer_ends_where_its_template_says(llama_3: Path) -> None:
    """The tokenizer names another end, and the folder has no generation_config.json."""
    session = load(llama_3, device="cpu")
    ends = {session.processor.tokenizer.token_to_id(token) for token in ("<|eot_id|>", "<|end_of_text|>")}
    assert set(session._loaded.stop_token_ids) == ends


def test_what_is_learned_of_a_conversation_of_llama_3(llama_3: Path) -> None:
    processor = load_processor(llama_3)
    messages: list[Any] = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "A cat."}]
    row = processor.prepare(messages, [], learn=True)
    assert row.labels is not None
    learned = [label for label in row.labels if label != -100]
    assert processor.decode(learned, skip_special_tokens=False) == "A cat.<|eot_id|>"
