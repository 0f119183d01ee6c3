"""LLaVA-NeXT-Video against transformers: same tiny random weights, same logits, losses and ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videolm.errors import PlaceholderMismatchError
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration

transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 78, 79
Reference = Callable[..., Any]


def ours_from(theirs: Any) -> LlavaNextVideoForConditionalGeneration:
    return LlavaNextVideoForConditionalGeneration.from_state_dict(theirs.config.to_dict(), theirs.state_dict())


class Batch:
    """Prompts of words and media, padded on the left; ``inputs`` is what both models take."""

    def __init__(self, model: LlavaNextVideoForConditionalGeneration, seed: int = 0) -> None:
        self.tokens = model.tokens
        self.side = model.tokens.image.tile_size
        self.generator = torch.Generator().manual_seed(seed)
        self.rows: list[list[int]] = []
        self.tiles: list[torch.Tensor] = []
        self.sizes: list[tuple[int, int]] = []
        self.videos: list[torch.Tensor] = []

    def pixels(self, count: int) -> torch.Tensor:
        return torch.randn(count, 3, self.side, self.side, generator=self.generator)

    def words(self, count: int) -> list[int]:
        return torch.randint(3, 70, (count,), generator=self.generator).tolist()

    def image(self, height: int, width: int) -> list[int]:
        layout = self.tokens.image.layout(height, width)
        self.tiles.append(self.pixels(layout.num_tiles))
        self.sizes.append((height, width))
        return [IMAGE_ID] * layout.count

    def video(self, num_frames: int = 3) -> list[int]:
        self.videos.append(self.pixels(num_frames))
        return [VIDEO_ID] * self.tokens.video.count(num_frames)

    def row(self, *parts: list[int]) -> Batch:
        self.rows.append([1, *(token for part in parts for token in part)])
        return self

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        longest = max(map(len, self.rows))
        inputs = {
            "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in self.rows]),
            "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in self.rows]),
        }
        if self.tiles:
            most = max(map(len, self.tiles))
            padded = [torch.cat([tiles, tiles.new_zeros(most - len(tiles), *tiles.shape[1:])]) for tiles in self.tiles]
            inputs |= {"pixel_values": torch.stack(padded), "image_sizes": torch.tensor(self.sizes)}
        if self.videos:
            inputs["pixel_values_videos"] = torch.stack(self.videos)
        return inputs


def text_only(batch: Batch) -> Batch:
    return batch.row(batch.words(9))


def one_video(batch: Batch) -> Batch:
    return batch.row(batch.words(2), batch.video(), batch.words(5))


def image_and_video(batch: Batch) -> Batch:
    return batch.row(batch.words(2), batch.image(40, 23), batch.words(3), batch.video(), batch.words(4))


def video_then_images(batch: Batch) -> Batch:
    return batch.row(batch.video(2), batch.image(16, 16), batch.image(7, 90), batch.words(4))


def mixed_rows(batch: Batch) -> Batch:
    batch.row(batch.words(4))
    batch.row(batch.words(2), batch.image(31, 57), batch.words(6))
    batch.row(batch.video(2), batch.words(3))
    batch.row(batch.words(1), batch.video(2), batch.words(3), batch.image(90, 20), batch.words(2))
    return batch.row(batch.words(11))


PROMPTS = [text_only, one_video, image_and_video, video_then_images, mixed_rows]


def assert_same_logits(ours: Any, theirs: Any, batch: Batch) -> None:
    inputs = batch.inputs
    with torch.inference_mode():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits
    # What stands at padding means nothing, and differs: their positions count padding, ours do not.
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept])


# --- logits ---


@pytest.mark.parametrize("decoder", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits(make_reference: Reference, decoder: str, prompt: Callable[[Batch], Batch]) -> None:
    theirs = make_reference(decoder)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, prompt(Batch(ours)))


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
def test_picture_sizes(make_reference: Reference, height: int, width: int) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    batch = Batch(ours)
    assert_same_logits(ours, theirs, batch.row(batch.words(2), batch.image(height, width), batch.words(3)))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["average", "max", "conv"])
def test_pooling(make_reference: Reference, mode: str, stride: int) -> None:
    theirs = make_reference(spatial_pool_mode=mode, spatial_pool_stride=stride)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, one_video(Batch(ours)))


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
def test_settings(make_reference: Reference, changes: dict[str, Any]) -> None:
    theirs = make_reference(**changes)
    ours = ours_from(theirs)
    assert_same_logits(ours, theirs, image_and_video(Batch(ours)))


def test_placeholders_outside_the_vocabulary_give_the_same_logits(make_reference: Reference) -> None:
    theirs = make_reference()
    inside = ours_from(theirs)
    config = {**theirs.config.to_dict(), "image_token_index": 100_001, "video_token_index": -200}
    outside = LlavaNextVideoForConditionalGeneration.from_state_dict(config, theirs.state_dict())
    inputs = mixed_rows(Batch(inside)).inputs
    moved = inputs["input_ids"].clone()
    moved[moved == IMAGE_ID], moved[moved == VIDEO_ID] = 100_001, -200
    with torch.inference_mode():
        expected = inside(**inputs).logits
        torch.testing.assert_close(outside(**inputs | {"input_ids": moved}).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("keep", [1, 3, torch.tensor([0, 4])], ids=str)
def test_logits_to_keep(make_reference: Reference, keep: int | torch.Tensor) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = one_video(Batch(ours)).inputs
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(**inputs, logits_to_keep=keep).logits, theirs(**inputs, logits_to_keep=keep).logits
        )


def test_loss_and_gradients(make_reference: Reference) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = mixed_rows(Batch(ours)).inputs
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


def test_continuing_from_a_cache_equals_the_whole(make_reference: Reference) -> None:
    ours = ours_from(make_reference())
    inputs = mixed_rows(Batch(ours)).inputs
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


def test_each_row_of_a_batch_is_what_it_is_alone(make_reference: Reference) -> None:
    ours = ours_from(make_reference())
    batch = mixed_rows(Batch(ours))
    with torch.inference_mode():
        together = ours(**batch.inputs).logits
        for row, ids in enumerate(batch.rows):
            alone = Batch(ours)
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
def test_greedy_ids(make_reference: Reference, decoder: str, prompt: Callable[[Batch], Batch]) -> None:
    theirs = make_reference(decoder)
    ours = ours_from(theirs)
    inputs = prompt(Batch(ours)).inputs
    expected = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert ours.generate(**inputs, max_new_tokens=8).tolist() == expected.tolist()


def test_rows_end_at_their_own_end_token(make_reference: Reference) -> None:
    theirs = make_reference()
    ours = ours_from(theirs)
    inputs = mixed_rows(Batch(ours)).inputs
    length = inputs["input_ids"].shape[1]
    end = int(ours.generate(**inputs, max_new_tokens=4)[1, length + 1])
    settings = {"max_new_tokens": 6, "eos_token_id": end, "pad_token_id": 0}
    expected = theirs.generate(**inputs, do_sample=False, **settings)
    assert ours.generate(**inputs, **settings).tolist() == expected.tolist()
    assert (expected[1, length + 2 :] == 0).all()


# --- files ---


def in_layout(layout: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The reference's names in memory, renamed by hand; tables that old files also hold come with them."""
    renames = {
        "original": [
            ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
            ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("model.language_model.", "model."),
        ],
        "before 4.52": [
            ("model.vision_tower.", "vision_tower.vision_model."),
            ("model.multi_modal_projector.", "multi_modal_projector."),
            ("model.vision_resampler.", "vision_resampler."),
            ("model.image_newline", "image_newline"),
            ("model.language_model.", "language_model.model."),
            ("lm_head.", "language_model.lm_head."),
        ],
        "from 4.52": [("model.vision_tower.", "model.vision_tower.vision_model.")],
        "in memory": [],
    }[layout]
    named = {}
    for key, tensor in state.items():
        old, new = next((pair for pair in renames if key.startswith(pair[0])), ("", ""))
        named[new + key[len(old) :]] = tensor.clone()
    tower = next(key for key in named if key.endswith("embeddings.class_embedding")).removesuffix("class_embedding")
    decoder = next(key for key in named if key.endswith("layers.0.self_attn.o_proj.weight"))
    named[f"{tower}position_ids"] = torch.arange(17)[None]
    named[decoder.replace("o_proj.weight", "rotary_emb.inv_freq")] = torch.ones(4)
    return named


def write_checkpoint(folder: Path, theirs: Any, layout: str) -> None:
    theirs.save_pretrained(folder)
    if layout != "saved afresh":
        save_file(in_layout(layout, theirs.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


LAYOUTS = ["original", "before 4.52", "from 4.52", "in memory", "saved afresh"]


@pytest.mark.parametrize("mode", ["average", "conv"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads(make_reference: Reference, tmp_path: Path, layout: str, mode: str) -> None:
    theirs = make_reference(spatial_pool_mode=mode)
    write_checkpoint(tmp_path, theirs, layout)
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    assert_same_logits(ours, theirs, image_and_video(Batch(ours)))


def test_the_layouts_are_different_files(make_reference: Reference, tmp_path: Path) -> None:
    theirs = make_reference()
    names = []
    for layout in LAYOUTS:
        write_checkpoint(tmp_path, theirs, layout)
        names.append(frozenset(load_file(tmp_path / "model.safetensors")))
    assert len(set(names)) == len(LAYOUTS)


@pytest.mark.parametrize("mode", ["average", "conv"])
@pytest.mark.parametrize("layout", ["hf", "hf5", "memory"])
def test_transformers_reads_what_we_save(make_reference: Reference, tmp_path: Path, layout: str, mode: str) -> None:
    ours = ours_from(make_reference(spatial_pool_mode=mode))
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    theirs, report = transformers.LlavaNextVideoForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert {name: found for name, found in report.items() if found} == {}
    assert_same_logits(ours, theirs.eval(), image_and_video(Batch(ours)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text": {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 5e5}}},
        {"text": {"tie_word_embeddings": True}},
    ],
    ids=str,
)
def test_what_transformers_reads_has_the_same_settings(
    make_reference: Reference, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = make_reference("mistral", **changes)
    ours = ours_from(first)
    ours.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    theirs = transformers.LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    rope = first.config.text_config.rope_parameters
    assert {name: theirs.config.text_config.rope_parameters[name] for name in rope} == rope
    assert_same_logits(ours, theirs, mixed_rows(Batch(ours)))
    again = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert again.config.settings() == ours.config.settings()


@pytest.mark.parametrize("layout", ["hf", "hf5", "memory", "original"])
def test_a_round_trip_is_bit_identical(make_reference: Reference, tmp_path: Path, layout: str) -> None:
    ours = ours_from(make_reference())
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    again = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(dict(again.state_dict()), dict(ours.state_dict()), rtol=0, atol=0)


def test_old_spellings_of_the_configuration(make_reference: Reference, tmp_path: Path) -> None:
    theirs = make_reference(text={"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}})
    write_checkpoint(tmp_path, theirs, "before 4.52")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["text_config"]["rope_parameters"]
    config["text_config"] |= {
        "rope_scaling": {"type": "linear", "factor": 2.5},
        "rope_theta": 10000.0,
        "type": "linear",
    }
    config |= {"torch_dtype": "float32", "ignore_index": -100, "use_image_newline_parameter": True}
    del config["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path)
    assert_same_logits(ours, theirs, one_video(Batch(ours)))


def test_bin_files_load(make_reference: Reference, tmp_path: Path) -> None:
    theirs = make_reference()
    theirs.config.save_pretrained(tmp_path)
    torch.save(in_layout("before 4.52", theirs.state_dict()), tmp_path / "pytorch_model.bin")
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path)
    assert_same_logits(ours, theirs, one_video(Batch(ours)))


# --- what is refused ---


def test_counts_are_checked_per_kind_before_anything_is_placed(make_reference: Reference) -> None:
    ours = ours_from(make_reference())
    inputs = one_video(Batch(ours)).inputs
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"][:, :2]
    with pytest.raises(
        PlaceholderMismatchError, match=r"hold 12 video placeholders \(id 79\), but the 1 videos .* fill 8"
    ):
        ours(**inputs)


def test_placeholders_of_one_medium_stand_together(make_reference: Reference) -> None:
    ours = ours_from(make_reference())
    inputs = one_video(Batch(ours)).inputs
    ids = inputs["input_ids"]
    ids[0, 5], ids[0, -1] = ids[0, -1].clone(), ids[0, 5].clone()
    with pytest.raises(PlaceholderMismatchError, match="The 12 placeholders of video 0 do not stand side by side"):
        ours(**inputs)
