"""The YAML file of a training run, checked: what to train, on what, how long, and where the results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from videolm.errors import ArgumentError, ConfigError
from videolm.media.sampling import FrameSampling
from videolm.training.optim_config import PARTS, OptimizerConfig, PartConfig, PartsConfig
from videolm.training.schema import build, read_yaml, require

__all__ = [
    "PARTS",
    "BatchConfig",
    "CheckpointConfig",
    "DataConfig",
    "ExportConfig",
    "FramesConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PartConfig",
    "PartsConfig",
    "TrainConfig",
    "load_train_config",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model to start from: a checkpoint, or random weights in the shape of a config."""

    path: str | None = None
    """Folder of a checkpoint with its processor."""
    config: str | None = None
    """``config.json`` of a model to start from scratch."""
    processor: str | None = None
    """Folder with the tokenizer, chat template and preprocessor; default: the folder of ``config``."""
    seed: int = 0
    """Seed of the random weights."""
    position_init: Literal["default", "sincos"] = "default"
    """First values of the vision tower's positions when starting from scratch."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.config is None):
            raise ConfigError(
                f"a model has path={self.path} and config={self.config}, expected exactly one of them. "
                "Give 'path' to continue from a checkpoint, or 'config' to start from scratch."
            )
        if self.path is not None and (self.processor is not None or self.position_init != "default"):
            raise ConfigError(
                "processor and position_init are only read with 'config', expected neither of them beside 'path'. "
                "Remove them: a checkpoint brings its own."
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One source of samples."""

    name: str
    """What messages and the list of bad samples call it."""
    source: str | None = None
    """``package.module:callable`` that returns an object with ``sample(index)``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the callable."""
    json: str | None = None
    """A JSON or JSONL file of conversations about media."""
    media_root: str | None = None
    """Folder that the media of ``json`` are relative to; default: the folder of the file."""
    weight: float = 1.0
    """Share of the samples, relative to the other sources."""
    shuffle: bool = True
    """Whether a source that has an end is read in a new order in each round."""

    def __post_init__(self) -> None:
        if (self.source is None) == (self.json is None):
            raise ConfigError(
                f"'{self.name}' has source={self.source} and json={self.json}, expected exactly one of them. "
                "Give 'source' for a Python source, or 'json' for a file."
            )
        if self.source is not None and ":" not in self.source:
            raise ConfigError(
                f"source of '{self.name}' is '{self.source}', expected 'package.module:callable'. Add the callable."
            )
        if (self.media_root is not None and self.json is None) or (self.options and self.source is None):
            raise ConfigError(
                f"'{self.name}' mixes keys of both kinds, expected media_root only with json and options only with "
                "source. Remove the one that does not belong."
            )
        require(self.weight > 0, "weight", self.weight, "more than 0")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What one optimiser step holds."""

    max_tokens: int | None = None
    """Most tokens of one packed row; a longer sample counts as bad."""
    samples_per_step: int | None = None
    """Samples of one optimiser step, over all processes; without it a step is ``gradient_accumulation`` full rows."""
    max_tiles: int | None = None
    """Most frames and tiles of one packed row, where the vision tower is what fills the memory."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "samples_per_step", "max_tiles"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        if self.max_tokens is None and self.samples_per_step is None:
            raise ConfigError(
                "neither max_tokens nor samples_per_step is set, expected at least one. "
                "Set samples_per_step for steps of a fixed number of samples, max_tokens for rows of a bounded size."
            )


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """Which frames of a video training sees, where that differs from the family's rule."""

    rule: Literal["arange", "linspace", "fps"] = "linspace"
    """The sampling rule."""
    num_frames: int | None = None
    """Frames of each video."""
    fps: float | None = None
    """Frames a second, with the rule ``fps``."""
    max_frames: int | None = None
    """Most frames, with the rule ``fps``."""

    def __post_init__(self) -> None:
        try:
            self.sampling()
        except ArgumentError as error:
            raise ConfigError(str(error)) from None

    def sampling(self) -> FrameSampling:
        """The rule as the decoder takes it."""
        return FrameSampling(rule=self.rule, num_frames=self.num_frames, fps=self.fps, max_frames=self.max_frames)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state of the run is written."""

    every_steps: int | None = 500
    """Steps between checkpoints; null: not by steps."""
    every_minutes: float | None = None
    """Minutes between checkpoints; null: not by time."""
    keep: int = 2
    """Newest checkpoints that stay."""

    def __post_init__(self) -> None:
        require(self.every_steps is None or self.every_steps >= 1, "every_steps", self.every_steps, "at least 1")
        require(self.every_minutes is None or self.every_minutes > 0, "every_minutes", self.every_minutes, "above 0")
        require(self.keep >= 1, "keep", self.keep, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The model folder that is written at the end."""

    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Type of the stored weights."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of ``videolm train sft``."""

    output_dir: str
    """Folder for checkpoints, metrics, the loss curve and the exported model."""
    model: ModelConfig
    """Where the weights come from."""
    data: tuple[DataConfig, ...]
    """Sources of samples; they are mixed within every step."""
    steps: int
    """Optimiser steps."""
    batch: BatchConfig
    """What one step holds."""
    parts: PartsConfig
    """What trains."""
    gradient_accumulation: int = 1
    """Rows of one optimiser step; not together with both ``max_tokens`` and ``samples_per_step``."""
    seed: int = 0
    """Seed of the order of the data and of everything random while training."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser and its schedule."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: matrices are multiplied in bfloat16, weights and optimiser stay in float32."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: cuda where there is one."""
    parallel: Literal["shard", "replicate"] = "shard"
    """What several processes do with the model: spread it over them (FSDP2), or keep a copy each (small models)."""
    workers: int = 2
    """Processes that decode and prepare samples; 0 does it between the steps."""
    prefetch: int = 8
    """Samples that each worker prepares ahead."""
    frames: FramesConfig | None = None
    """Which frames of videos are seen; default: the family's rule."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When the state of the run is written."""
    time_limit_minutes: float | None = None
    """Stop after the step that passes it, with a checkpoint to resume from."""
    log_every: int = 1
    """Steps a line of metrics.jsonl stands for."""
    max_bad_samples: int = 100
    """Samples that may fail before the run stops."""
    export: ExportConfig = ExportConfig()
    """The model folder that is written at the end."""
    model_ema: float | None = None
    """Decay of a running average of the weights, which is then what is exported; null: no average."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data is an empty list, expected at least one source. Add one with a name and a source.")
        names = [source.name for source in self.data]
        require(len(set(names)) == len(names), "data", ", ".join(names), "a different name for each source")
        for name in ("steps", "gradient_accumulation", "prefetch", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("workers", "max_bad_samples"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        limit = self.time_limit_minutes
        require(limit is None or limit > 0, "time_limit_minutes", limit, "more than 0, or null")
        require(self.model_ema is None or 0 < self.model_ema < 1, "model_ema", self.model_ema, "between 0 and 1")
        self._check_accumulation()

    def _check_accumulation(self) -> None:
        samples, rows = self.batch.samples_per_step, self.gradient_accumulation
        if samples is None or rows == 1:
            return
        if self.batch.max_tokens is not None or self.batch.max_tiles is not None:
            raise ConfigError(
                f"gradient_accumulation is {rows} beside batch.samples_per_step and a bound on the size of a row, "
                "expected 1: there, a step has as many rows as its samples fill. Remove gradient_accumulation."
            )
        require(rows <= samples, "gradient_accumulation", rows, f"at most batch.samples_per_step ({samples})")


def load_train_config(path: str | Path) -> TrainConfig:
    """The checked configuration of a run; paths in it are relative to the working directory."""
    return build(TrainConfig, read_yaml(Path(path)))
