"""Two processes that share one model, or have a copy each: the losses of a single process, and a resume."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.errors import ConfigError
from videolm.families import auto
from videolm.training.distributed import Processes
from videolm.training.sft import train
from videolm.training.sharding import shard

MakeConfig = Callable[..., Path]


def run_in_two_processes(config: Path, config_to_resume: Path) -> None:
    """What ``torchrun --nproc-per-node 2`` does, for a run and its resume."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (
        "import torch.distributed as dist; dist.init_process_group('gloo'); "
        "from videolm.training.sft import train; "
        f"train({str(config)!r}); train({str(config_to_resume)!r}, resume=True); "
        "dist.destroy_process_group()"
    )
    paths = os.pathsep.join(filter(None, (str(config.parent), os.environ.get("PYTHONPATH"))))
    base = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", command],
            env={**os.environ, **base, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)


def numbers(folder: Path) -> list[tuple[float, float, Any, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["grad_norm"], line["samples"], line["tokens"]) for line in lines]


@pytest.mark.parametrize(
    ("parallel", "optimizer"),
    [
        ("shard", "adamw"),
        ("replicate", "muon"),
        pytest.param("replicate", "adamw", marks=pytest.mark.slow),
    ],
)
def test_two_processes_give_the_losses_of_one(make_config: MakeConfig, parallel: str, optimizer: str) -> None:
    # Rows are short enough that the processes have different numbers of them.
    batch = {"samples_per_step": 6, "max_tokens": 395}
    options: dict[str, Any] = {"model_ema": 0.9, "steps": 3, "export": {"dtype": "float32"}, "batch": batch}
    options |= {"parallel": parallel, "optimizer": {"name": optimizer}}
    alone = train(make_config("alone", **options)).output_dir
    stopped = make_config("together", **options, time_limit_minutes=1e-9)
    stopped = stopped.rename(stopped.with_name("stopped.yaml"))
    run_in_two_processes(stopped, make_config("together", **options))

    together = stopped.parent / "together"
    # Sums over two processes are taken in another order.
    torch.testing.assert_close(numbers(together), numbers(alone), rtol=1e-5, atol=1e-6)
    # Muon rounds its matrices to bfloat16, where a difference in the last digit can become one of 1/256.
    rtol, atol = (1e-4, 1e-5) if optimizer == "adamw" else (1e-2, 1e-4)
    ours, theirs = (auto.load_model(folder / "export").state_dict() for folder in (together, alone))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=rtol, atol=atol)


def test_muon_is_refused_in_several_processes() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name is muon in 2 processes, expected adamw"):
        shard(torch.nn.Linear(2, 2), Processes(count=2), optimizer="muon")
