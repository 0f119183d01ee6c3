"""A training run from its first or next step to its end: loop, logs, checkpoints, requests to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from videolm.freed_memory import give_back_free_memory
from videolm.training.checkpoint import load_newest, write_checkpoint
from videolm.training.config import TrainConfig
from videolm.training.data import FailedSample
from videolm.training.metrics import BadSamples, JsonLines, ProgressBar, report
from videolm.training.packing import StepPacker
from videolm.training.trainer import StepResult, Trainer

Ending = Literal["finished", "time_limit", "stopped"]
_ENDINGS: tuple[Ending, ...] = ("finished", "time_limit", "stopped")
MakePacker = Callable[[int, Callable[[FailedSample], None]], StepPacker]
"""From the first index and what to do with bad samples to the steps of a run."""

__all__ = ["Ending", "MakePacker", "TrainingRun"]


@dataclass(kw_only=True)
class _Window:
    """What happened since the last line of metrics, for its speeds."""

    start: float = field(default_factory=time.monotonic)
    samples: int = 0
    tokens: int = 0
    wait_s: float = 0.0


class TrainingRun:
    """Drives a trainer and keeps its folder: ``checkpoints/``, ``metrics.jsonl``, ``bad_samples.jsonl``."""

    def __init__(self, trainer: Trainer, folder: Path, make_packer: MakePacker) -> None:
        self.trainer = trainer
        self.folder = folder
        self._make_packer = make_packer
        self._checkpoints = folder / "checkpoints"
        self._stop_requested = False
        self._window = _Window()

    def resume(self) -> bool:
        """Take up the newest whole checkpoint; False when there is none."""
        warn = report if self.trainer.processes.is_first else _say_nothing
        state = load_newest(self._checkpoints, warn=warn)
        if state is not None:
            self.trainer.load_state_dict(state)
        return state is not None

    def run(self) -> Ending:
        """Train until the end, the time limit or a request to stop; where it stops, there is a checkpoint."""
        trainer, config = self.trainer, self.trainer.config
        if trainer.progress.step >= config.steps:
            return "finished"
        metrics, bad_samples = self._open_logs()
        packer = self._make_packer(trainer.progress.next_index, bad_samples.add)
        bar = ProgressBar(total=config.steps, initial=trainer.progress.step, is_shown=trainer.processes.is_first)
        timer = _Timer(config)
        ending: Ending = "finished"
        saved_step = -1
        with _signals_call(self._request_stop):
            while trainer.progress.step < config.steps and ending == "finished":
                result = self._one_step(packer, bar)
                self._log(result, metrics)
                bad_samples.check(int(trainer.processes.total(bad_samples.count)[0]))
                ending = self._wanted_ending(timer)
                # Asked of all: clocks differ, and one that saves would wait for others that go on to the next step.
                if trainer.processes.largest(timer.is_checkpoint_due(trainer.progress.step)):
                    self._save()
                    timer.start_waiting()
                    saved_step = trainer.progress.step
            if saved_step != trainer.progress.step:
                self._save()
        bar.close()
        return ending if trainer.progress.step < config.steps else "finished"

    def _one_step(self, packer: StepPacker, bar: ProgressBar) -> StepResult:
        begin = time.monotonic()
        data = packer.next_step()
        self._window.wait_s += time.monotonic() - begin
        result = self.trainer.train_step(data)
        seconds = time.monotonic() - begin
        progress = self.trainer.progress
        progress.time_s += seconds
        progress.window_loss += result.loss * result.num_learned
        progress.window_learned += result.num_learned
        self._window.samples += result.num_samples
        self._window.tokens += result.num_tokens
        bar.advance(loss=result.loss, samples_per_s=result.num_samples / seconds)
        return result

    def _log(self, result: StepResult, metrics: JsonLines | None) -> None:
        progress, window = self.trainer.progress, self._window
        if progress.step % self.trainer.config.log_every and progress.step != self.trainer.config.steps:
            return
        seconds = time.monotonic() - window.start
        line = {
            "step": progress.step,
            "loss": progress.window_loss / max(progress.window_learned, 1),
            "lr": self.trainer.optimizers.learning_rates(),
            "grad_norm": result.grad_norm,
            "tokens_per_s": round(window.tokens / seconds, 1),
            "samples_per_s": round(window.samples / seconds, 2),
            "data_wait_s": round(window.wait_s, 3),
            "samples": progress.samples,
            "tokens": progress.tokens,
            "time_s": round(progress.time_s, 2),
        }
        give_back_free_memory()
        progress.window_loss, progress.window_learned, self._window = 0.0, 0, _Window()
        if metrics is not None:
            metrics.add(line)

    def _open_logs(self) -> tuple[JsonLines | None, BadSamples]:
        """Metrics of the first process, bad samples of each; lines from after the checkpoint are dropped."""
        processes, progress = self.trainer.processes, self.trainer.progress
        metrics = None
        if processes.is_first:
            metrics = JsonLines(self.folder / "metrics.jsonl", keep=lambda line: line["step"] <= progress.step)
        name = "bad_samples.jsonl" if processes.is_first else f"bad_samples_{processes.rank}.jsonl"
        budget = self.trainer.config.max_bad_samples
        return metrics, BadSamples(self.folder / name, budget=budget, before=progress.next_index)

    def _wanted_ending(self, timer: _Timer) -> Ending:
        wanted: Ending = "stopped" if self._stop_requested else "time_limit" if timer.is_over() else "finished"
        return _ENDINGS[int(self.trainer.processes.largest(_ENDINGS.index(wanted)))]

    def _request_stop(self) -> None:
        if self.trainer.processes.is_first:
            report("Stopping after this step, with a checkpoint. Once more stops at once.")
        self._stop_requested = True

    def _save(self) -> None:
        state: dict[str, Any] = self.trainer.state_dict()
        if self.trainer.processes.is_first:
            step, keep = self.trainer.progress.step, self.trainer.config.checkpoint.keep
            write_checkpoint(self._checkpoints, step, state, keep=keep)
        self.trainer.processes.wait()


class _Timer:
    """The clock of a run: its time limit, and when checkpoints are due."""

    def __init__(self, config: TrainConfig) -> None:
        self._limit_s = None if config.time_limit_minutes is None else config.time_limit_minutes * 60
        self._every = config.checkpoint
        self._start = self._last_save = time.monotonic()

    def is_over(self) -> bool:
        return self._limit_s is not None and time.monotonic() - self._start >= self._limit_s

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether one is due after ``step`` by this process's clock."""
        steps, minutes = self._every.every_steps, self._every.every_minutes
        is_due = steps is not None and step % steps == 0
        return is_due or (minutes is not None and time.monotonic() - self._last_save >= minutes * 60)

    def start_waiting(self) -> None:
        """Begin to wait for the next checkpoint."""
        self._last_save = time.monotonic()


@contextmanager
def _signals_call(request_stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a call, and let a second one do what it usually does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _: object) -> None:
        signal.signal(number, previous[number])
        request_stop()

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, previous[number])


def _say_nothing(_: str) -> None:
    return
