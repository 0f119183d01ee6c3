"""Folders and names to models and processors; whatever is wrong with them is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from videolm.contracts import Frames
from videolm.errors import CheckpointError, ConfigError, ModelNotFoundError, VideoLMError
from videolm.families.auto import (
    describe_folder,
    family_of,
    load_config,
    load_model,
    load_processor,
    new_model,
    resolve,
    save_model,
)
from videolm.media.sampling import FrameSampling


def clip(num_frames: int = 3, size: tuple[int, int] = (20, 30)) -> Frames:
    pixels = tuple(np.full((*size, 3), 40 * index, dtype=np.uint8) for index in range(num_frames))
    return Frames(kind="video", pixels=pixels, source="array", size=size)


def picture(height: int = 30, width: int = 50) -> Frames:
    return Frames(kind="image", pixels=(np.zeros((height, width, 3), np.uint8),), source="array", size=(height, width))


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


def test_processor_and_model_agree_about_tokens(tiny_folder: Path) -> None:
    model, processor = load_model(tiny_folder), load_processor(tiny_folder)
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "what?"}]}]
    inputs = processor.prepare(messages, [clip(), picture()])
    assert [medium.num_tokens for medium in inputs.media] == [3 * 4, processor.tokens.image.count(30, 50)]
    assert [len(features.tokens) for features in model.encode_media(inputs.media)] == [
        medium.num_tokens for medium in inputs.media
    ]
    assert (inputs.input_ids.count(296), inputs.input_ids.count(297)) == tuple(m.num_tokens for m in inputs.media)
    assert model.prefill(inputs, model.new_cache()).shape == (300,)


def test_the_whole_frame_is_seen(tiny_folder: Path) -> None:
    frame = np.zeros((28, 280, 3), np.uint8)
    frame[:, :30] = 255
    prepared = load_processor(tiny_folder).prepare_frame(frame)
    assert prepared.shape == (28, 28, 3)
    assert prepared[:, 0].min() > 200, "the left edge, which a centre crop would cut off"


def test_what_the_processor_wrote_it_reads_again(tiny_folder: Path, tmp_path: Path) -> None:
    first = load_processor(tiny_folder)
    save_model(load_model(tiny_folder), first, tmp_path / "again")
    second = load_processor(tmp_path / "again")
    assert (second.image_pixels, second.video_pixels, second.tokens) == (
        first.image_pixels,
        first.video_pixels,
        first.tokens,
    )
    assert second.chat_template.source == first.chat_template.source
    assert family_of(tmp_path / "again").sampling == family_of(tiny_folder).sampling


def test_the_folder_says_how_frames_are_sampled(tiny_folder: Path) -> None:
    assert family_of(tiny_folder).sampling == FrameSampling(rule="linspace", num_frames=8)
    path = tiny_folder / "video_preprocessor_config.json"
    change_json(path, num_frames=None)
    assert family_of(tiny_folder).sampling == FrameSampling(rule="linspace", num_frames=32)
    change_json(path, fps=2)
    assert family_of(tiny_folder).sampling == FrameSampling(rule="fps", fps=2, num_frames=32)
    change_json(path, num_frames=0)
    with pytest.raises(ConfigError, match="num_frames is 0"):
        family_of(tiny_folder)


def test_processor_settings_are_looked_up_in_order(tiny_folder: Path) -> None:
    (tiny_folder / "video_preprocessor_config.json").unlink()
    assert family_of(tiny_folder).sampling.num_frames == 32
    change_json(tiny_folder / "preprocessor_config.json", num_frames=6)
    assert family_of(tiny_folder).sampling.num_frames == 6
    nested = {"size": {"height": 28, "width": 28}, "do_center_crop": False, "image_mean": [0.5] * 3, "num_frames": 4}
    change_json(tiny_folder / "processor_config.json", video_processor=nested, image_processor=nested)
    processor = load_processor(tiny_folder)
    assert family_of(tiny_folder).sampling.num_frames == 4
    assert (processor.image_pixels.image_mean, processor.video_pixels.image_mean) == ((0.5,) * 3, (0.5,) * 3)


def test_no_processor_file_is_an_error(tiny_folder: Path) -> None:
    (tiny_folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no preprocessor_config\.json: it says how pictures"):
        load_processor(tiny_folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("preprocessor_config.json", {"size": {"height": 56, "width": 56}}, "make pictures of 56x56 pixels, but the"),
        ("video_preprocessor_config.json", {"size": {"height": 14, "width": 14}}, "makes frames of 14x14 pixels"),
        ("preprocessor_config.json", {"size": "large"}, "cannot be used|size"),
        ("processor_config.json", {"patch_size": 14}, "has patch_size 14, but the model has 7"),
        ("processor_config.json", {"vision_feature_select_strategy": "full"}, "has vision_feature_select_strategy"),
    ],
)
def test_a_processor_of_another_model(tiny_folder: Path, name: str, changes: dict[str, Any], message: str) -> None:
    change_json(tiny_folder / name, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_processor(tiny_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("decoder", "question"),
    [
        (
            "llama",
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: <video>\nWhy? ASSISTANT:",
        ),
        ("mistral", "[INST] <video>\nWhy? [/INST]"),
    ],
)
def test_a_folder_without_a_template_gets_the_prompt_of_the_originals(
    tiny_folder: Path, decoder: str, question: str
) -> None:
    (tiny_folder / "chat_template.jinja").unlink()
    config = json.loads((tiny_folder / "config.json").read_text())
    change_json(
        tiny_folder / "config.json",
        text_config={**config["text_config"], "model_type": decoder, "sliding_window": None},
    )
    messages = [{"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "video"}]}]
    template = load_processor(tiny_folder).chat_template
    assert template.render(messages, add_generation_prompt=True).text == question


def test_a_multi_turn_vicuna_prompt(tiny_folder: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "This?"}]},
    ]
    rendered = load_processor(tiny_folder).chat_template.render(messages, add_generation_prompt=True)
    assert rendered.text == "Be brief. USER: Hello ASSISTANT: Hi</s>USER: <image>\nThis? ASSISTANT:"


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
    assert str(caught.value) == (
        f"model_type is 'bert' in {tiny_folder}: supported are llava_next_video. "
        "Choose a model of one of these families."
    )


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


# --- names ---


def test_a_folder_is_its_own_name(tiny_folder: Path) -> None:
    assert resolve(str(tiny_folder)) == tiny_folder


@pytest.mark.parametrize("name", ["nowhere", "./no/such/model", "/no/such", "a/b/c"])
def test_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match=f"{name} does not exist: expected the folder of a model, or a hub name"
    ):
        resolve(name)


def test_a_file_is_no_model(tiny_folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a file: expected the folder of a model"):
        resolve(tiny_folder / "config.json")


def pretend_hub(monkeypatch: pytest.MonkeyPatch, *, cached: Path | None, online: Path | Exception) -> list[bool]:
    """Replace the hub's client; the list returned says for each call whether it was for the cache alone."""
    calls: list[bool] = []

    def snapshot_download(name: str, *, local_files_only: bool = False, allow_patterns: list[str]) -> str:
        assert name == "organisation/model"
        assert "*.bin" not in allow_patterns
        calls.append(local_files_only)
        if local_files_only and cached is None:
            raise LocalEntryNotFoundError("nothing")
        found = cached if local_files_only else online
        if isinstance(found, Exception):
            raise found
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return calls


def test_a_hub_name_comes_from_the_cache_first(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    calls = pretend_hub(monkeypatch, cached=tiny_folder, online=AssertionError("not asked"))
    assert resolve("organisation/model") == tiny_folder
    assert calls == [True]


def test_a_partly_cached_model_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, tmp_path: Path
) -> None:
    partly = tmp_path / "partly"
    partly.mkdir()
    (partly / "config.json").write_text("{}")
    calls = pretend_hub(monkeypatch, cached=partly, online=tiny_folder)
    assert resolve("organisation/model") == tiny_folder
    assert calls == [True, False]


def hub_error(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    return kind("no", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("online", "message"),
    [
        (hub_error(RepositoryNotFoundError), "the hub has no such model or does not show it to you"),
        (hub_error(HfHubHTTPError), r"not in the hub cache, and the hub cannot be reached \(HfHubHTTPError\)"),
        (OSError("no route"), r"the hub cannot be reached \(OSError\)"),
        (LocalEntryNotFoundError("no"), "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, online: Exception, message: str) -> None:
    pretend_hub(monkeypatch, cached=None, online=online)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        resolve("organisation/model")
    assert "\n" not in str(caught.value)


def test_no_download_when_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pretend_hub(monkeypatch, cached=None, online=AssertionError("not asked"))
    with pytest.raises(ModelNotFoundError, match="no folder of that name, and not in the hub cache"):
        resolve("organisation/model", download=False)
    assert calls == [True]
