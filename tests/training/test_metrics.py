"""Files and lines that a run leaves."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest

from videolm.errors import MissingExtraError, SampleBudgetError
from videolm.training.data import FailedSample, Location
from videolm.training.metrics import BadSamples, JsonLines, ProgressBar, plot_losses, read_lines, require_matplotlib


def failed(index: int) -> FailedSample:
    return FailedSample(location=Location(index=index, source=0, local_index=index), source="s", id="x", error="E: no")


def test_a_resumed_file_drops_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    lines = JsonLines(path, keep=lambda line: line["step"] <= 2)
    lines.add({"step": 3, "loss": 0.5})
    assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_bad_samples_are_recorded_until_the_budget_is_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad_samples.jsonl"
    bad = BadSamples(path, budget=2, before=0)
    bad.add(failed(4))
    bad.add(failed(7))
    with pytest.raises(SampleBudgetError, match="3 training samples could not be used, expected at most 2"):
        bad.add(failed(9))
    assert read_lines(path)[1] == {"index": 7, "source": "s", "local_index": 7, "id": "x", "error": "E: no"}
    assert capsys.readouterr().err.count("A sample cannot be used and is left out: E: no") == 1
    assert BadSamples(path, budget=2, before=8).count == 2


def test_the_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(total=3, initial=0, is_shown=True)
    bar.advance(loss=1.0, samples_per_s=2.0)
    bar.close()
    assert capsys.readouterr().err == ""


def test_the_bar_shows_loss_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = ProgressBar(total=3, initial=1, is_shown=True)
    bar.advance(loss=1.25, samples_per_s=2.0)
    bar.close()
    assert "2/3" in terminal.getvalue()
    assert "loss 1.250, 2.0 samples/s" in terminal.getvalue()


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_extra_names_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'videolm\[train\]'"):
        require_matplotlib()
