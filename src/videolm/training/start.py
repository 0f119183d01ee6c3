"""Where a run begins: a checkpoint's model and processor, or random weights in the shape of a config."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videolm.errors import ConfigError
from videolm.families import auto
from videolm.families.base import FamilyModel
from videolm.families.json_config import read_json
from videolm.families.processors import build_processor, read_sampling
from videolm.media.sampling import FrameSampling
from videolm.processing.processor import Processor
from videolm.training.config import ModelConfig

__all__ = ["Start", "load_start", "sincos_positions"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What training begins with."""

    model: FamilyModel
    """Weights in float32, which is what they are moved in."""
    make_processor: Callable[[], Processor]
    """Can be sent to another process."""
    sampling: FrameSampling
    """The family's rule for videos."""


def load_start(config: ModelConfig, device: torch.device) -> Start:
    """The model and processor that a configuration names."""
    if config.path is not None:
        folder = auto.resolve(config.path)
        model = auto.load_model(folder, device=device, dtype=torch.float32)
        return _start(model, folder)
    assert config.config is not None
    file = Path(config.config).expanduser()
    folder = Path(config.processor).expanduser() if config.processor is not None else file.parent
    model = auto.new_model(read_json(file), seed=config.seed, dtype=torch.float32)
    if (folder / "generation_config.json").is_file():
        model.generation_config = read_json(folder / "generation_config.json")
    if config.position_init == "sincos":
        set_sincos_positions(model)
    return _start(model.to(device), folder)


def _start(model: FamilyModel, folder: Path) -> Start:
    make_processor = partial(_make_processor, folder, model.config.to_dict())
    return Start(model=model, make_processor=make_processor, sampling=read_sampling(folder, model.family))


def _make_processor(folder: Path, config: dict[str, Any]) -> Processor:
    family = next(entry.family for entry in auto.MODEL_CLASSES if entry.family.model_type == config["model_type"])
    return build_processor(folder, family, family.config_class.from_dict(config))


def sincos_positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of row and column, ``[grid * grid, width]``; the slowest turns a quarter over the grid."""
    if width % 4:
        raise ConfigError(
            f"position_init is sincos and the vision tower is {width} wide, expected a multiple of 4. "
            "Change hidden_size, or set position_init to default."
        )
    frequencies = torch.logspace(0, math.log10(math.pi / (2 * grid)), width // 4)
    angles = torch.arange(grid)[:, None] * frequencies  # [grid, width / 4]
    one = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, width / 2]
    rows = one[:, None].expand(grid, grid, -1)
    columns = one[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).reshape(grid * grid, width)


@torch.no_grad()
def set_sincos_positions(model: Any) -> None:
    """Start the tower's positions from sines and cosines of the size that embedded patches have."""
    for tower in model.model.towers:
        _set_positions(tower.embeddings)


def _set_positions(embeddings: Any) -> None:
    table, patch_weight = embeddings.position_embedding.weight, embeddings.patch_embedding.weight
    grid = math.isqrt(len(table))
    positions = sincos_positions(grid, table.shape[1])
    patch_size = float(patch_weight.square().mean().sqrt()) * math.sqrt(patch_weight[0].numel())
    table.zero_()
    # A class token stands before the patches and has no place.
    table[len(table) - grid * grid :] = positions * (patch_size / float(positions.square().mean().sqrt()))
