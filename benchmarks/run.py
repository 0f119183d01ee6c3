"""Runs benchmarks and writes the dated report: ``python benchmarks/run.py``.

``--only`` names rows. Those about the engine have a peer in an environment of its own (``make bench-env``) and are run
when they are named; ``--json`` prints one of them as one object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

import bench_decode
import bench_engine
import bench_preprocess
import bench_startup
import engine_plan
from plans import add_plan_arguments, plan_of
from reports import ROOT, report_name, report_text

RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("decode", "preprocess", "startup")
ENGINE_NAMES = bench_engine.NAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    parser.add_argument(
        "--only", choices=(*NAMES, *ENGINE_NAMES), nargs="+", default=NAMES, help=f"which (default: {', '.join(NAMES)})"
    )
    parser.add_argument("--json", action="store_true", help="print one row about the engine as one JSON object")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the report (default: benchmarks/results)")
    arguments = parser.parse_args()
    engine_names = [name for name in arguments.only if name in ENGINE_NAMES]
    if arguments.json and (len(arguments.only) != 1 or not engine_names):
        parser.error(f"--json goes with --only and one of {', '.join(ENGINE_NAMES)}")
    plan, sections = plan_of(arguments), []
    if "decode" in arguments.only:
        sections.append(bench_decode.run(plan, arguments.cache))
    if "preprocess" in arguments.only:
        sections.extend(bench_preprocess.run(plan, arguments.cache))
    if "startup" in arguments.only:
        sections.append(bench_startup.run(plan))
    sizes = engine_plan.QUICK if arguments.quick else engine_plan.DEFAULT
    engine_rows = [bench_engine.run(name, sizes, arguments.cache) for name in engine_names]
    sections.extend(row.as_section() for row in engine_rows)
    today = datetime.date.today()
    text = report_text(sections, arguments=sys.argv[1:], today=today)
    if arguments.quick:
        print(json.dumps(engine_rows[0].as_object()) if arguments.json else text)
        return  # a trial is no measurement, so it leaves no report
    path = arguments.out / report_name("-".join(arguments.only), today)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    print(path)
    if arguments.json:
        print(json.dumps(engine_rows[0].as_object()))


if __name__ == "__main__":
    main()
