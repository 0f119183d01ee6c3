"""Random parameters: norms and biases neutral, everything else drawn with the deviation of its part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.families.auto import new_model
from videolm.families.initialise import without_values
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration


@pytest.fixture
def model(tiny_config: dict[str, Any]) -> Any:
    tiny_config["vision_config"] |= {"hidden_size": 128, "intermediate_size": 256}
    tiny_config["text_config"] |= {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.05}
    return new_model(tiny_config)


def test_norms_and_biases_are_neutral(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name or "pre_layrnorm" in name:
            assert (parameter == 1).all(), name


def test_deviations(model: Any) -> None:
    tower = "model.vision_tower."
    expected = {
        "model.language_model.embed_tokens.weight": 0.05,
        "model.language_model.layers.1.mlp.down_proj.weight": 0.05,
        "lm_head.weight": 0.05,
        "model.multi_modal_projector.linear_1.weight": 0.05,
        "model.image_newline": 128**-0.5,
        tower + "embeddings.class_embedding": 128**-0.5,
        tower + "embeddings.patch_embedding.weight": 0.02,
        tower + "embeddings.position_embedding.weight": 0.02,
        tower + "encoder.layers.0.self_attn.q_proj.weight": (128 * 2 * 3) ** -0.5,
        tower + "encoder.layers.0.self_attn.out_proj.weight": 128**-0.5,
        tower + "encoder.layers.2.mlp.fc1.weight": (2 * 128) ** -0.5,
        tower + "encoder.layers.2.mlp.fc2.weight": (128 * 2 * 3) ** -0.5,
    }
    found = {name: float(model.get_parameter(name).detach().std()) for name in expected}
    assert found == {name: pytest.approx(std, rel=0.2) for name, std in expected.items()}


def test_a_tied_head_is_drawn_once(tiny_config: dict[str, Any]) -> None:
    model = new_model({**tiny_config, "tie_word_embeddings": True}, dtype=torch.bfloat16)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_a_model_without_values(tiny_config: dict[str, Any]) -> None:
    with without_values():
        model = LlavaNextVideoForConditionalGeneration(tiny_config)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    assert torch.zeros(3).normal_().abs().sum() > 0, "drawing works again"


def test_loading_does_not_import_the_compiler(tiny_folder: Path) -> None:
    script = (
        "import sys; from videolm.families.auto import load_model; "
        f"load_model({str(tiny_folder)!r}); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
