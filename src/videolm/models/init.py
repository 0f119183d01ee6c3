"""First values for a model that is trained from nothing: the same for a seed on every device and dtype."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from videolm.models.config import VideoLMConfig, VisionConfig
from videolm.models.video_lm import VideoLM

PositionInit = Literal["normal", "sincos2d"]

__all__ = ["PositionInit", "init_weights", "sincos2d_positions"]

_RESIDUAL_OUTPUTS = (
    *("self_attn.out_proj.weight", "temporal_attn.out_proj.weight", "mlp.fc2.weight"),
    *("self_attn.o_proj.weight", "mlp.down_proj.weight"),
)
_TOWERS = ("model.vision_tower.", "model.image_tower.", "model.video_tower.")


@torch.no_grad()
def init_weights(model: VideoLM, seed: int, position_init: PositionInit = "normal") -> None:
    """Fill every parameter.

    Matrices and tables are normal with the part's ``initializer_range``; those that write to the residual stream are
    smaller by sqrt(2 * layers). Biases are 0, norms 1, the newline normal with a standard deviation of 1/sqrt(D).

    Args:
        model: What to fill.
        seed: Decides all values.
        position_init: ``sincos2d`` gives the tower's positions 2-D sine-cosine values of the size of patch features.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) or type(module).__name__ == "RMSNorm"
    }
    for name, parameter in model.named_parameters():
        if name in norms:
            parameter.fill_(1.0)
        elif name.endswith(".bias"):
            parameter.zero_()
        else:
            values = torch.empty(parameter.shape).normal_(generator=generator)
            parameter.copy_(values * _deviation(name, model.model.config))
    if position_init == "sincos2d":
        positions = sincos2d_positions(model.model.config.vision)
        for tower in model.model.towers:
            tower.embeddings.position_embedding.weight.copy_(positions)


def sincos2d_positions(config: VisionConfig) -> Tensor:
    """Position table ``[P, E]``: each half of the channels tells one axis; the class token, if there is one, has none.

    The root of the mean square is that of the features that a fresh patch embedding makes of pixels of unit variance,
    so that content and place weigh the same from the first step on.
    """
    quarter = max(config.hidden_size // 4, 1)
    frequencies = 1.0 / (10_000.0 ** (torch.arange(quarter, dtype=torch.float64) / quarter))
    angles = torch.arange(config.grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, E / 2]
    rows = axis[:, None].expand(-1, config.grid, -1)
    columns = axis[None].expand(config.grid, -1, -1)
    table = torch.cat([rows, columns], dim=-1).flatten(0, 1)  # [grid * grid, E]
    table = torch.nn.functional.pad(table, (0, config.hidden_size - table.shape[1], int(config.class_token), 0))
    feature_size = config.initializer_range * math.sqrt(config.num_channels) * config.patch_size
    return (table * (feature_size * math.sqrt(2))).float()


def _deviation(name: str, config: VideoLMConfig) -> float:
    if name in ("model.image_newline", "model.faster_token"):
        return 1 / math.sqrt(config.decoder.hidden_size)
    if name.startswith(_TOWERS):
        part: tuple[float, int] = (config.vision.initializer_range, config.vision.num_hidden_layers)
    else:
        part = (config.decoder.initializer_range, config.decoder.num_hidden_layers)
    return part[0] / math.sqrt(2 * part[1]) if name.endswith(_RESIDUAL_OUTPUTS) else part[0]
