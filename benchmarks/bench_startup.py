"""How long the command line takes to answer: ``--help``, ``import videolm``, and the first word about a clip."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from measuring import spread_text
from plans import Plan, add_plan_arguments, plan_of, print_section
from reports import Section
from tqdm import tqdm

from videolm.cli.demo import load_questions

COLUMNS = ("what", "wall ms", "repeats")
PYTHON = sys.executable
COMMAND = str(Path(sys.executable).with_name("videolm"))


def run(plan: Plan) -> Section:
    """All start-up times, interleaved."""
    clip, question = demo_question()
    ask = [COMMAND, "ask", str(clip), question]
    cases: dict[str, Callable[[], float]] = {
        "`python -c pass`": lambda: time_process([PYTHON, "-c", "pass"]),
        "`videolm --help`": lambda: time_process([COMMAND, "--help"]),
        "`import videolm`": lambda: time_process([PYTHON, "-c", "import videolm"]),
        "`import torch`": lambda: time_process([PYTHON, "-c", "import torch"]),
        "`videolm ask`, process start to first output": lambda: time_to_first_output(ask),
        "`videolm ask`, process start to exit": lambda: time_process(ask),
    }
    for case in cases.values():
        case()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in tqdm(range(plan.startup_repeats), desc="start-up", disable=None):
        for name, case in cases.items():
            taken[name].append(case())
    return Section(
        title="Start-up",
        question="How long does a person wait for the command line, and for the first word of an answer about a clip?",
        setting=(
            f"Each row is a fresh process, from its start to its end or to the first byte of the answer on standard "
            f"output; one run of each to warm the disk, then {plan.startup_repeats} rounds over all rows. The question "
            f"is the demo's: `videolm ask {clip.name} {json.dumps(question)}`, bundled model, CPU."
        ),
        columns=COLUMNS,
        rows=tuple((name, spread_text(times), str(len(times))) for name, times in taken.items()),
        reading=tuple(f"{name}: {statistics.median(times) / 1000:.2f} s." for name, times in taken.items()),
    )


def demo_question() -> tuple[Path, str]:
    """The first question that ``make demo`` asks, and the clip it is about."""
    first = load_questions(Path(str(files("videolm"))) / "mini" / "media")[0]
    return first.media, first.question


def time_process(command: list[str], env: dict[str, str] | None = None) -> float:
    """Milliseconds until the process has ended well."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    return (time.perf_counter() - start) * 1000


def time_to_first_output(command: list[str], env: dict[str, str] | None = None) -> float:
    """Milliseconds until the process has written its first byte to standard output."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        elapsed_ms = (time.perf_counter() - start) * 1000
        process.stdout.read()
    if not first or process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with status {process.returncode} and without an answer; run it by hand.")
    return elapsed_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    print_section(run(plan_of(parser.parse_args())))


if __name__ == "__main__":
    main()
