"""The rows about the engine by their names, each against transformers in an environment of its own."""

from __future__ import annotations

import importlib
from pathlib import Path

from engine_plan import EnginePlan
from engine_rows import EngineRow

MODULES = {
    "ask_once": "bench_asking",
    "ask_again": "bench_asking",
    "decode_cpu": "bench_model",
    "prefill": "bench_model",
    "vision": "bench_model",
    "many_videos": "bench_many",
    "concurrent": "bench_concurrent",
    "many_questions": "bench_many",
    "load": "bench_processes",
    "start": "bench_processes",
    "memory": "bench_processes",
    "scale": "bench_scale",
    "gpu": "bench_gpu",
    "serve": "bench_serve",
    "serve_tiny": "bench_serve",
}
"""Where the function of each row is: imported when it is asked for, since not every machine has all that they need."""
NAMES = tuple(MODULES)
BY_NAME_ONLY = ("serve", "serve_tiny")
"""Not in the default run: the servers have a table of their own."""


def run(name: str, plan: EnginePlan, cache: Path) -> EngineRow:
    """One row by its name."""
    row: EngineRow = getattr(importlib.import_module(MODULES[name]), name)(plan, cache)
    return row
