"""The work of models of 7 billion weights on a GPU against transformers, and its share of what the device can do.

Where no GPU is, the table has empty cells. ``python benchmarks/bench_gpu.py --parts batches`` measures one part alone,
where a machine is there for a few minutes only. It needs torch, transformers and the package's ``src`` on PYTHONPATH;
PyAV is not needed, since no file is read.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from enum import IntFlag
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from engine_plan import EnginePlan
from engine_rows import EngineRow
from gpu_plan import GPU, KNOWN, TRIAL, GpuPlan, planned_rows
from reports import report_text

if TYPE_CHECKING:
    from gpu_measured import Measured

QUESTION = "How fast are models of 7 billion weights on a GPU, and what share of its limits do they reach?"
PARTS = ("batches", "prefill", "video", "questions")


def gpu(plan: EnginePlan, cache: Path) -> EngineRow:
    """All parts, or an empty table; nothing is kept in ``cache``."""
    return measure(plan.gpu)


def measure(plan: GpuPlan, parts: Sequence[str] = PARTS) -> EngineRow:
    """The parts that are named; sub-rows of others have no values."""
    rows, reading = tuple(planned_rows(plan).values()), tuple[str, ...]()
    reason, setting, accelerator = reason_against(plan), setting_text(plan), ""
    if not reason:
        with stand_in_for_pyav():
            from gpu_measured import Measured, check_ids

        measured = Measured(plan=plan, device_name=device_name(plan))
        setting += f" {versions()} {check_ids(plan)}."
        measure_parts(measured, parts)
        rows, reading = tuple(measured.rows.values()), tuple(measured.reading)
        accelerator = "" if plan.device == "cpu" else device_name(plan)
    return EngineRow(
        name="gpu", question=QUESTION, setting=setting, rows=rows, reading=reading, accelerator=accelerator,
        reason=reason,
    )  # fmt: skip


def measure_parts(measured: Measured, parts: Sequence[str]) -> None:
    """Fill the sub-rows of these parts, with one model after the other."""
    with stand_in_for_pyav():
        import gpu_asking
        import gpu_parts
        from gpu_sides import make_sides
    import torch

    functions = {
        "batches": gpu_parts.batches, "prefill": gpu_parts.prefill, "video": gpu_parts.video,
        "questions": gpu_asking.questions,
    }  # fmt: skip
    for family, names in (("next", ("batches", "prefill", "questions")), ("video", ("video",))):
        wanted = [functions[name] for name in names if name in parts]
        if wanted:
            sides = make_sides(family, measured.plan.size, measured.plan.device, torch.bfloat16)
            for function in wanted:
                function(measured, sides)


def setting_text(plan: GpuPlan) -> str:
    """What is compared."""
    shapes = (
        "LLaVA-NeXT-Video 7 B (CLIP-L/14-336, Llama of 32 layers 4096 wide) and LLaVA-Video 7 B (SigLIP-so400m/14-384, "
        "Qwen2 of 28 layers 3584 wide)"
        if plan.size == "7b"
        else "tiny ones of both families, a trial and no measurement"
    )
    return (
        f"Random weights, made on the device in bfloat16, the same tensors for both sides in one process: {shapes}. "
        "The peer of LLaVA-Video is LLaVA-OneVision of transformers, and ours is set to its pooling and its one "
        "newline a video, so that both compute the same. Pixel values lie on the device, ids do so for the peer; it "
        "runs eagerly with SDPA and a growing cache where it is not said otherwise. A batch is so many requests at "
        f"once, each about a video of its own, {plan.num_new} new tokens; its first token is there when every request "
        "has one, and further tokens are counted while all requests run. The peer is asked in one batch. "
        f"{plan.repeats} samples a side, in turn, after a first one that does not count. Beside a limit, the second "
        "column is the time at the limit, and the ratio the share that is reached; the limits of an H200 are "
        f"{KNOWN['H200'].text}, as were measured on one before, and those of others what this run measures."
    )


def reason_against(plan: GpuPlan) -> str:
    """Why nothing can be measured here, or nothing."""
    import torch

    today = datetime.date.today().isoformat()
    if plan.device != "cpu" and not torch.cuda.is_available():
        return f"No accelerator was there on {today}: nothing was measured, and the cells are empty."
    if importlib.util.find_spec("transformers") is None:
        return (
            f"{sys.executable} had no transformers on {today}: nothing was measured, and the cells are empty. "
            "Run it with an interpreter that has it, and src on PYTHONPATH."
        )
    return ""


def device_name(plan: GpuPlan) -> str:
    """What the device calls itself."""
    import torch

    return torch.cuda.get_device_name() if plan.device == "cuda" else plan.device


def versions() -> str:
    """The peer's version, and what both run on."""
    import torch
    import transformers

    return f"transformers {transformers.__version__}, torch {torch.__version__}."


@contextlib.contextmanager
def stand_in_for_pyav() -> Iterator[None]:
    """The names of PyAV that the package imports, where PyAV is missing, for as long as it is imported."""
    if importlib.util.find_spec("av") is not None:
        yield
        return
    modules = {name: ModuleType(name) for name in ("av", "av.error", "av.stream")}
    vars(modules["av.error"])["FFmpegError"] = type("FFmpegError", (OSError,), {})
    vars(modules["av.stream"])["Disposition"] = IntFlag(
        "Disposition", ["attached_pic", "timed_thumbnails", "still_image"]
    )
    sys.modules.update(modules)
    try:
        yield
    finally:  # Others ask whether PyAV is there, and it is not.
        for name in modules:
            del sys.modules[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny models on the CPU: a trial, not a measurement")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="what is measured (default: all)")
    arguments = parser.parse_args()
    row = measure(TRIAL if arguments.quick else GPU, arguments.parts)
    today = datetime.date.today()
    print(report_text([row.as_section()], arguments=sys.argv[1:], today=today, accelerator=row.accelerator))


if __name__ == "__main__":
    main()
