"""The classes with Hugging Face's names: construction, loading, forward's arguments, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm.errors import ArgumentError, CheckpointError, ConfigError, PlaceholderMismatchError, ProcessingError
from videolm.families.auto import new_model
from videolm.families.llava_next_video import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration
from videolm.families.part_configs import LlamaConfig
from videolm.models.cache import KVCache

Model = LlavaNextVideoForConditionalGeneration
IMAGE, VIDEO = 297, 296
TOKENS_OF_A_FRAME = 4


@pytest.fixture
def model(tiny_config: dict[str, Any]) -> Any:
    return new_model(tiny_config, seed=3).eval()


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.randn(2, 3, 28, 28)


def ids_with_video(num_frames: int = 2) -> torch.Tensor:
    return torch.tensor([[1, 5, *[VIDEO] * (TOKENS_OF_A_FRAME * num_frames), 6, 7]])


def test_the_class_of_another_familys_config() -> None:
    with pytest.raises(ConfigError, match="was given the configuration of a llama: expected one of llava_next_video"):
        Model(LlamaConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_from_pretrained_takes_both_names_of_the_dtype(tiny_folder: Path, name: str) -> None:
    model = Model.from_pretrained(str(tiny_folder), **{name: torch.bfloat16})  # type: ignore[arg-type]
    assert (model.dtype, model.device.type, model.config.dtype) == (torch.bfloat16, "cpu", torch.bfloat16)


def test_loading_says_how_far_it_is(tiny_folder: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    model = Model.from_pretrained(tiny_folder, progress=lambda done, total: steps.append((done, total)))
    count = len(model.state_dict())
    assert steps == [(index + 1, count) for index in range(count)]


def test_weights_of_another_size(tiny_folder: Path) -> None:
    config = LlavaNextVideoConfig.from_pretrained(tiny_folder)
    config.text_config.vocab_size = 301
    config.save_pretrained(tiny_folder)
    with pytest.raises(
        CheckpointError,
        match=r"language_model\.lm_head\.weight in .* has the shape \[300, 32\], but .* asks for \[301, 32\]",
    ):
        Model.from_pretrained(tiny_folder)


def test_numbers_of_parameters(model: Any) -> None:
    whole = sum(parameter.numel() for parameter in model.parameters())
    model.lm_head.requires_grad_(False)
    assert model.num_parameters() == whole
    assert model.num_parameters(only_trainable=True) == whole - 300 * 32


def test_an_output_by_attribute_name_and_place(model: Any, clip: torch.Tensor) -> None:
    with torch.inference_mode():
        output = model(ids_with_video(), pixel_values_videos=clip[None], labels=ids_with_video() % 290)
        plain = model(
            ids_with_video(), pixel_values_videos=clip[None], labels=ids_with_video() % 290, return_dict=False
        )
    assert output.keys() == ("loss", "logits", "past_key_values", "video_hidden_states")
    assert output["logits"] is output.logits is output[1]
    assert output.video_hidden_states.shape == (8, 32)
    torch.testing.assert_close(plain[:2], output[:2])
    with pytest.raises(KeyError):
        output["image_hidden_states"]


@pytest.mark.parametrize("form", ["batch", "single", "list"])
def test_videos_in_every_form(model: Any, clip: torch.Tensor, form: str) -> None:
    forms = {"batch": clip[None], "single": clip, "list": [clip]}
    with torch.inference_mode():
        expected = model(ids_with_video(), pixel_values_videos=clip[None]).logits
        assert torch.equal(model(ids_with_video(), pixel_values_videos=forms[form]).logits, expected)


def test_videos_of_different_lengths_in_one_call(model: Any, clip: torch.Tensor) -> None:
    ids = torch.cat([ids_with_video(1), torch.tensor([[9, *[VIDEO] * 8]])], dim=1)
    with torch.inference_mode():
        assert model(ids, pixel_values_videos=[clip[:1], clip]).logits.shape == (1, ids.shape[1], 300)


@pytest.mark.parametrize("form", ["padded", "tiles", "list"])
def test_pictures_in_every_form(model: Any, form: str) -> None:
    sizes = [(28, 28), (60, 60)]
    layouts = [model.tokens.image.layout(*size) for size in sizes]
    assert [layout.num_tiles for layout in layouts] == [3, 5]
    stacks = [torch.randn(layout.num_tiles, 3, 28, 28) for layout in layouts]
    padded = torch.stack([torch.cat([stacks[0], torch.full((2, 3, 28, 28), 9.0)]), stacks[1]])
    forms = {"padded": padded, "tiles": torch.cat(stacks), "list": stacks}
    ids = torch.tensor([[1, *[IMAGE] * layouts[0].count, 4, *[IMAGE] * layouts[1].count, 5]])
    with torch.inference_mode():
        expected = model(ids, pixel_values=stacks, image_sizes=sizes).logits
        found = model(ids, pixel_values=forms[form], image_sizes=torch.tensor(sizes)).logits
    assert torch.equal(found, expected)


def test_embeddings_in_the_place_of_ids(model: Any) -> None:
    ids = torch.tensor([[1, 5, 6]])
    embeds = model.model.language_model.embed_tokens(ids)
    with torch.inference_mode():
        assert torch.equal(model(inputs_embeds=embeds).logits, model(ids).logits)


def test_a_cache_is_returned_outside_of_training_or_when_asked_for(model: Any) -> None:
    ids = torch.tensor([[1, 5, 6]])
    assert model(ids).past_key_values is None
    assert isinstance(model(ids, use_cache=True).past_key_values, KVCache)
    with torch.inference_mode():
        assert model(ids).past_key_values.length == 3
        assert model(ids, use_cache=False).past_key_values is None


@pytest.mark.parametrize("text", [{}, {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}], ids=str)
def test_positions_can_be_given(tiny_config: dict[str, Any], text: dict[str, Any]) -> None:
    tiny_config["text_config"] |= text
    model = new_model(tiny_config).eval()
    ids = torch.tensor([[1, 5, 6]])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids, position_ids=torch.tensor([[7, 8, 9]])).logits, model(ids).logits)
        assert not torch.allclose(model(ids, position_ids=torch.tensor([[0, 5, 30]])).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_ids": None}, ArgumentError, "pass exactly one of them"),
        ({"inputs_embeds": torch.zeros(1, 12, 32)}, ArgumentError, "pass exactly one of them"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(1, 12, 32)}, ArgumentError, "which show no placeholders"),
        ({"pixel_values": torch.zeros(1, 3, 3, 28, 28)}, ArgumentError, "without image_sizes"),
        ({"pixel_values_videos": None}, PlaceholderMismatchError, r"hold 8 video placeholders .* fill 0 \(\[\]\)"),
        ({"input_ids": ids_with_video(1)}, PlaceholderMismatchError, "hold 4 video placeholders .* fill 8"),
        ({"pixel_values_videos": torch.zeros(1, 2, 3, 20, 20)}, ProcessingError, "Medium 0 has pixels of shape"),
        (
            {"pixel_values": torch.zeros(1, 2, 3, 28, 28), "image_sizes": [(28, 28)]},
            ProcessingError,
            r"holds \[2\] tiles a picture, but image_sizes ask for \[3\]",
        ),
        (
            {"pixel_values": torch.zeros(2, 3, 28, 28), "image_sizes": [(28, 28)]},
            ProcessingError,
            "pixel_values holds 2 tiles, but pictures of these image_sizes have 3",
        ),
        (
            {"image_sizes": torch.ones(1, 12)},
            ArgumentError,
            "image_sizes came without pixel_values",
        ),
        (
            {"pixel_values": torch.zeros(1, 3, 3, 28, 28), "image_sizes": torch.ones(1, 12)},
            ArgumentError,
            r"image_sizes came as a tensor of shape \[1, 12\]",
        ),
        ({"input_ids": [[1, 5]]}, ArgumentError, r"input_ids is a list: expected whole numbers \[B, S\]"),
        ({"input_ids": torch.tensor([1, 5])}, ArgumentError, r"input_ids is a tensor of int64 \[2\]"),
        ({"input_ids": torch.ones(1, 5)}, ArgumentError, r"input_ids is a tensor of float32 \[1, 5\]"),
        (
            {"input_ids": torch.tensor([[1, 777]])},
            ArgumentError,
            "hold 777, but the vocabulary has ids from 0 to 299, and the placeholders 297 and 296",
        ),
        ({"input_ids": torch.tensor([[1, -4]])}, ArgumentError, "input_ids hold -4"),
        (
            {"pixel_values_videos": np.zeros((1, 2, 3, 28, 28))},
            ArgumentError,
            "pixel_values_videos is a ndarray",
        ),
        (
            {"pixel_values": [np.zeros((3, 3, 28, 28))]},
            ArgumentError,
            "a ndarray: .*return_tensors='pt'",
        ),
        ({"position_ids": torch.arange(3)[None]}, ArgumentError, r"a tensor of int64 \[1, 3\]: expected \[1, 12\]"),
        ({"logits_to_keep": -1}, ArgumentError, "logits_to_keep is -1"),
        (
            {"input_ids": None, "pixel_values_videos": None, "inputs_embeds": torch.zeros(1, 3, 16)},
            ArgumentError,
            r"inputs_embeds is a tensor of float32 \[1, 3, 16\]: expected \[B, S, 32\]",
        ),
        ({"attention_mask": torch.ones(1, 5)}, ArgumentError, r"has the shape \[1, 5\]: expected \[1, 12\]"),
        ({"labels": ids_with_video(), "logits_to_keep": 1}, ArgumentError, "Leave logits_to_keep out"),
    ],
)
def test_arguments_that_do_not_fit(
    model: Any, clip: torch.Tensor, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"input_ids": ids_with_video(), "pixel_values_videos": clip[None]} | changes
    with pytest.raises(error, match=message) as caught:
        model(**arguments)
    assert "\n" not in str(caught.value)


def test_a_cache_of_another_batch_or_model(model: Any) -> None:
    ids = torch.tensor([[1, 5, 6]])
    with torch.inference_mode():
        cache = model(ids).past_key_values
        with pytest.raises(ArgumentError, match="past_key_values holds 1 rows instead of 2: expected what this model"):
            model(ids.repeat(2, 1), past_key_values=cache)
        pairs = tuple((torch.zeros(1, 4, 3, 8), torch.zeros(1, 4, 3, 8)) for _ in range(5))
        with pytest.raises(ArgumentError, match="5 layers instead of 2, 4 key and value heads instead of 2"):
            model(ids, past_key_values=pairs)
        outside = torch.tensor([[400]])
        with pytest.raises(ArgumentError, match=r"input_ids hold 400, but .* from 0 to 299: expected"):
            model(outside, past_key_values=cache)


def test_placeholders_may_not_span_two_prompts(model: Any, clip: torch.Tensor) -> None:
    ids = torch.tensor([[1, 5, 5, 5, *[VIDEO] * 4], [*[VIDEO] * 4, 5, 5, 5, 5]])
    with pytest.raises(PlaceholderMismatchError, match="do not stand side by side in one prompt"):
        model(ids, pixel_values_videos=clip[None])


def test_a_layout_that_is_none(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="layout is 'gguf': llava_next_video can be written as hf, hf5, original"):
        model.save_pretrained(tmp_path / "model", layout="gguf")
    assert list(tmp_path.iterdir()) == []


def test_saving_names_the_class_and_the_dtype(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    config = LlavaNextVideoConfig.from_pretrained(tmp_path / "model")
    assert (config.architectures, config.dtype) == (["LlavaNextVideoForConditionalGeneration"], torch.bfloat16)
    assert model.dtype == torch.float32
