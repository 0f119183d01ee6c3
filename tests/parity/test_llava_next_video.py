"""LLaVA-NeXT-Video against transformers: same tiny random weights, same logits, losses and ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration

from .comparing import assert_same_logits, ours_from

transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 78, 79
Reference = Callable[..., Any]
MakeBatch = Callable[..., Any]


PROMPTS = ["text_only", "one_video", "image_and_video", "video_then_images", "mixed_rows"]


# --- logits ---


@pytest.mark.parametrize("decoder", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits(make_reference: Reference, make_batch: MakeBatch, decoder: str, prompt: str) -> None:
    theirs = make_reference(decoder)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, make_batch(ours, prompt))


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (16, 16),
        (5, 5),
        (32, 32),
        (100, 100),
        (48, 16),
        (16, 48),
        (20, 60),
        (37, 53),
        (53, 37),
        (3, 40),
        (40, 3),
        (9, 14),
    ],
)
def test_picture_sizes(make_reference: Reference, make_batch: MakeBatch, height: int, width: int) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    batch = make_batch(ours)
    assert_same_logits(ours, theirs, batch.row(batch.words(2), batch.image(height, width), batch.words(3)))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["average", "max", "conv"])
def test_pooling(make_reference: Reference, make_batch: MakeBatch, mode: str, stride: int) -> None:
    theirs = make_reference(spatial_pool_mode=mode, spatial_pool_stride=stride)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, make_batch(ours, "one_video"))


@pytest.mark.parametrize(
    "changes",
    [
        {"vision": {"image_size": 20}},
        {"vision": {"hidden_act": "gelu"}},
        {"vision_feature_layer": -1},
        {"vision_feature_layer": 1},
        {"vision_feature_layer": [-3, -2]},
        {"projector_hidden_act": "gelu_pytorch_tanh"},
        {"multimodal_projector_bias": False},
        {"text": {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}}},
        {"text": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}},
        {"text": {"num_key_value_heads": 1}},
        {"text": {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 24}},
        {"text": {"attention_bias": True, "mlp_bias": True}},
        {"text": {"rms_norm_eps": 1e-2}},
        {"tie_word_embeddings": True},
        {"text": {"tie_word_embeddings": True}},
    ],
    ids=str,
)
def test_settings(make_reference: Reference, make_batch: MakeBatch, changes: dict[str, Any]) -> None:
    theirs = make_reference(**changes)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, make_batch(ours, "image_and_video"))


def test_placeholders_outside_the_vocabulary_give_the_same_logits(
    make_reference: Reference, make_batch: MakeBatch
) -> None:
    theirs = make_reference()
    inside = ours_from(theirs)
    config = {**theirs.config.to_dict(), "image_token_index": 100_001, "video_token_index": -200}
    outside = LlavaNextVideoForConditionalGeneration.from_state_dict(config, theirs.state_dict())
    inputs = make_batch(inside, "mixed_rows").inputs
    moved = inputs["input_ids"].clone()
    moved[moved == IMAGE_ID], moved[moved == VIDEO_ID] = 100_001, -200
    with torch.inference_mode():
        expected = inside(**inputs).logits
        torch.testing.assert_close(outside(**inputs | {"input_ids": moved}).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("keep", [1, 3, torch.tensor([0, 4])], ids=str)
def test_logits_to_keep(make_reference: Reference, make_batch: MakeBatch, keep: int | torch.Tensor) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = make_batch(ours, "one_video").inputs
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(**inputs, logits_to_keep=keep).logits, theirs(**inputs, logits_to_keep=keep).logits
        )


def test_loss_and_gradients(make_reference: Reference, make_batch: MakeBatch) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = make_batch(ours, "mixed_rows").inputs
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] >= IMAGE_ID, -100)
    # A row's first token would be predicted from its padding, which means nothing.
    labels = labels.masked_fill((inputs["attention_mask"] == 0) | (inputs["input_ids"] == 1), -100)
    found, expected = ours(**inputs, labels=labels), theirs(**inputs, labels=labels)
    torch.testing.assert_close(found.loss, expected.loss)
    found.loss.backward()
    expected.loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    ours_gradients = {name: parameter.grad for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert ours_gradients.keys() == gradients.keys()
    torch.testing.assert_close(ours_gradients, gradients)


def test_continuing_from_a_cache_equals_the_whole(make_reference: Reference, make_batch: MakeBatch) -> None:
    ours = ours_from(make_reference())
    inputs = make_batch(ours, "mixed_rows").inputs
    cut = inputs["input_ids"].shape[1] - 2
    first = inputs | {"input_ids": inputs["input_ids"][:, :cut], "attention_mask": inputs["attention_mask"][:, :cut]}
    with torch.inference_mode():
        whole = ours(**inputs).logits
        output = ours(**first, use_cache=True)
        rest = ours(
            inputs["input_ids"][:, cut:],
            attention_mask=inputs["attention_mask"],
            past_key_values=output.past_key_values,
        )
    torch.testing.assert_close(rest.logits, whole[:, cut:])
    assert rest.past_key_values.length == inputs["input_ids"].shape[1]


def test_each_row_of_a_batch_is_what_it_is_alone(make_reference: Reference, make_batch: MakeBatch) -> None:
    ours = ours_from(make_reference())
    batch = make_batch(ours, "mixed_rows")
    with torch.inference_mode():
        together = ours(**batch.inputs).logits
        for row, ids in enumerate(batch.rows):
            alone = make_batch(ours)
            alone.rows = [ids]
            if row in (1, 3):
                index = row // 2
                alone.tiles, alone.sizes = [batch.tiles[index]], [batch.sizes[index]]
            if row in (2, 3):
                alone.videos = [batch.videos[row - 2]]
            torch.testing.assert_close(together[row, -len(ids) :], ours(**alone.inputs).logits[0])


# --- generation ---


@pytest.mark.parametrize("decoder", ["llama", "mistral"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_ids(make_reference: Reference, make_batch: MakeBatch, decoder: str, prompt: str) -> None:
    theirs = make_reference(decoder)
    ours = ours_from(theirs)
    inputs = make_batch(ours, prompt).inputs
    expected = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert ours.generate(**inputs, max_new_tokens=8).tolist() == expected.tolist()


def test_rows_end_at_their_own_end_token(make_reference: Reference, make_batch: MakeBatch) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = make_batch(ours, "mixed_rows").inputs
    length = inputs["input_ids"].shape[1]
    end = int(ours.generate(**inputs, max_new_tokens=4)[1, length + 1])
    settings = {"max_new_tokens": 6, "eos_token_id": end, "pad_token_id": 0}
    expected = theirs.generate(**inputs, do_sample=False, **settings)
    assert ours.generate(**inputs, **settings).tolist() == expected.tolist()
    assert (expected[1, length + 2 :] == 0).all()
