"""Settings of what trains and how: the parts of a model, the optimiser and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from videolm.errors import ConfigError
from videolm.training.schema import require

PARTS = ("vision", "projector", "decoder")
"""The parts of a model that train, or stay as they are, each on its own."""

__all__ = ["PARTS", "OptimizerConfig", "PartConfig", "PartsConfig"]


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Whether one part of the model trains, and how fast."""

    train: bool = False
    """Whether its weights change."""
    lr: float | None = None
    """Highest learning rate of its weights."""

    def __post_init__(self) -> None:
        if self.train and self.lr is None:
            raise ConfigError("train is true without lr, expected a learning rate. Set lr, for example 1e-5.")
        require(self.lr is None or 0 < self.lr < math.inf, "lr", self.lr, "a number above 0")


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """The three parts of a model."""

    vision: PartConfig = PartConfig()
    """The vision tower."""
    projector: PartConfig = PartConfig()
    """The projector and the learned newline."""
    decoder: PartConfig = PartConfig()
    """The language model and its head."""

    def __post_init__(self) -> None:
        if not any(getattr(self, name).train for name in PARTS):
            raise ConfigError(
                "no part trains, expected at least one of vision, projector, decoder. "
                "Set train: true and a learning rate for one of them."
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and the schedule that all parts share."""

    name: Literal["adamw", "muon"] = "adamw"
    """``muon``: Muon for the matrices inside the blocks of vision and decoder, AdamW for everything else."""
    warmup_steps: int | None = None
    """Steps until the learning rate is reached."""
    warmup_ratio: float | None = None
    """The same as a share of all steps."""
    min_lr_ratio: float = 0.0
    """Where the cosine ends, as a share of the learning rate; 1 keeps it constant."""
    weight_decay: float = 0.0
    """Decay of the weights of linear and convolution layers."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averages."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    muon_momentum: float = 0.95
    """Muon's momentum."""
    grad_clip: float | None = 1.0
    """Largest norm of the gradient; null never clips."""

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ConfigError("warmup_steps and warmup_ratio are both set, expected at most one. Remove one of them.")
        require((self.warmup_steps or 0) >= 0, "warmup_steps", self.warmup_steps, "at least 0")
        require(0 <= (self.warmup_ratio or 0) <= 1, "warmup_ratio", self.warmup_ratio, "between 0 and 1")
        require(0 <= self.min_lr_ratio <= 1, "min_lr_ratio", self.min_lr_ratio, "between 0 and 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "from 0 up to but not 1")
        require(self.eps > 0, "eps", self.eps, "more than 0")
        require(0 <= self.muon_momentum < 1, "muon_momentum", self.muon_momentum, "from 0 up to but not 1")
        require(self.grad_clip is None or self.grad_clip > 0, "grad_clip", self.grad_clip, "more than 0, or null")
