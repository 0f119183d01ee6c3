"""``videolm train sft``: a configuration file in, a trained and exported model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from videolm.errors import ConfigError, DeviceError
from videolm.families import auto
from videolm.training.checkpoint import find_checkpoints
from videolm.training.config import TrainConfig, load_train_config
from videolm.training.data import FailedSample, SampleMaker
from videolm.training.distributed import Processes, start_processes
from videolm.training.loader import load_samples
from videolm.training.metrics import plot_losses, report, require_matplotlib
from videolm.training.packing import StepPacker
from videolm.training.run import Ending, MakePacker, TrainingRun
from videolm.training.sharding import shard, whole
from videolm.training.start import Start, load_start
from videolm.training.trainer import Trainer

__all__ = ["TrainingResult", "train"]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended and where its model is."""

    ending: Ending
    step: int
    """Optimiser steps done, those before a resume included."""
    output_dir: Path
    export: Path | None
    """The exported model; None when the run was stopped by a signal."""


def train(config_path: str | Path, *, resume: bool = False) -> TrainingResult:
    """Train as a YAML file says; see ``TrainConfig`` for its keys.

    Args:
        resume: Go on from the newest checkpoint in ``output_dir``; without one, start.
    """
    config = load_train_config(config_path)
    require_matplotlib()
    folder = Path(config.output_dir).expanduser()
    if not resume and find_checkpoints(folder / "checkpoints"):
        raise ConfigError(
            f"{folder} holds the checkpoints of an earlier run, expected a new folder. "
            "Resume that run with --resume, or set another output_dir."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output_dir {folder} cannot be made ({error.strerror}), expected a folder to write to. Choose another."
        ) from None
    device = _device(config.device)
    processes = start_processes(device)
    try:
        return _train(config, folder, device, processes, resume=resume)
    finally:
        processes.close()


def _train(
    config: TrainConfig, folder: Path, device: torch.device, processes: Processes, *, resume: bool
) -> TrainingResult:
    samples = config.batch.samples_per_step
    if samples is not None and samples % processes.count:
        raise ConfigError(
            f"batch.samples_per_step is {samples} in {processes.count} processes, expected a multiple of their number. "
            "Change one of them."
        )
    torch.manual_seed(config.seed)
    start = load_start(config.model, device)
    if config.gradient_checkpointing:
        start.model.gradient_checkpointing_enable()
    if config.parallel == "shard":
        shard(start.model, processes, optimizer=config.optimizer.name)
    trainer = Trainer(start.model, config, processes=processes)
    run = TrainingRun(trainer, folder, _packer_of(config, start, processes))
    if resume and not run.resume() and processes.is_first:
        report(f"No checkpoint in {folder}: the run starts from its first step.")
    ending = run.run()
    export = None if ending == "stopped" else _export(trainer, start, folder)
    if processes.is_first:
        plot_losses(folder / "metrics.jsonl", folder / "loss.png")
    return TrainingResult(ending=ending, step=trainer.progress.step, output_dir=folder, export=export)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    raise DeviceError(
        f"device is '{name}', expected one that this machine has: cpu"
        f"{', cuda' if torch.cuda.is_available() else ''} or auto. Set device to auto to use what there is."
    )


def _packer_of(config: TrainConfig, start: Start, processes: Processes) -> MakePacker:
    sampling = start.sampling if config.frames is None else config.frames.sampling()
    maker = SampleMaker(
        config.data, start.make_processor, sampling=sampling, seed=config.seed, half=config.precision == "bf16"
    )
    maker.open_all()

    def make(first_index: int, on_bad_sample: Callable[[FailedSample], None]) -> StepPacker:
        samples = load_samples(
            maker,
            weights=tuple(source.weight for source in config.data),
            start=first_index,
            num_processes=processes.count,
            workers=config.workers,
            prefetch=config.prefetch,
        )
        return StepPacker(
            samples,
            config.batch,
            on_bad_sample=on_bad_sample,
            rows_per_step=config.gradient_accumulation,
            first_index=first_index,
            num_processes=processes.count,
        )

    return make


def _export(trainer: Trainer, start: Start, folder: Path) -> Path:
    """Write the model, or its average where one is kept, as a folder that Hugging Face libraries read too."""
    final, config = folder / "export", trainer.config
    weights = {name: whole(tensor) for name, tensor in start.model.state_dict().items()}
    averages = {} if trainer.average is None else trainer.average.state_dict()
    if trainer.processes.is_first:
        model = type(start.model).from_state_dict(start.model.config, weights)
        model.load_state_dict(averages, strict=False)
        model.generation_config = start.model.generation_config
        auto.save_model(model, start.make_processor(), final, getattr(torch, config.export.dtype))
    trainer.processes.wait()
    return final
