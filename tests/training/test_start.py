"""Where a run begins: checkpoints, and first values from scratch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from videolm.errors import ConfigError, ModelNotFoundError
from videolm.families import auto
from videolm.training.config import ModelConfig
from videolm.training.start import load_start, sincos_positions

CPU = torch.device("cpu")


def test_positions_tell_rows_from_columns() -> None:
    table = sincos_positions(3, 8)
    row, column = table.view(3, 3, 2, 4).unbind(2)
    assert torch.equal(row[:, 0], row[:, 2])
    assert torch.equal(column[0], column[2])
    assert torch.equal(row[:, 0], column[0])
    torch.testing.assert_close(row[1, 0], torch.tensor([math.sin(1), math.sin(math.pi / 6), math.cos(1), 0.75**0.5]))
    assert len({tuple(place) for place in table.tolist()}) == 9


def test_positions_need_a_multiple_of_four() -> None:
    with pytest.raises(ConfigError, match="vision tower is 6 wide, expected a multiple of 4"):
        sincos_positions(3, 6)


def test_positions_have_the_size_of_embedded_patches(model_folder: Path) -> None:
    start = load_start(ModelConfig(config=str(model_folder / "config.json"), position_init="sincos"), CPU)
    embeddings = start.model.model.vision_tower.embeddings
    table = embeddings.position_embedding.weight.detach()
    patches = embeddings.patch_embedding(torch.randn(200, 3, 16, 16)).detach()
    assert torch.equal(table[0], torch.zeros(16))
    torch.testing.assert_close(table[1:].square().mean(), patches.square().mean(), rtol=0.1, atol=0)


def test_a_seed_gives_the_same_model(model_folder: Path) -> None:
    config = str(model_folder / "config.json")
    one, same, other = (load_start(ModelConfig(config=config, seed=seed), CPU).model for seed in (1, 1, 2))
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_a_checkpoint_trains_in_float32(model_folder: Path, tmp_path: Path) -> None:
    scratch = load_start(ModelConfig(config=str(model_folder / "config.json")), CPU)
    auto.save_model(scratch.model, scratch.make_processor(), tmp_path / "model", torch.bfloat16)
    start = load_start(ModelConfig(path=str(tmp_path / "model")), CPU)
    assert start.model.dtype is torch.float32
    assert start.sampling.num_frames == 2
    torch.testing.assert_close(start.model.lm_head.weight, scratch.model.lm_head.weight.bfloat16().float())


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        load_start(ModelConfig(path=str(tmp_path / "missing")), CPU)
    with pytest.raises(ModelNotFoundError, match=r"missing\.json does not exist"):
        load_start(ModelConfig(config=str(tmp_path / "missing.json")), CPU)
