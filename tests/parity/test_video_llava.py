"""Video-LLaVA against transformers: same tiny random weights, same logits and ids, in every layout of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from videolm.families.auto import load_model
from videolm.families.video_llava import VideoLlavaForConditionalGeneration

from .comparing import assert_same_in_everything

transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 70, 71
SIDE, PATCH = 16, 4
PATCHES = (SIDE // PATCH) ** 2
NUM_FRAMES = 8
PROMPTS = ["words", "picture", "clip", "both", "rows"]


def make_reference(*, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A model of the reference's class; keywords replace keys of its configuration."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    decoder = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    decoder |= {"num_key_value_heads": 2, "vocab_size": 80, "max_position_embeddings": 512, "pad_token_id": 0}
    pixels = {"model_type": "clip_vision_model", "image_size": SIDE, "patch_size": PATCH}
    config = transformers.VideoLlavaConfig(
        vision_config=tower | pixels | (vision or {}),
        text_config={"model_type": "llama"} | decoder | (text or {}),
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        **changes,
    )
    torch.manual_seed(0)
    model = transformers.VideoLlavaForConditionalGeneration(config).eval()
    # The reference starts with zero biases and tiny weights; larger ones make differences visible.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def ours_from(theirs: Any) -> VideoLlavaForConditionalGeneration:
    return VideoLlavaForConditionalGeneration.from_state_dict(theirs.config.to_dict(), theirs.state_dict())


def make_inputs(name: str, *, picture_tokens: int = PATCHES) -> dict[str, torch.Tensor]:
    """Prompts of words and media, padded on the left."""
    generator = torch.Generator().manual_seed(3)

    def words(count: int) -> list[int]:
        return torch.randint(3, 60, (count,), generator=generator).tolist()

    picture, clip = [IMAGE_ID] * picture_tokens, [VIDEO_ID] * (NUM_FRAMES * (PATCHES + 1))
    rows, num_pictures, num_clips = {
        "words": ([words(6)], 0, 0),
        "picture": ([words(2) + picture + words(4)], 1, 0),
        "clip": ([words(2) + clip + words(4)], 0, 1),
        "both": ([words(2) + clip + words(2) + picture + words(4)], 1, 1),
        "rows": ([words(3) + picture + words(2), words(9), words(1) + clip + words(3), picture + words(5)], 2, 1),
    }[name]
    longest = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + [1, *row[1:]] for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
    }
    if name == "rows":
        inputs["input_ids"] = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    if num_pictures:
        inputs["pixel_values"] = torch.randn(num_pictures, 3, SIDE, SIDE, generator=generator)
    if num_clips:
        inputs["pixel_values_videos"] = torch.randn(num_clips, NUM_FRAMES, 3, SIDE, SIDE, generator=generator)
    return inputs


def assert_same_logits(ours: Any, theirs: Any, inputs: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits
    # What stands at padding means nothing, and differs: their positions count padding, ours do not.
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits(prompt: str) -> None:
    theirs = make_reference()
    assert_same_logits(ours_from(theirs), theirs, make_inputs(prompt))


@pytest.mark.parametrize(
    "changes",
    [
        {"vision": {"hidden_act": "gelu"}},
        {"vision_feature_layer": -1},
        {"vision_feature_layer": [-3, -2]},
        {"vision_feature_select_strategy": "full"},
        {"projector_hidden_act": "gelu_pytorch_tanh"},
        {"multimodal_projector_bias": False},
        {"text": {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}}},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_settings(changes: dict[str, Any]) -> None:
    theirs = make_reference(**changes)
    keeps_class_token = changes.get("vision_feature_select_strategy") == "full"
    inputs = make_inputs("both", picture_tokens=PATCHES + int(keeps_class_token))
    assert_same_logits(ours_from(theirs), theirs, inputs)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_ids(prompt: str) -> None:
    theirs = make_reference()
    inputs = make_inputs(prompt)
    expected = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert ours_from(theirs).generate(**inputs, max_new_tokens=8).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision_feature_select_strategy": "full"},
        {"vision_feature_layer": [-3, -2], "text": {"model_type": "mistral", "sliding_window": None}},
        {"vision": {"hidden_act": "gelu"}, "text": {"num_key_value_heads": 1}},
    ],
    ids=str,
)
def test_everything_agrees(changes: dict[str, Any]) -> None:
    theirs = make_reference(**changes)
    keeps_class_token = changes.get("vision_feature_select_strategy") == "full"
    inputs = make_inputs("rows", picture_tokens=PATCHES + int(keeps_class_token))
    assert_same_in_everything(ours_from(theirs), theirs, inputs)


def test_outputs_have_their_documented_names() -> None:
    theirs = make_reference()
    ours, inputs = ours_from(theirs), make_inputs("both")
    found, expected = ours(**inputs), theirs(**inputs)
    assert type(found).__name__ == type(expected).__name__ == "VideoLlavaCausalLMOutputWithPast"
    for name in ("image_hidden_states", "video_hidden_states"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert type(ours.model(**inputs)).__name__ == "VideoLlavaModelOutputWithPast"


@torch.inference_mode()
def test_another_choice_of_features_for_one_call() -> None:
    theirs = make_reference()
    ours, inputs = ours_from(theirs), make_inputs("both", picture_tokens=PATCHES + 1)
    choice = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    torch.testing.assert_close(ours(**inputs, **choice).logits, theirs(**inputs, **choice).logits)
    pictures = theirs.get_image_features(inputs["pixel_values"], **choice, return_dict=True).pooler_output
    torch.testing.assert_close(ours.get_image_features(inputs["pixel_values"], **choice), pictures)
    frames = theirs.model.get_video_features(inputs["pixel_values_videos"], return_dict=True).pooler_output
    clips, num_frames = ours.get_video_features(inputs["pixel_values_videos"])
    torch.testing.assert_close(clips, frames)
    assert num_frames == NUM_FRAMES


def test_the_old_name_of_pictures() -> None:
    ours = ours_from(make_reference())
    inputs = make_inputs("both")
    with torch.inference_mode():
        expected = ours(**inputs).logits
        renamed = {("pixel_values_images" if key == "pixel_values" else key): value for key, value in inputs.items()}
        torch.testing.assert_close(ours(**renamed).logits, expected, rtol=0, atol=0)


# --- files ---

RENAMES: dict[str, list[tuple[str, str]]] = {
    "original": [
        ("model.image_tower.", "model.image_tower.image_tower."),
        ("model.video_tower.", "model.video_tower.video_tower."),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.language_model.", "model."),
    ],
    "before 4.52": [
        ("model.image_tower.", "image_tower.vision_model."),
        ("model.video_tower.", "video_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    ],
    "from 4.52": [
        ("model.image_tower.", "model.image_tower.vision_model."),
        ("model.video_tower.", "model.video_tower.vision_model."),
    ],
    "in memory": [],
}


def write_checkpoint(folder: Path, theirs: Any, layout: str) -> None:
    """The reference's names in memory, renamed by hand; tables that old files also hold come with them."""
    theirs.save_pretrained(folder)
    if layout == "saved afresh":
        return
    named = {}
    for key, tensor in theirs.state_dict().items():
        old, new = next((pair for pair in RENAMES[layout] if key.startswith(pair[0])), ("", ""))
        named[new + key[len(old) :]] = tensor.clone()
    for key in [key for key in named if key.endswith("embeddings.class_embedding")]:
        named[key.replace("class_embedding", "position_ids")] = torch.arange(PATCHES + 1)[None]
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("layout", [*RENAMES, "saved afresh"])
def test_every_layout_loads(tmp_path: Path, layout: str) -> None:
    theirs = make_reference()
    write_checkpoint(tmp_path, theirs, layout)
    ours = load_model(tmp_path)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    assert_same_logits(ours, theirs, make_inputs("both"))


@pytest.mark.parametrize("layout", ["hf", "hf5", "memory"])
def test_transformers_reads_what_we_save(tmp_path: Path, layout: str) -> None:
    ours = ours_from(make_reference())
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    theirs, report = transformers.VideoLlavaForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert {name: found for name, found in report.items() if found} == {}
    assert_same_logits(ours, theirs.eval(), make_inputs("both"))


@pytest.mark.parametrize("layout", ["hf", "hf5", "memory", "original"])
def test_a_round_trip_is_bit_identical(tmp_path: Path, layout: str) -> None:
    ours = ours_from(make_reference())
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    again = VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(dict(again.state_dict()), dict(ours.state_dict()), rtol=0, atol=0)


def test_the_hub_s_spelling_of_the_configuration(tmp_path: Path) -> None:
    theirs = make_reference()
    write_checkpoint(tmp_path, theirs, "before 4.52")
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("image_seq_length", "video_seq_length", "dtype"):
        del config[name]
    del config["vision_config"]["hidden_act"]
    config |= {"ignore_index": -100, "torch_dtype": "float32", "vocab_size": 80}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(load_model(tmp_path), theirs, make_inputs("both"))
