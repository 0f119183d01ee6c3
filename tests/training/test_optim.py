"""Parts, groups, schedule, average."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from videolm.families import auto
from videolm.training.config import OptimizerConfig, PartConfig, PartsConfig
from videolm.training.optim import (
    WeightAverage,
    block_matrices,
    build_optimizers,
    freeze_parts,
    part_of,
    schedule_factor,
    warmup_steps,
)

ALL = PartsConfig(
    vision=PartConfig(train=True, lr=0.1),
    projector=PartConfig(train=True, lr=0.2),
    decoder=PartConfig(train=True, lr=0.3),
)


@pytest.fixture
def model(model_folder: Path) -> Any:
    return auto.new_model(json.loads((model_folder / "config.json").read_text()), seed=0)


def test_every_parameter_belongs_to_a_part(model: nn.Module) -> None:
    found = {name: part_of(name) for name, _ in model.named_parameters()}
    assert found["model.vision_tower.embeddings.patch_embedding.weight"] == "vision"
    assert found["model.multi_modal_projector.linear_1.weight"] == "projector"
    assert found["model.image_newline"] == "projector"
    assert found["model.language_model.embed_tokens.weight"] == "decoder"
    assert part_of("lm_head.weight") == "decoder"


def test_the_cosine_after_a_warmup() -> None:
    factors = [schedule_factor(step, num_steps=8, warmup=2, min_ratio=0.1) for step in range(8)]
    expected = [0.5, 1.0, 1.0, 0.9397, 0.775, 0.55, 0.325, 0.1603]
    torch.testing.assert_close(factors, expected, rtol=0, atol=5e-5)


def test_a_ratio_of_one_keeps_the_learning_rate() -> None:
    assert [schedule_factor(step, num_steps=4, warmup=0, min_ratio=1) for step in range(4)] == [1, 1, 1, 1]


def test_warmup_in_steps_or_as_a_share() -> None:
    assert warmup_steps(OptimizerConfig(warmup_steps=7), 100) == 7
    assert warmup_steps(OptimizerConfig(warmup_ratio=0.03), 101) == 4
    assert warmup_steps(OptimizerConfig(), 100) == 0


def test_groups_by_part_and_decay(model: nn.Module) -> None:
    freeze_parts(model, ALL)
    optimizers = build_optimizers(model, OptimizerConfig(weight_decay=0.5), ALL)
    (adamw,) = optimizers.members
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        (group["part"], group["weight_decay"]): {names[parameter] for parameter in group["params"]}
        for group in adamw.param_groups
    }

    assert sum(map(len, found.values())) == len(names)
    assert found["projector", 0.5] == {
        "model.multi_modal_projector.linear_1.weight",
        "model.multi_modal_projector.linear_2.weight",
    }
    assert "model.language_model.embed_tokens.weight" in found["decoder", 0.0]
    assert "model.vision_tower.embeddings.position_embedding.weight" in found["vision", 0.0]
    assert "model.vision_tower.embeddings.patch_embedding.weight" in found["vision", 0.5]
    optimizers.set_factor(0.5)
    assert optimizers.learning_rates() == {"vision": 0.05, "projector": 0.1, "decoder": 0.15}


def test_muon_takes_the_matrices_inside_the_blocks(model: nn.Module) -> None:
    freeze_parts(model, ALL)
    adamw, muon = build_optimizers(model, OptimizerConfig(name="muon"), ALL).members
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter] for group in muon.param_groups for parameter in group["params"]}

    assert isinstance(muon, torch.optim.Muon)
    assert found == block_matrices(model)
    assert len(found) == 2 * 6 + 2 * 7
    others = {names[parameter] for group in adamw.param_groups for parameter in group["params"]}
    assert "model.multi_modal_projector.linear_1.weight" in others
    assert "model.language_model.embed_tokens.weight" in others
    assert not found & others


def test_an_average_follows_at_its_decay() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average = WeightAverage(layer, 0.9)
    nn.init.constant_(layer.weight, 1.0)
    average.update(1000)
    torch.testing.assert_close(average.state_dict(), {"weight": torch.tensor([[0.1]])})
    average.update(1000)
    torch.testing.assert_close(average.state_dict(), {"weight": torch.tensor([[0.19]])})


def test_a_young_average_forgets_its_first_values() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average = WeightAverage(layer, 0.999)
    nn.init.constant_(layer.weight, 1.0)
    average.update(0)
    torch.testing.assert_close(average.state_dict(), {"weight": torch.tensor([[0.9]])})
