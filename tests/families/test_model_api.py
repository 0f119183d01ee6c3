"""The methods around ``forward`` and ``generate``: loading options, vocabulary, policies, what is not offered."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.contracts import ModelInputs, VisualInput
from videolm.errors import (
    ArgumentError,
    ConfigError,
    DeviceError,
    ModelNotFoundError,
    NotOfferedError,
    PlaceholderMismatchError,
)
from videolm.families.auto import new_model
from videolm.families.generation_config import GenerationConfig
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration
from videolm.generation.loop import generate_ids
from videolm.generation.params import SamplingParams
from videolm.models.cache import KVCache

Model = LlavaNextVideoForConditionalGeneration
VIDEO = 296
IDS = torch.tensor([[1, 5, 6, 7]])


@pytest.fixture
def model(tiny_config: dict[str, Any]) -> Any:
    model = new_model(tiny_config, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def clip(num_frames: int = 2) -> torch.Tensor:
    return torch.randn(num_frames, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def ids_with_video(num_frames: int = 2) -> torch.Tensor:
    return torch.tensor([[1, 5, *[VIDEO] * (4 * num_frames), 6, 7]])


# --- loading ---


def test_float16_runs_on_a_cpu(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = Model.from_pretrained(tiny_folder, torch_dtype=torch.float16, device_map="auto", low_cpu_mem_usage=True)
    if model.device.type == "cpu":
        assert model.dtype in (torch.bfloat16, torch.float32)
        assert len(caplog.records) == 1
        assert model.config.dtype == model.dtype
    logits = model(ids_with_video(), pixel_values_videos=clip()[None].half()).logits
    assert logits.dtype == model.dtype
    assert Model.from_pretrained(tiny_folder, dtype="float16", keep_dtype=True).dtype == torch.float16


def test_without_a_dtype_the_files_decide(tiny_folder: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (tiny_folder / "config.json").write_text(json.dumps(config))
    assert Model.from_pretrained(tiny_folder).dtype == torch.float32


def test_a_model_in_a_subfolder_with_other_names(tiny_folder: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    tiny_folder.rename(parent / "inner")
    expected = Model.from_pretrained(parent / "inner")
    files = {f"other.{name}": value for name, value in expected.state_dict().items()}
    torch.save(files, parent / "inner" / "pytorch_model.bin")
    (parent / "inner" / "model.safetensors").unlink()
    found = Model.from_pretrained(parent, subfolder="inner", key_mapping={r"^other\.": ""}, local_files_only=True)
    assert torch.equal(found.lm_head.weight, expected.lm_head.weight)
    with pytest.raises(ModelNotFoundError, match="holds no folder 'outer'"):
        Model.from_pretrained(parent, subfolder="outer")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vision_feature_layers": -1}, ArgumentError, "Did you mean vision_feature_layer"),
        ({"attn_implementation": "flash_attention_2"}, DeviceError, "'sdpa' already runs the same kernel"),
        ({"use_flash_attention_2": True}, DeviceError, "needs the flash-attn package"),
        ({"device_map": {"a": "cpu", "b": "cuda:0"}}, DeviceError, "expected one device"),
        ({"rope_policy": "often"}, ConfigError, "rope_policy is 'often'"),
        ({"key_mapping": {"(": ""}}, ArgumentError, "no regular expression"),
        ({"key_mapping": {".*": "x"}}, ArgumentError, "every tensor needs its own"),
    ],
    ids=str,
)
def test_options_that_cannot_be(
    tiny_folder: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Model.from_pretrained(tiny_folder, **options)


def test_keys_of_the_configuration_can_be_replaced(tiny_folder: Path) -> None:
    model = Model.from_pretrained(tiny_folder, vision_feature_layer=-1, attn_implementation="eager")
    assert model.model.config.fusion.feature_layers == (-1,)
    assert model.attn_implementation == "eager"


def test_the_part_without_the_head_by_itself(tiny_folder: Path, tiny_config: dict[str, Any]) -> None:
    part_class: Any = Model.backbone_class
    whole = Model.from_pretrained(tiny_folder)
    part = part_class.from_pretrained(tiny_folder)
    with torch.inference_mode():
        states = part(IDS).last_hidden_state
        torch.testing.assert_close(whole.lm_head(states), whole(IDS).logits)
        plain = part(IDS, return_dict=False, use_cache=False)
    assert len(plain) == 1
    assert torch.equal(plain[0], states)
    assert part_class(tiny_config)(IDS).last_hidden_state.isfinite().all()


# --- vocabulary ---


@pytest.mark.parametrize("tied", [False, True])
def test_more_rows_leave_old_logits_alone(tiny_config: dict[str, Any], tied: bool) -> None:
    model = new_model(tiny_config | {"tie_word_embeddings": tied}).eval()
    with torch.inference_mode():
        before = model(IDS).logits
        table = model.resize_token_embeddings(303, pad_to_multiple_of=64)
        after = model(IDS).logits
    assert table is model.get_input_embeddings()
    assert (table.num_embeddings, model.config.text_config.vocab_size, after.shape[-1]) == (320, 320, 320)
    torch.testing.assert_close(after[..., :300], before)
    torch.testing.assert_close(table.weight[300:], table.weight[:300].mean(0).expand(20, -1))
    assert (model.lm_head.weight is table.weight) == tied
    model.resize_token_embeddings(300)
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS).logits, before)


def test_a_resized_model_is_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    model.resize_token_embeddings(310, mean_resizing=False)
    model.save_pretrained(tmp_path / "model")
    loaded = Model.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    with pytest.raises(ArgumentError, match="new_num_tokens is 0"):
        model.resize_token_embeddings(0)


# --- positions ---


def test_rope_policies(tiny_config: dict[str, Any]) -> None:
    stretched = {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}
    tiny_config["text_config"] |= {"rope_parameters": stretched, "max_position_embeddings": 600}
    fixed = new_model(tiny_config, seed=1).eval()
    assert fixed.config.rope_policy == "fixed"
    models = {policy: new_model(tiny_config | {"rope_policy": policy}, seed=1).eval() for policy in ("auto", "none")}
    places = torch.arange(12)[None]
    inputs = {"input_ids": ids_with_video(), "pixel_values_videos": clip()[None]}
    with torch.inference_mode():
        plain = models["none"](**inputs).logits
        by_hand = models["none"](**inputs, position_ids=places / 2.5).logits
        torch.testing.assert_close(fixed(**inputs).logits, by_hand)
        # 8 visual tokens and 1000 for text do not fit into 600: twice as far.
        halved = models["none"](**inputs, position_ids=places / 2).logits
        torch.testing.assert_close(models["auto"](**inputs).logits, halved)
    assert not torch.allclose(plain, halved)


def test_the_automatic_policy_is_the_same_in_every_way_to_generate(tiny_config: dict[str, Any]) -> None:
    tiny_config["text_config"] |= {"max_position_embeddings": 300}
    model = new_model(tiny_config | {"rope_policy": "auto"}, seed=1).eval()
    ids, frames = ids_with_video(), clip()
    medium = VisualInput(kind="video", pixel_values=frames, size=(28, 28), num_tokens=8)
    inputs = ModelInputs(input_ids=tuple(ids[0].tolist()), media=(medium,), media_starts=(2,))
    one_by_one = list(generate_ids(model, inputs, SamplingParams(max_new_tokens=5)))
    for options in ({}, {"use_cache": False}):
        found = model.generate(ids, pixel_values_videos=frames[None], max_new_tokens=5, **options)
        assert found[0, ids.shape[1] :].tolist() == one_by_one


# --- what is checked and what is not offered ---


@pytest.mark.parametrize("name", ["prune_heads", "push_to_hub", "add_adapter", "to_bettertransformer"])
def test_methods_that_are_not_offered(model: Any, name: str) -> None:
    assert not hasattr(model, name)
    with pytest.raises(NotOfferedError, match=f"LlavaNextVideoForConditionalGeneration has no {name}"):
        getattr(model, name)({0: [1]})


def test_gradient_checkpointing_can_be_turned_on_and_off(model: Any) -> None:
    decoder = model.model.language_model
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert decoder.gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not decoder.gradient_checkpointing
    with pytest.raises(ArgumentError, match="only use_reentrant=False is offered"):
        model.gradient_checkpointing_enable({"use_reentrant": True})


def test_calls_that_cannot_be(model: Any) -> None:
    output = model(IDS, use_cache=True)
    with pytest.raises(ArgumentError, match="cache_position starts at 0, but 4 tokens are cached"):
        model(IDS, past_key_values=output.past_key_values, cache_position=torch.arange(4))
    with pytest.raises(ArgumentError, match="past_key_values is a str"):
        model(IDS, past_key_values="cache")
    with pytest.raises(ArgumentError, match="two names of the same argument"):
        model(IDS, pixel_values=clip(), pixel_values_images=clip())
    with pytest.raises(ArgumentError, match="Name as many layers"):
        model(ids_with_video(), pixel_values_videos=clip()[None], vision_feature_layer=[-1, -2])
    with pytest.raises(PlaceholderMismatchError, match="8 video placeholders for 3 rows"):
        model.get_placeholder_mask(ids_with_video(), video_features=torch.zeros(3, 32))
    with pytest.raises(ArgumentError, match="Leave position_ids out"):
        model(torch.tensor([[1, VIDEO, 5]]), pixel_values_videos=clip()[None], position_ids=torch.arange(3)[None])


def test_padding_stays_on_its_side_when_placeholders_are_written_out(model: Any) -> None:
    ids = torch.tensor([[1, VIDEO, 5, 6], [1, 5, 6, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.inference_mode():
        whole = model(ids, attention_mask=mask, pixel_values_videos=clip()[None]).logits
        alone = model(torch.tensor([[1, 5, 6]])).logits
    assert whole.shape[1] == 11
    torch.testing.assert_close(whole[1, :3], alone[0])


# --- generate ---


def test_an_object_with_options(model: Any) -> None:
    expected = model.generate(IDS, max_new_tokens=3)
    assert torch.equal(model.generate(IDS, generation_config=GenerationConfig(max_new_tokens=3)), expected)
    assert torch.equal(model.generate(IDS, generation_config={"max_new_tokens": 9}, max_new_tokens=3), expected)
    model.generation_config = GenerationConfig(max_new_tokens=2)
    assert torch.equal(model.generate(IDS), expected[:, :-1])
    assert model.generate(IDS, max_length=5).shape == (1, 5)


def test_no_end_token_never_stops_early(model: Any) -> None:
    first = int(model.generate(IDS, max_new_tokens=1)[0, -1])
    model.generation_config = {"eos_token_id": first}
    assert model.generate(IDS, max_new_tokens=6).shape[1] == 5
    assert model.generate(IDS, max_new_tokens=6, eos_token_id=None).shape[1] == 10


def test_max_length_below_the_prompt_counts_each_medium_as_one(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"pixel_values_videos": clip()[None], "eos_token_id": None}
    with caplog.at_level(logging.WARNING):
        written_out = model.generate(ids_with_video(), max_length=9, **inputs)
    assert "each picture and video counts as one of 5" in caplog.text
    assert written_out.shape[1] == 12 + 4
    single = model.generate(torch.tensor([[1, 5, VIDEO, 6, 7]]), max_length=9, **inputs)
    assert single.shape[1] == 9
    assert torch.equal(single[:, 5:], written_out[:, 12:])
    with pytest.raises(ArgumentError, match="max_length is 5 but the prompt alone has 5 tokens"):
        model.generate(ids_with_video(), max_length=5, **inputs)


def test_drawing_at_temperature_zero_takes_the_most_likely_token(model: Any) -> None:
    expected = model.generate(IDS, max_new_tokens=4)
    assert torch.equal(model.generate(IDS, max_new_tokens=4, do_sample=True, temperature=0.0), expected)


def test_what_was_generated_can_be_learned(model: Any) -> None:
    ids = model.generate(IDS, max_new_tokens=2)
    model(ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad is not None


def test_several_answers_to_each_prompt(model: Any) -> None:
    options = {"max_new_tokens": 4, "eos_token_id": None, "seed": 5, "temperature": 3.0, "do_sample": True}
    found = model.generate(IDS.repeat(2, 1), num_return_sequences=2, **options)
    assert found.shape == (4, 8)
    assert len({tuple(row) for row in found.tolist()}) == 4
    with pytest.raises(ArgumentError, match="num_return_sequences is 2 with num_beams=1 and do_sample=False"):
        model.generate(IDS, num_return_sequences=2)
    with pytest.raises(ArgumentError, match="num_return_sequences is 3 with num_beams=2"):
        model.generate(IDS, num_return_sequences=3, num_beams=2)


class Streamer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.pieces: list[list[Any]] = []
        self.has_ended = False

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.tolist())

    def end(self) -> None:
        self.has_ended = True


def test_a_streamer_gets_prompts_then_tokens(model: Any) -> None:
    streamer = Streamer()
    found = model.generate(IDS, max_new_tokens=3, streamer=streamer)
    assert streamer.pieces == [IDS.tolist(), *([token] for token in found[0, 4:].tolist())]
    assert streamer.has_ended
    with pytest.raises(ArgumentError, match="Leave the streamer out"):
        model.generate(IDS, num_beams=2, streamer=streamer)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_callers_own_processors_and_criteria(model: Any, num_beams: int) -> None:
    def only_nine(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        assert ids.shape[0] == scores.shape[0]
        return torch.full_like(scores, -1e4).index_fill(1, torch.tensor([9]), 0.0)

    def is_long(ids: torch.Tensor, scores: Any) -> torch.Tensor:
        return torch.full((len(ids),), ids.shape[1] >= 6)

    options = {"max_new_tokens": 5, "eos_token_id": None, "num_beams": num_beams}
    found = model.generate(IDS, logits_processor=[only_nine], stopping_criteria=[is_long], **options)
    assert found.tolist() == [[1, 5, 6, 7, 9, 9]]


class Letters:
    """Every id is a letter."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(ord("a") + token % 26) for token in ids)


def test_stop_strings_end_a_row(model: Any) -> None:
    free = model.generate(IDS, max_new_tokens=6, eos_token_id=None)
    text = Letters().decode(free[0, 4:].tolist())
    stop = text[1:3]
    found = model.generate(IDS, max_new_tokens=6, eos_token_id=None, stop_strings=[stop], tokenizer=Letters())
    assert Letters().decode(found[0, 4:].tolist()) == text[: text.index(stop) + 2]
    with pytest.raises(ArgumentError, match=r"Pass tokenizer=processor\.tokenizer"):
        model.generate(IDS, stop_strings=stop)


def test_more_than_ids(model: Any) -> None:
    options = {"max_new_tokens": 3, "eos_token_id": None, "return_dict_in_generate": True}
    found = model.generate(IDS, output_scores=True, output_logits=True, repetition_penalty=2.0, **options)
    assert found.keys() == ("sequences", "scores", "logits", "past_key_values")
    assert isinstance(found.past_key_values, KVCache)
    assert [int(scores.argmax()) for scores in found.scores] == found.sequences[0, 4:].tolist()
    assert not torch.equal(found.scores[0], found.logits[0])
    assert model.generate(IDS, **options).keys() == ("sequences", "past_key_values")
