"""Video-LLaVA against results of the original video tower: tiny checkpoints in the original layout, loaded as is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from videolm.errors import CheckpointError, ProcessingError
from videolm.families.auto import load_model
from videolm.families.video_llava import VideoLlavaForConditionalGeneration

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "golden" / "video_llava_original"
CASES = ["vlo_video", "vlo_image"]
MEDIUM = -200
# The original ran in another release of torch: sums are added up in another order.
TOLERANCE = 2e-4


def inputs_of(case: Any, model: Any) -> dict[str, torch.Tensor]:
    """The case's prompt, its medium's mark written out to the placeholders of this model."""
    kind = case["kind"].item()
    placeholder = getattr(model.config, f"{kind}_token_index")
    ids: list[int] = []
    for token in case["ids"][0].tolist():
        ids += [placeholder] * int(case["n_visual"]) if token == MEDIUM else [token]
    name = "pixel_values_videos" if kind == "video" else "pixel_values"
    return {"input_ids": torch.tensor([ids]), name: torch.from_numpy(case["pixels"])}


def difference(model: Any, case: Any) -> float:
    """The largest difference to the original's logits, as a share of the largest logit."""
    with torch.inference_mode():
        logits = model(**inputs_of(case, model)).logits
    expected = torch.from_numpy(case["logits"])
    assert logits.shape == expected.shape
    return float((logits - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_original_checkpoints_give_the_original_logits_and_ids(name: str) -> None:
    case = np.load(GOLDEN / name / "case.npz")
    model = load_model(GOLDEN / name)
    assert isinstance(model, VideoLlavaForConditionalGeneration)
    assert difference(model, case) <= TOLERANCE
    inputs = inputs_of(case, model)
    wanted = case["generated"].tolist()
    output = model.generate(**inputs, max_new_tokens=len(wanted))
    assert output[0, inputs["input_ids"].shape[1] :].tolist() == wanted


def in_another_form(folder: Path, layout: str, **vision: Any) -> Path:
    """The video case with a config.json of the port's kind; None takes a key of its vision_config away."""
    shutil.copytree(GOLDEN / "vlo_video", folder)
    model = load_model(folder)
    model.save_pretrained(folder.with_name("saved"), layout=layout)
    config = json.loads((folder.with_name("saved") / "config.json").read_text())
    for key, value in vision.items():
        config["vision_config"].pop(key)
        if value is not None:
            config["vision_config"][key] = value
    (folder.with_name("saved") / "config.json").write_text(json.dumps(config))
    return folder.with_name("saved")


@pytest.mark.parametrize("layout", ["original", "memory"])
def test_weights_decide_where_the_configuration_is_silent(tmp_path: Path, layout: str) -> None:
    folder = in_another_form(tmp_path / "copy", layout, add_time_attn=None, num_frames=None, hidden_act=None)
    model = load_model(folder)
    assert (model.config.temporal_frames, model.config.vision_config.hidden_act) == (8, "gelu")
    assert difference(model, np.load(GOLDEN / "vlo_video" / "case.npz")) <= TOLERANCE


def test_the_port_can_be_asked_for(tmp_path: Path) -> None:
    folder = in_another_form(tmp_path / "copy", "original", add_time_attn=False)
    model = load_model(folder)
    assert model.config.temporal_frames is None
    assert not any("temporal" in name for name in model.state_dict())
    assert difference(model, np.load(GOLDEN / "vlo_video" / "case.npz")) > TOLERANCE


def test_weights_without_attention_over_time_are_those_of_the_port(tmp_path: Path) -> None:
    folder = in_another_form(tmp_path / "copy", "original", add_time_attn=None)
    state = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in state.items() if ".temporal_" not in key}, folder / "model.safetensors")
    assert load_model(folder).config.temporal_frames is None


def test_clips_of_other_lengths() -> None:
    model = load_model(GOLDEN / "vlo_video")
    pixels = torch.randn(1, 16, 3, 56, 56)
    with torch.inference_mode():
        whole, _ = model.get_video_features(pixels)
        halves = [model.get_video_features(half)[0] for half in pixels.split(8, dim=1)]
    torch.testing.assert_close(whole, torch.cat(halves))
    with pytest.raises(ProcessingError, match=r"a video of 12 frames, .* in groups of 8: expected a multiple of 8"):
        model.get_video_features(pixels[:, :12])


def test_layouts_that_others_read_refuse_attention_over_time(tmp_path: Path) -> None:
    model = load_model(GOLDEN / "vlo_video")
    with pytest.raises(CheckpointError, match=r"layout hf cannot hold 44 tensors .* Save as original or memory"):
        model.save_pretrained(tmp_path / "hf", layout="hf")
    model.save_pretrained(tmp_path / "saved")
    assert "model.mm_projector.0.weight" in load_file(tmp_path / "saved" / "model.safetensors")
    assert load_model(tmp_path / "saved").config.temporal_frames == 8
