"""``train`` from a configuration file to an exported model: losses, resume, metrics, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.families import auto
from videolm.training.sft import train

MakeConfig = Callable[..., Path]
SPEEDS = ("tokens_per_s", "samples_per_s", "data_wait_s", "time_s")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in SPEEDS} for line in lines]


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return dict(auto.load_model(folder / "export").state_dict())


def test_a_run_learns_and_leaves_a_model_that_loads(make_config: MakeConfig) -> None:
    result = train(make_config(steps=40, checkpoint={"every_steps": 100}))

    losses = [line["loss"] for line in metrics(result.output_dir)]
    assert result.ending == "finished"
    assert losses[-1] < 0.5 * losses[0]
    assert (result.output_dir / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert result.export is not None
    assert auto.load_model(result.export).dtype is torch.bfloat16
    assert auto.load_processor(result.export).tokenizer.eos_token_id == 2
    assert json.loads((result.export / "generation_config.json").read_text()) == {"eos_token_id": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": {"max_tokens": 250}, "gradient_accumulation": 2, "optimizer": {"name": "muon", "warmup_ratio": 0.3}},
        {"model_ema": 0.9, "log_every": 2, "data": [{"name": "five", "source": "colours_source:Finite"}]},
    ],
    ids=["plain", "muon and full rows", "average and rounds"],
)
def test_a_run_stopped_and_resumed_is_the_run_never_stopped(make_config: MakeConfig, changes: dict[str, Any]) -> None:
    whole = train(make_config("whole", **changes, export={"dtype": "float32"}))
    changes = {**changes, "export": {"dtype": "float32"}}
    first = train(make_config("parts", **changes, time_limit_minutes=1e-9))
    assert (first.ending, first.step) == ("time_limit", 1)
    train(make_config("parts", **changes, time_limit_minutes=1e-9), resume=True)
    last = train(make_config("parts", **changes), resume=True)

    assert metrics(last.output_dir) == metrics(whole.output_dir)
    expected = exported(whole.output_dir)
    for name, weight in exported(last.output_dir).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)
