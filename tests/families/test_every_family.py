"""What holds for every family alike: rows alone and together, caches, single placeholders, checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from videolm.families.auto import MODEL_CLASSES, new_model

IMAGE, VIDEO = 297, 296
SIDE = 28
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module", params=MODEL_CLASSES, ids=lambda each: each.family.model_type)
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny model of each family, with weights large enough for its answers to depend on its prompts."""
    family = request.param.family
    defaults = family.config_class()
    vision = {"model_type": defaults.vision_config.model_type, "image_size": SIDE, "patch_size": 7}
    text = {"model_type": defaults.text_config.model_type, "vocab_size": 300, "num_key_value_heads": 2}
    config = {
        "model_type": family.model_type,
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "vision_config": SIZE | vision,
        "text_config": SIZE | text | {"eos_token_id": 2},
    }
    if hasattr(defaults, "image_grid_pinpoints"):
        config["image_grid_pinpoints"] = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    made = new_model(config, seed=4).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


class Row:
    """A prompt by itself: its ids, its pictures and its videos."""

    def __init__(self, model: Any, *parts: Any, seed: int = 0) -> None:
        self.single: list[int] = []
        self.ids: list[int] = []
        self.media: dict[str, list[Any]] = {"pixel_values": [], "image_sizes": [], "pixel_values_videos": []}
        generator = torch.Generator().manual_seed(seed)
        for part in parts:
            if isinstance(part, int):
                self._add(part, 1)
            elif len(part) == 1:
                self.media["pixel_values_videos"].append(torch.randn(part[0], 3, SIDE, SIDE, generator=generator))
                self._add(VIDEO, model.tokens.video.count(part[0]))
            else:
                layout = model.tokens.image.layout(*part)
                tiles = torch.randn(layout.num_tiles, 3, SIDE, SIDE, generator=generator)
                self.media["pixel_values"].append(tiles if model.tokens.image.pinpoints else tiles[0])
                self.media["image_sizes"].append(part)
                self._add(IMAGE, layout.count)

    def _add(self, token: int, count: int) -> None:
        self.single.append(token)
        self.ids += [token] * count


def rows_of(model: Any) -> list[Row]:
    """Words, a picture, a video, both in either order, words again."""
    return [
        Row(model, 1, 5, 6),
        Row(model, 1, (20, 50), 7, 8, seed=1),
        Row(model, 1, 9, (2,), 4, seed=2),
        Row(model, 1, (2,), 5, (40, 30), 6, seed=3),
        Row(model, 1, (28, 28), 5, (2,), 6, 7, seed=4),
        Row(model, 1, *range(20, 40)),
    ]


def inputs_of(model: Any, rows: list[Row], *, single: bool = False) -> dict[str, Any]:
    ids = [row.single if single else row.ids for row in rows]
    longest = max(map(len, ids))
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids]),
    }
    for name in ("pixel_values", "image_sizes", "pixel_values_videos"):
        values = [value for row in rows for value in row.media[name]]
        if values and (name != "image_sizes" or model.tokens.image.pinpoints):
            inputs[name] = values
    return inputs


def test_each_row_of_a_batch_is_what_it_is_alone(model: Any) -> None:
    rows = rows_of(model)
    inputs = inputs_of(model, rows)
    with torch.inference_mode():
        together = model(**inputs).logits
    ids = model.generate(**inputs, max_new_tokens=5, eos_token_id=None)
    for index, row in enumerate(rows):
        alone = inputs_of(model, [row])
        with torch.inference_mode():
            torch.testing.assert_close(together[index, -len(row.ids) :], model(**alone).logits[0])
        expected = model.generate(**alone, max_new_tokens=5, eos_token_id=None)[0, -5:]
        assert ids[index, -5:].tolist() == expected.tolist()


@torch.inference_mode()
def test_going_on_from_a_cache_equals_the_whole(model: Any) -> None:
    rows = rows_of(model)
    inputs = inputs_of(model, rows)
    whole = model(**inputs).logits
    cut = inputs["input_ids"].shape[1] - 1
    start = inputs | {name: inputs[name][:, :cut] for name in ("input_ids", "attention_mask")}
    first = model(**start, use_cache=True)
    rest = model(
        inputs["input_ids"][:, cut:], attention_mask=inputs["attention_mask"], past_key_values=first.past_key_values
    )
    torch.testing.assert_close(rest.logits, whole[:, cut:])


@torch.inference_mode()
def test_media_that_come_after_a_cache(model: Any) -> None:
    before, after = Row(model, 1, 5, (2,), 6, seed=1), Row(model, 8, (30, 40), 9, (2,), 4, seed=2)
    together = inputs_of(model, [before])
    together["input_ids"] = torch.tensor([before.ids + after.ids])
    together["attention_mask"] = torch.ones_like(together["input_ids"])
    second = inputs_of(model, [after])
    for name in ("pixel_values", "image_sizes", "pixel_values_videos"):
        if name in second:
            together[name] = together.get(name, []) + second[name]
    cache = model(**inputs_of(model, [before]), use_cache=True).past_key_values
    del second["attention_mask"]
    found = model(**second, past_key_values=cache).logits
    torch.testing.assert_close(found, model(**together).logits[:, len(before.ids) :])
    assert [pair[0].shape[2] for pair in cache] == [len(before.ids) + len(after.ids)] * 2


@torch.inference_mode()
def test_one_placeholder_for_each_medium_is_written_out(model: Any) -> None:
    rows = rows_of(model)
    whole, single = inputs_of(model, rows), inputs_of(model, rows, single=True)
    labels = [inputs["input_ids"].masked_fill(inputs["input_ids"] >= VIDEO, -100) for inputs in (whole, single)]
    masks = (whole["attention_mask"], single["attention_mask"])
    labels = [each.masked_fill(mask == 0, -100) for each, mask in zip(labels, masks, strict=True)]
    expected, found = model(**whole, labels=labels[0]), model(**single, labels=labels[1])
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(found.loss, expected.loss)


def test_checkpointing_gives_the_same_gradients(model: Any) -> None:
    inputs = inputs_of(model, rows_of(model)[2:4])
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] >= VIDEO, -100)
    gradients = []
    for turn in (model.gradient_checkpointing_disable, model.gradient_checkpointing_enable):
        turn()
        model.zero_grad()
        model.train()(**inputs, labels=labels).loss.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.grad is not None})
    model.gradient_checkpointing_disable()
    model.eval()
    torch.testing.assert_close(*gradients)
    assert any(".image_tower." in name or ".vision_tower." in name for name in gradients[0])


def test_a_tuple_in_the_place_of_an_object(model: Any) -> None:
    inputs = inputs_of(model, rows_of(model)[3:4])
    with torch.inference_mode():
        output, plain = (
            model(**inputs, output_hidden_states=True),
            model(**inputs, output_hidden_states=True, return_dict=False),
        )
    assert output.keys() == ("logits", "past_key_values", "hidden_states", "image_hidden_states", "video_hidden_states")
    assert torch.equal(plain[0], output["logits"])
    assert output[2] is output.hidden_states
    assert torch.equal(plain[-1], output.video_hidden_states)
    assert len(plain) == 5
