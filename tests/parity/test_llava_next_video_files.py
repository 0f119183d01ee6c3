"""LLaVA-NeXT-Video's files against transformers: every layout loads, and what is saved, transformers reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration

from .comparing import assert_same_logits, ours_from

transformers = pytest.importorskip("transformers")

Reference = Callable[..., Any]
MakeBatch = Callable[..., Any]


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
def test_every_layout_loads(
    make_reference: Reference, make_batch: MakeBatch, tmp_path: Path, layout: str, mode: str
) -> None:
    theirs = make_reference(spatial_pool_mode=mode)
    write_checkpoint(tmp_path, theirs, layout)
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    assert_same_logits(ours, theirs, make_batch(ours, "image_and_video"))


def test_the_layouts_are_different_files(make_reference: Reference, tmp_path: Path) -> None:
    theirs = make_reference()
    names = []
    for layout in LAYOUTS:
        write_checkpoint(tmp_path, theirs, layout)
        names.append(frozenset(load_file(tmp_path / "model.safetensors")))
    assert len(set(names)) == len(LAYOUTS)


@pytest.mark.parametrize("mode", ["average", "conv"])
@pytest.mark.parametrize("layout", ["hf", "hf5", "memory"])
def test_transformers_reads_what_we_save(
    make_reference: Reference, make_batch: MakeBatch, tmp_path: Path, layout: str, mode: str
) -> None:
    ours = ours_from(make_reference(spatial_pool_mode=mode))
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    theirs, report = transformers.LlavaNextVideoForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert {name: found for name, found in report.items() if found} == {}
    assert_same_logits(ours, theirs.eval(), make_batch(ours, "image_and_video"))


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
    make_reference: Reference, make_batch: MakeBatch, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = make_reference("mistral", **changes)
    ours = ours_from(first)
    ours.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    theirs = transformers.LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    rope = first.config.text_config.rope_parameters
    assert {name: theirs.config.text_config.rope_parameters[name] for name in rope} == rope
    assert_same_logits(ours, theirs, make_batch(ours, "mixed_rows"))
    again = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert again.config.settings() == ours.config.settings()


@pytest.mark.parametrize("layout", ["hf", "hf5", "memory", "original"])
def test_a_round_trip_is_bit_identical(make_reference: Reference, tmp_path: Path, layout: str) -> None:
    ours = ours_from(make_reference())
    ours.save_pretrained(tmp_path / "saved", layout=layout)
    again = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(dict(again.state_dict()), dict(ours.state_dict()), rtol=0, atol=0)


def test_old_spellings_of_the_configuration(make_reference: Reference, make_batch: MakeBatch, tmp_path: Path) -> None:
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
    assert_same_logits(ours, theirs, make_batch(ours, "one_video"))


def test_bin_files_load(make_reference: Reference, make_batch: MakeBatch, tmp_path: Path) -> None:
    theirs = make_reference()
    theirs.config.save_pretrained(tmp_path)
    torch.save(in_layout("before 4.52", theirs.state_dict()), tmp_path / "pytorch_model.bin")
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path)
    assert_same_logits(ours, theirs, make_batch(ours, "one_video"))
