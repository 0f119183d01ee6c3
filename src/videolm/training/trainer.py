"""One model in training: packed rows in, moved weights and the step's numbers out; its state as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from videolm.errors import ConfigError, TrainingError
from videolm.training.config import PARTS, TrainConfig
from videolm.training.distributed import Processes
from videolm.training.losses import LossFunction, count_learned, next_token_loss
from videolm.training.optim import WeightAverage, build_optimizers, freeze_parts, schedule_factor, warmup_steps
from videolm.training.packing import StepData, empty_row, move
from videolm.training.schema import plain
from videolm.training.sharding import average_gradients, place_like, whole

__all__ = ["Progress", "StepResult", "Trainer"]


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; the same in all processes but for ``next_index``."""

    step: int = 0
    next_index: int = 0
    """The first sample of this process that was not used yet."""
    samples: int = 0
    tokens: int = 0
    time_s: float = 0.0
    window_loss: float = 0.0
    """Summed loss since the last line of metrics."""
    window_learned: int = 0
    """Learned tokens since the last line of metrics."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one optimiser step did, over all processes."""

    loss: float
    """Mean over the learned tokens."""
    grad_norm: float
    """Before clipping."""
    num_learned: int
    num_samples: int
    num_tokens: int


class Trainer:
    """Weights, optimisers, average and progress of one run."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        processes: Processes | None = None,
        loss: LossFunction = next_token_loss,
    ) -> None:
        self.model = model
        self.config = config
        self.processes = processes or Processes()
        self.device = next(model.parameters()).device
        self._loss = loss
        freeze_parts(model, config.parts)
        model.train()
        self.optimizers = build_optimizers(model, config.optimizer, config.parts)
        self.average = None if config.model_ema is None else WeightAverage(model, config.model_ema)
        self.progress = Progress(next_index=self.processes.rank)
        self._trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    def train_step(self, data: StepData) -> StepResult:
        """Move the weights by the mean loss over the learned tokens of all rows of all processes."""
        learned, samples, tokens = map(
            int,
            self.processes.total(sum(map(count_learned, data.rows)), data.num_samples, data.num_tokens),
        )
        # Gradients are averaged over the processes, so a sum needs their number as a factor.
        scale = self.processes.count / max(learned, 1)
        loss_sum = torch.zeros((), device=self.device)
        # Processes exchange weights and gradients row by row, so all of them need the same number.
        missing = int(self.processes.largest(len(data.rows))) - len(data.rows)
        for row in (*data.rows, *(empty_row() for _ in range(missing))):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
                loss = self._loss(self.model, move(row, self.device))
            (loss * scale).backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.detach()
        if self.config.parallel == "replicate":
            average_gradients(self._trained.values(), self.processes)
        (total_loss,) = self.processes.total(float(loss_sum))
        grad_norm = self._move_weights(total_loss)
        self.progress.step += 1
        self.progress.next_index = data.next_index
        self.progress.samples += samples
        self.progress.tokens += tokens
        return StepResult(
            loss=total_loss / max(learned, 1),
            grad_norm=grad_norm,
            num_learned=learned,
            num_samples=samples,
            num_tokens=tokens,
        )

    def _move_weights(self, loss: float) -> float:
        settings, step = self.config.optimizer, self.progress.step
        limit = settings.grad_clip if settings.grad_clip is not None else math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), limit, foreach=True)
        grad_norm = float(whole(norm))
        if not math.isfinite(grad_norm) or not math.isfinite(loss):
            raise TrainingError(
                f"Step {step + 1} has loss {loss} and gradient norm {grad_norm}, expected finite numbers. "
                "Lower the learning rates, set optimizer.grad_clip, or train longer warm-up; then resume."
            )
        warmup = warmup_steps(settings, self.config.steps)
        self.optimizers.set_factor(
            schedule_factor(step, num_steps=self.config.steps, warmup=warmup, min_ratio=settings.min_lr_ratio)
        )
        self.optimizers.step()
        self.optimizers.zero_grad()
        if self.average is not None:
            self.average.update(step)
        return grad_norm

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; all processes call it and get the same."""
        own = {"next_index": self.progress.next_index, "random": _random_state(self.device)}
        return {
            "identity": self._identity(),
            "progress": asdict(self.progress),
            "processes": self.processes.gather(own),
            "weights": {name: whole(weight.detach()) for name, weight in self._trained.items()},
            "optimizers": self.optimizers.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` was taken from; ConfigError when the configuration describes another run."""
        self._check_identity(state["identity"])
        for name, weight in self._trained.items():
            weight.copy_(place_like(state["weights"][name], weight))
        self.optimizers.load_state_dict(state["optimizers"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        own = state["processes"][self.processes.rank]
        self.progress = Progress(**{**state["progress"], "next_index": own["next_index"]})
        _set_random_state(own["random"], self.device)

    def _identity(self) -> dict[str, Any]:
        """The settings that a resumed run cannot change: with others it would not be the run that was stopped."""
        config: dict[str, Any] = plain(self.config)
        names = ("data", "batch", "gradient_accumulation", "seed", "precision", "frames", "model_ema", "parallel")
        return {
            **{name: config[name] for name in names},
            **{f"parts.{part}.train": config["parts"][part]["train"] for part in PARTS},
            "optimizer.name": config["optimizer"]["name"],
            "number of processes": self.processes.count,
        }

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        own = self._identity()
        changed = [name for name in own if own[name] != stored.get(name)]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"The run to resume has other settings in {', '.join(changed)} ({name}: {stored.get(name)} then, "
                f"{own[name]} now), expected the same. Restore them, or start anew in another output_dir."
            )


def _random_state(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
