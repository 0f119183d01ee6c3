"""The rows about the engine by their names, each against transformers in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bench_asking
import bench_concurrent
import bench_many
import bench_model
import bench_processes
import bench_scale
import bench_serve
from engine_plan import EnginePlan
from engine_rows import EngineRow

ROWS: dict[str, Callable[[EnginePlan, Path], EngineRow]] = {
    "ask_once": bench_asking.ask_once,
    "ask_again": bench_asking.ask_again,
    "decode_cpu": bench_model.decode_cpu,
    "prefill": bench_model.prefill,
    "vision": bench_model.vision,
    "many_videos": bench_many.many_videos,
    "concurrent": bench_concurrent.concurrent,
    "many_questions": bench_many.many_questions,
    "load": bench_processes.load,
    "start": bench_processes.start,
    "memory": bench_processes.memory,
    "scale": bench_scale.scale,
    "serve": bench_serve.serve,
    "serve_tiny": bench_serve.serve_tiny,
}
NAMES = tuple(ROWS)


def run(name: str, plan: EnginePlan, cache: Path) -> EngineRow:
    """One row by its name."""
    return ROWS[name](plan, cache)
