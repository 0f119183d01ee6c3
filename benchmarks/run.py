"""Runs benchmarks and writes the dated report: ``python benchmarks/run.py``.

``--only`` names rows; without it all are run, in little more than an hour on two cores. Those about the engine have a
peer in an environment of its own (``make bench-env``); ``--json`` prints one of them as one object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import bench_decode
import bench_engine
import bench_preprocess
import bench_startup
import engine_plan
from engine_rows import EngineRow
from plans import add_plan_arguments, plan_of
from reports import ROOT, Section, report_name, report_text

RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("decode", "preprocess", "startup")
ENGINE_NAMES = bench_engine.NAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    parser.add_argument("--full", action="store_true", help="larger sizes and more repeats of rows about the engine")
    parser.add_argument("--only", choices=(*NAMES, *ENGINE_NAMES), nargs="+", help="which rows (default: all)")
    parser.add_argument("--json", action="store_true", help="print one row about the engine as one JSON object")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the report (default: benchmarks/results)")
    arguments = parser.parse_args()
    only = arguments.only or (*NAMES, *ENGINE_NAMES)
    engine_names = [name for name in only if name in ENGINE_NAMES]
    if arguments.json and (len(only) != 1 or not engine_names):
        parser.error(f"--json goes with --only and one of {', '.join(ENGINE_NAMES)}")
    sections = _sections(arguments, only)
    sizes = engine_plan.QUICK if arguments.quick else engine_plan.FULL if arguments.full else engine_plan.DEFAULT
    rows = [bench_engine.run(name, sizes, arguments.cache) for name in engine_names]
    sections += [row.as_section() for row in rows]
    today = datetime.date.today()
    text = report_text(sections, arguments=sys.argv[1:], today=today)
    if not arguments.quick:  # A trial is no measurement, so it leaves no report.
        path = arguments.out / report_name("-".join(arguments.only or ["all"]), today)
        _write(path, text, rows)
        print(path)
    elif not arguments.json:
        print(text)
    if arguments.json:
        print(json.dumps(rows[0].as_object()))


def _sections(arguments: argparse.Namespace, only: Sequence[str]) -> list[Section]:
    """What the benchmarks of media and of starting found."""
    plan, sections = plan_of(arguments), list[Section]()
    if "decode" in only:
        sections.append(bench_decode.run(plan, arguments.cache))
    if "preprocess" in only:
        sections.extend(bench_preprocess.run(plan, arguments.cache))
    if "startup" in only:
        sections.append(bench_startup.run(plan))
    return sections


def _write(path: Path, text: str, rows: Sequence[EngineRow]) -> None:
    """The report, whole or not at all, and its plots beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if row.draw is not None:
            plot = path.with_name(f"{path.stem}.png" if len(rows) == 1 else f"{path.stem}_{row.name}.png")
            row.draw(plot)
            text += f"\n![{row.question}]({plot.name})\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
