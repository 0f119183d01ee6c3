"""Folders and names to models and processors; whatever is wrong with them is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.errors import CheckpointError, ConfigError, ModelNotFoundError, VideoLMError
from videolm.families.auto import (
    MODEL_CLASSES,
    describe_folder,
    load_config,
    load_model,
    load_processor,
    new_model,
    save_model,
)
from videolm.families.auto_classes import AutoModelForImageTextToText
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration
from videolm.families.part_configs import LlamaConfig


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_saved_model_comes_back_the_same(tiny_folder: Path, tiny_config: dict[str, Any]) -> None:
    loaded, made = load_model(tiny_folder), new_model(tiny_config, seed=1)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(made.state_dict()), rtol=0, atol=0)
    assert loaded.generation_config == {"eos_token_id": 2, "pad_token_id": 0}
    assert not loaded.training


def test_a_new_model_depends_on_its_seed_alone(tiny_config: dict[str, Any]) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (new_model(tiny_config, seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("asked", "given"), [(None, torch.bfloat16), ("auto", torch.bfloat16), ("float32", torch.float32)]
)
def test_the_dtype_is_that_of_the_files_unless_asked(tiny_folder: Path, asked: str | None, given: torch.dtype) -> None:
    save_model(load_model(tiny_folder), load_processor(tiny_folder), tiny_folder, torch.bfloat16)
    model = load_model(tiny_folder, dtype=asked)
    assert {parameter.dtype for parameter in model.parameters()} == {given}
    assert (model.dtype, model.config.dtype) == (given, given)
    assert load_config(tiny_folder).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["float7", "int8", "nn"])
def test_a_dtype_that_is_none(tiny_folder: Path, dtype: str) -> None:
    with pytest.raises(VideoLMError, match=rf"dtype is '{dtype}': expected float32"):
        load_model(tiny_folder, dtype=dtype)


def test_describing_a_folder(tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    assert describe_folder(tiny_folder) == {
        "family": "llava_next_video",
        "num_parameters": model.num_parameters(),
        "bytes": (tiny_folder / "model.safetensors").stat().st_size,
        "present": True,
    }
    (tiny_folder / "model.safetensors").unlink()
    assert describe_folder(tiny_folder)["present"] is False


def test_an_unsupported_type_lists_the_supported_ones(tiny_folder: Path) -> None:
    change_json(tiny_folder / "config.json", model_type="bert")
    with pytest.raises(ConfigError) as caught:
        load_model(tiny_folder)
    supported = ", ".join(sorted(model_class.family.model_type for model_class in MODEL_CLASSES))
    assert "llava_next_video" in supported
    assert str(caught.value) == (
        f"model_type is 'bert' in {tiny_folder}: supported are {supported}. Choose a model of one of these families."
    )


@pytest.mark.parametrize("model_type", ["llava_next", "video_llava", "bert"])
def test_a_class_refuses_the_folder_of_another_family(tiny_folder: Path, model_type: str) -> None:
    change_json(tiny_folder / "config.json", model_type=model_type)
    message = f"configuration of a {model_type}, while LlavaNextVideoConfig describes a llava_next_video: .*AutoModel"
    with pytest.raises(ConfigError, match=message):
        LlavaNextVideoForConditionalGeneration.from_pretrained(tiny_folder)
    with pytest.raises(ConfigError, match="while LlamaConfig describes a llama"):
        LlamaConfig.from_pretrained(tiny_folder)


def test_loading_a_model_needs_configuration_and_weights_alone(tiny_folder: Path) -> None:
    for path in tiny_folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    expected = LlavaNextVideoForConditionalGeneration.from_pretrained(tiny_folder)
    for model in (AutoModelForImageTextToText.from_pretrained(tiny_folder), load_model(tiny_folder)):
        assert type(model) is type(expected)
        assert torch.equal(model.lm_head.weight, expected.lm_head.weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ("[]", "holds a JSON list"), ("\xff", "cannot be read as JSON")],
)
def test_a_broken_config(tiny_folder: Path, text: str, message: str) -> None:
    (tiny_folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(tiny_folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json does not exist: expected it in the folder of a model"):
        load_model(tmp_path)


def test_a_missing_shard(tiny_folder: Path) -> None:
    save_model(load_model(tiny_folder), load_processor(tiny_folder), tiny_folder, max_shard_size="100KB")
    shards = sorted(path.name for path in tiny_folder.glob("model-*.safetensors"))
    (tiny_folder / shards[0]).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks 1 of its {len(shards)} weight shards \({shards[0]}\)"):
        load_model(tiny_folder)


@pytest.mark.parametrize("dtype", ["float7", "int8", "nn", 16])
def test_a_config_with_a_dtype_that_is_none(tiny_folder: Path, dtype: Any) -> None:
    change_json(tiny_folder / "config.json", dtype=dtype)
    with pytest.raises(ConfigError, match=rf"dtype is {dtype!r} .* expected float32, bfloat16, float16 or null"):
        load_model(tiny_folder)
