"""The page about families: its tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.families.auto import MODEL_CLASSES
from videolm.families.layouts import LLAVA_SAVE_LAYOUTS, LLAVA_TOWER_LAYOUTS
from videolm.families.llava_next_video import LlavaNextVideoConfig
from videolm.families.part_configs import CLIPVisionConfig, LlamaConfig, MistralConfig, Qwen2Config
from videolm.families.video_llava import VideoLlavaConfig
from videolm.weights.keymap import detect_layout

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "families.md").read_text()
BY_TYPE = {model_class.family.model_type: model_class for model_class in MODEL_CLASSES}
TEXTS = {each.model_type: each for each in (LlamaConfig, MistralConfig, Qwen2Config)}


def table(first: str) -> list[list[str]]:
    """The cells of the table whose first column has this name."""
    rows: list[list[str]] = []
    for line in PAGE.partition(f"\n| {first} |")[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\0", "|") for cell in line.replace("\\|", "\0").strip("|").split("|")])
    assert rows, first
    return rows


@pytest.mark.parametrize("row", table("checkpoint"), ids=lambda row: row[0])
def test_checkpoints_have_so_many_parameters(row: list[str]) -> None:
    name, model_type, decoder, shape, vocab_size, theta, positions, billions = row
    width, layers, heads, kv_heads, mlp = (int(number) for number in shape.split()[0].split("/"))
    text = TEXTS[decoder](
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp,
        vocab_size=int(vocab_size),
        rope_theta=float(theta),
        max_position_embeddings=int(re.match(r"\d+", positions)[0]),  # type: ignore[index]
    )
    if decoder == "mistral":
        text.sliding_window = None
    model_class = BY_TYPE[model_type]
    with torch.device("meta"):
        model = model_class(model_class.family.config_class(text_config=text))
    assert f"{model.num_parameters() / 1e9:.2f}" == billions, name


def test_every_family_has_its_row_and_its_frames() -> None:
    rows = {row[0]: row for row in table("model_type")}
    assert rows.keys() == BY_TYPE.keys()
    for model_type, row in rows.items():
        family = BY_TYPE[model_type].family
        assert row[5].split(",")[0] == str(family.sampling.num_frames)
        tokens = family.config_class().visual_tokens()
        assert int(re.match(r"\d+", row[4])[0]) == tokens.video.count(2) - tokens.video.count(1)  # type: ignore[index]
        assert str(tokens.image.grid**2) in row[3]


@pytest.mark.parametrize("row", table("layout"), ids=lambda row: row[0])
def test_layouts_are_recognised_by_their_names(row: list[str]) -> None:
    name, begins, written = row
    names = re.findall(r"`([\w.]+)`", begins)
    layout = detect_layout(names, LLAVA_TOWER_LAYOUTS)
    assert layout.name == name
    tops = {each.removesuffix("embeddings.").removesuffix("layers.") for each in names}
    assert {rule.file for rule in layout.rules} >= tops
    assert [save for save, each in LLAVA_SAVE_LAYOUTS.items() if each is layout and save != "memory"] == written.split()


def value_of(text: str) -> Any:
    words = {"true": True, "false": False, "-2": -2, "[-3, -2]": [-3, -2]}
    return words[text] if text in words else int(text) if text.isdecimal() else text


@pytest.mark.parametrize("row", table("key"), ids=lambda row: row[0])
def test_settings_are_keys_that_take_these_values(row: list[str]) -> None:
    name, values = row[0].strip("`"), re.findall(r"\[[^\]]*\]|[^, ]+", row[1])
    configs = [model_class.family.config_class for model_class in MODEL_CLASSES]
    if name == "rope_policy":
        for value in values:
            assert LlavaNextVideoConfig(rope_policy=value).model_settings().decoder.rope_policy == value
        return
    if name == "vision_config.add_time_attn":
        found = [VideoLlavaConfig({"model_type": "clip_vision_model", "add_time_attn": each}) for each in (True, False)]
        assert [config.temporal_frames for config in found] == [8, None]
        return
    owners = [CLIPVisionConfig] if name.startswith("vision_config.") else configs
    keys = [owner.keys[name.split(".")[-1]] for owner in owners if name.split(".")[-1] in owner.keys]
    assert keys
    assert all(key.accepts(value_of(value)) for key in keys for value in values)
    shown = value_of(row[2].split(";")[0])
    assert shown in [key.default for key in keys]


def test_every_comparison_is_listed() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "parity").glob("test_*.py")}
    named = set(re.findall(r"`(tests/parity/test_\w+\.py)`", PAGE))
    assert named == files
