"""``videolm train`` and ``videolm evaluate``: what they hand on, and what they say at the end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from videolm.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("ending", "status", "line"),
    [
        ("finished", 0, "7 steps done; the model is in run/export\n"),
        ("time_limit", 0, "Time is up after 7 steps; the model so far is in run/export. Go on with --resume.\n"),
        ("stopped", 130, "Stopped after 7 steps; the checkpoint is in run. Go on with --resume.\n"),
    ],
)
def test_the_end_of_a_run_is_told(
    ending: str, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    calls: list[Any] = []

    def train(config: str, *, resume: bool) -> SimpleNamespace:
        calls.append((config, resume))
        folder = Path("run")
        return SimpleNamespace(ending=ending, step=7, output_dir=folder, export=folder / "export")

    monkeypatch.setattr("videolm.training.sft.train", train)
    assert main(["train", "sft", "--resume", "run.yaml"]) == status
    assert calls == [("run.yaml", True)]
    assert capsys.readouterr() == (line, "")


def test_an_evaluation_prints_its_report(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    calls: list[Any] = []

    def evaluate(task: str, answerer: Any, **options: Any) -> SimpleNamespace:
        calls.append((task, answerer.name, options))
        return SimpleNamespace(as_markdown=lambda: "# report\n")

    monkeypatch.setattr("videolm.evaluation.runner.run", evaluate)
    monkeypatch.setattr("videolm.evaluation.tasks.registry.task_named", lambda name: None)
    words = ["--task", "moving-shapes", "--model", str(tiny_model_folder), "--limit", "3", "--out", str(tmp_path)]
    assert main(["evaluate", *words]) == 0
    assert calls == [("moving-shapes", str(tiny_model_folder), {"limit": 3, "out": str(tmp_path), "at_once": 8})]
    assert capsys.readouterr() == ("# report\n", "")
    assert main(["evaluate", *words, "--keep-visual-tokens", "0.25", "--token-reduction", "fastvid"]) == 0
    assert calls[1][2] == calls[0][2] | {"visual_token_budget": 0.25, "token_reduction": "fastvid"}
    assert main(["evaluate", *words, "--keep-visual-tokens", "2"]) == 1
