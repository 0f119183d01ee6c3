"""What a run leaves to read: metrics.jsonl, the list of bad samples, the progress bar, the loss curve."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videolm.errors import MissingExtraError, SampleBudgetError
from videolm.training.data import FailedSample

__all__ = ["BadSamples", "JsonLines", "ProgressBar", "plot_losses", "report", "require_matplotlib"]


class JsonLines:
    """A file of one JSON object a line; a resumed run takes up where its checkpoint was."""

    def __init__(self, path: Path, *, keep: Callable[[Mapping[str, Any]], bool]) -> None:
        self._path = path
        kept = [line for line in read_lines(path) if keep(line)]
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        unfinished.replace(path)

    def add(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line that was cut short is left out."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


class BadSamples:
    """Records samples that failed, and ends the run when there are too many."""

    def __init__(self, path: Path, *, budget: int, before: int) -> None:
        self._lines = JsonLines(path, keep=lambda line: line["index"] < before)
        self._path = path
        self._budget = budget
        self.count = sum(1 for _ in read_lines(path))

    def add(self, sample: FailedSample) -> None:
        """Record one; SampleBudgetError when it is one more than the budget."""
        location = sample.location
        self._lines.add(
            {
                "index": location.index,
                "source": sample.source,
                "local_index": location.local_index,
                "id": sample.id,
                "error": sample.error,
            }
        )
        self.count += 1
        if self.count == 1:
            report(f"A sample cannot be used and is left out: {sample.error} All such samples: {self._path}")
        self.check(self.count)

    def check(self, count: int) -> None:
        """SampleBudgetError when ``count`` (over all processes) is more than the budget."""
        if count > self._budget:
            raise SampleBudgetError(
                f"{count} training samples could not be used, expected at most {self._budget}. "
                f"Read {self._path} for the reasons; correct the data or raise max_bad_samples."
            )


class ProgressBar:
    """Steps with loss, samples a second and time left; silent where standard error is no terminal."""

    def __init__(self, *, total: int, initial: int, is_shown: bool) -> None:
        self._bar = tqdm(total=total, initial=initial, unit="step", disable=None if is_shown else True)

    def advance(self, *, loss: float, samples_per_s: float) -> None:
        self._bar.set_postfix_str(f"loss {loss:.3f}, {samples_per_s:.1f} samples/s", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


def report(message: str) -> None:
    """One line for people, on standard error, beside a progress bar if there is one."""
    tqdm.write(message, file=sys.stderr)


def require_matplotlib() -> None:
    """MissingExtraError where the loss curve could not be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError(
            "Training draws a loss curve and matplotlib is not installed, expected the extra 'train'. "
            "Run: pip install 'videolm[train]'"
        )


def plot_losses(metrics: Path, picture: Path, *, smoothing: float = 0.95) -> None:
    """Draw the losses of a metrics file and their running mean as a PNG."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_lines(metrics)
    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    means: list[float] = []
    for loss in losses:
        means.append(loss if not means else smoothing * means[-1] + (1 - smoothing) * loss)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, losses, linewidth=0.5, alpha=0.4, label="loss")
    axes.plot(steps, means, linewidth=1.5, label="running mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss per learned token")
    axes.legend()
    figure.savefig(picture, dpi=120)
