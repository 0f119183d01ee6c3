"""A run from outside: signals, budgets, damaged checkpoints, a folder that is taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videolm.errors import ConfigError, DeviceError, SampleBudgetError
from videolm.training.checkpoint import find_checkpoints
from videolm.training.distributed import Processes
from videolm.training.sft import train

MakeConfig = Callable[..., Path]
BROKEN = [{"name": "clips", "source": "colours_source:Colours", "options": {"broken": True}}]


def losses(folder: Path) -> list[Any]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_bad_samples_are_left_out_and_recorded_once_through_a_resume(make_config: MakeConfig) -> None:
    whole = train(make_config("whole", data=BROKEN, steps=5)).output_dir
    for _ in range(3):
        parts = train(make_config("parts", data=BROKEN, steps=5, time_limit_minutes=1e-9), resume=True).output_dir
    train(make_config("parts", data=BROKEN, steps=5), resume=True)

    assert losses(parts) == losses(whole)
    records = [json.loads(line) for line in (parts / "bad_samples.jsonl").read_text().splitlines()]
    assert [(record["index"], record["id"]) for record in records] == [(3, "unknown"), (13, "unknown")]
    assert (parts / "bad_samples.jsonl").read_text() == (whole / "bad_samples.jsonl").read_text()


def test_too_many_bad_samples_end_the_run(make_config: MakeConfig) -> None:
    with pytest.raises(SampleBudgetError, match="2 training samples could not be used, expected at most 1"):
        train(make_config(data=BROKEN, steps=20, max_bad_samples=1))


def test_a_damaged_checkpoint_costs_its_steps_only(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(make_config("whole", checkpoint={"every_steps": 2, "keep": 3})).output_dir
    expected = losses(whole)
    newest = find_checkpoints(whole / "checkpoints")[-1]
    assert newest.name == "step_00000006"
    (newest / "state.pt").write_bytes(b"damaged")
    train(make_config("whole", checkpoint={"every_steps": 2, "keep": 3}), resume=True)

    assert losses(whole) == expected
    assert "Skipped: The checkpoint" in capsys.readouterr().err


def test_a_checkpoint_that_is_due_by_the_clock_of_another_process_is_written_by_all(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def largest(_: Processes, value: float) -> float:
        """The other process's clock says so after the second of its steps, and nothing else does."""
        if not isinstance(value, bool):
            return value
        asked.append(value)
        return float(value or len(asked) == 2)

    monkeypatch.setattr(Processes, "largest", largest)
    folder = train(make_config(steps=4, checkpoint={"every_minutes": 60, "keep": 3})).output_dir
    assert asked == [False] * 4
    assert [path.name for path in find_checkpoints(folder / "checkpoints")] == ["step_00000002", "step_00000004"]


def test_a_finished_run_can_be_resumed_and_stays(make_config: MakeConfig) -> None:
    config = make_config(steps=2)
    first = train(config)
    before = (first.output_dir / "metrics.jsonl").read_text()
    assert train(config, resume=True) == first
    assert (first.output_dir / "metrics.jsonl").read_text() == before


def test_a_folder_with_another_run_is_refused(make_config: MakeConfig) -> None:
    config = make_config(steps=1)
    train(config)
    with pytest.raises(ConfigError, match=r"holds the checkpoints of an earlier run.*--resume"):
        train(config)


def test_a_folder_that_cannot_be_made_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output_dir .*file/run cannot be made"):
        train(make_config(output_dir=str(tmp_path / "file" / "run")))


def test_a_device_that_is_not_there_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(DeviceError, match="device is 'cuda:9', expected one that this machine has: cpu"):
        train(make_config(device="cuda:9"))


def start(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"from videolm.training.sft import train; print(train({str(config)!r}))"]
    environment = {**os.environ, "PYTHONPATH": str(config.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_with_a_checkpoint(make_config: MakeConfig, number: signal.Signals) -> None:
    config = make_config(steps=100_000, workers=1)
    folder = config.parent / "run"
    process = start(config)
    try:
        deadline = time.monotonic() + 180
        while not (folder / "metrics.jsonl").exists() or len(losses(folder)) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as a terminal or a job scheduler does: the workers get it too
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0, errors
    assert "ending='stopped'" in output
    assert errors == "Stopping after this step, with a checkpoint. Once more stops at once.\n"
    (checkpoint,) = find_checkpoints(folder / "checkpoints")
    assert int(checkpoint.name.removeprefix("step_")) == len(losses(folder))
    assert not (folder / "export").exists()
