"""Which weights move, and how: parameter groups by part, AdamW or Muon, the schedule, clipping, the running average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videolm.training.config import PARTS, OptimizerConfig, PartsConfig
from videolm.training.sharding import place_like, whole

Part = Literal["vision", "projector", "decoder"]

__all__ = [
    "Optimizers",
    "WeightAverage",
    "block_matrices",
    "build_optimizers",
    "freeze_parts",
    "part_of",
    "schedule_factor",
    "warmup_steps",
]

_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("model.vision_tower.", "vision"),
    ("model.image_tower.", "vision"),
    ("model.video_tower.", "vision"),
    ("model.language_model.", "decoder"),
    ("lm_head.", "decoder"),
    ("model.", "projector"),
)


def part_of(name: str) -> Part:
    """The part of the model that the parameter ``name`` belongs to."""
    for prefix, part in _PREFIXES:
        if name.startswith(prefix):
            return part
    raise AssertionError(f"parameter {name} belongs to no part")


def freeze_parts(model: nn.Module, parts: PartsConfig) -> None:
    """Let the weights of the parts that train have gradients, and no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(getattr(parts, part_of(name)).train)


def warmup_steps(config: OptimizerConfig, num_steps: int) -> int:
    """Steps of warm-up in a run of ``num_steps``."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    return math.ceil((config.warmup_ratio or 0.0) * num_steps)


def schedule_factor(step: int, *, num_steps: int, warmup: int, min_ratio: float) -> float:
    """What the learning rates are multiplied with in step ``step`` (the first is 0): linear up, then a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def block_matrices(model: nn.Module) -> set[str]:
    """Names of the weights of linear layers inside the blocks of vision and decoder."""
    names: set[str] = set()
    for list_name, blocks in model.named_modules():
        if isinstance(blocks, nn.ModuleList) and part_of(f"{list_name}.") != "projector":
            names |= {
                f"{list_name}.{name}.weight" for name, module in blocks.named_modules() if isinstance(module, nn.Linear)
            }
    return names


def _decayed(model: nn.Module) -> set[str]:
    """Names of weights that decay: those of linear and convolution layers, not embeddings, norms and biases."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, layers) and id(module.weight) not in embeddings
    }


@dataclass(frozen=True, kw_only=True)
class Optimizers:
    """One optimiser or two, driven by one schedule."""

    members: tuple[torch.optim.Optimizer, ...]

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to its highest value times ``factor``."""
        for optimizer in self.members:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

    def step(self) -> None:
        for optimizer in self.members:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.members:
            optimizer.zero_grad(set_to_none=True)

    def learning_rates(self) -> dict[str, float]:
        """The current learning rate of each part that trains."""
        return {group["part"]: group["lr"] for optimizer in self.members for group in optimizer.param_groups}

    def state_dict(self) -> list[dict[int, dict[str, Tensor]]]:
        """For each optimiser the moments and step counts of its weights, whole, by their position."""
        return [
            {index: {name: whole(value) for name, value in state.items()} for index, state in moments.items()}
            for moments in (optimizer.state_dict()["state"] for optimizer in self.members)
        ]

    def load_state_dict(self, states: Iterable[Mapping[int, Mapping[str, Tensor]]]) -> None:
        """Take back moments and step counts; learning rates, decay and betas stay those of the configuration."""
        for optimizer, moments in zip(self.members, states, strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            placed = {
                index: {name: _place_moment(value, weights[index]) for name, value in state.items()}
                for index, state in moments.items()
            }
            optimizer.load_state_dict({"state": placed, "param_groups": optimizer.state_dict()["param_groups"]})


def build_optimizers(model: nn.Module, config: OptimizerConfig, parts: PartsConfig) -> Optimizers:
    """The optimisers of all weights that have gradients, in groups by part and by whether they decay."""
    decayed = _decayed(model)
    matrices = block_matrices(model) if config.name == "muon" else set()
    groups: dict[tuple[bool, str, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name in matrices, part_of(name), name in decayed)
            groups.setdefault(key, []).append(parameter)
    settings = [(key, _group(key, groups[key], config, parts)) for key in sorted(groups, key=_group_order)]
    members: list[torch.optim.Optimizer] = []
    adamw = [group for (is_matrix, _, _), group in settings if not is_matrix]
    if adamw:
        members.append(torch.optim.AdamW(adamw, betas=config.betas, eps=config.eps, foreach=True))
    muon = [group for (is_matrix, _, _), group in settings if is_matrix]
    if muon:
        members.append(torch.optim.Muon(muon, momentum=config.muon_momentum, adjust_lr_fn="match_rms_adamw"))
    return Optimizers(members=tuple(members))


def _place_moment(value: Tensor, weight: Tensor) -> Tensor:
    return place_like(value, weight) if value.shape == weight.shape else value


def _group_order(key: tuple[bool, str, bool]) -> tuple[bool, int, bool]:
    return key[0], PARTS.index(key[1]), key[2]


def _group(
    key: tuple[bool, str, bool], parameters: list[Tensor], config: OptimizerConfig, parts: PartsConfig
) -> dict[str, Any]:
    _, part, decays = key
    lr = getattr(parts, part).lr
    decay = config.weight_decay if decays else 0.0
    return {"params": parameters, "lr": lr, "base_lr": lr, "part": part, "weight_decay": decay}


class WeightAverage:
    """A running average of the weights that train; young averages forget faster."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names = list(named)
        self._weights: list[Tensor] = list(named.values())
        self._averages = [parameter.detach().clone() for parameter in named.values()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step ``step`` (the first is 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, whole, by the names of their weights."""
        return {name: whole(average) for name, average in zip(self._names, self._averages, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(place_like(state[name], average))
