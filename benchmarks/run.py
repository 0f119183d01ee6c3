"""Runs every benchmark and writes the dated report: ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path

import bench_decode
import bench_preprocess
import bench_startup
from plans import add_plan_arguments, plan_of
from reports import ROOT, report_name, report_text

RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("decode", "preprocess", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES, help="which benchmarks (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the report (default: benchmarks/results)")
    arguments = parser.parse_args()
    plan, sections = plan_of(arguments), []
    if "decode" in arguments.only:
        sections.append(bench_decode.run(plan, arguments.cache))
    if "preprocess" in arguments.only:
        sections.extend(bench_preprocess.run(plan, arguments.cache))
    if "startup" in arguments.only:
        sections.append(bench_startup.run(plan))
    today = datetime.date.today()
    text = report_text(sections, arguments=sys.argv[1:], today=today)
    if arguments.quick:
        print(text)  # a trial is no measurement, so it leaves no report
        return
    path = arguments.out / report_name("-".join(arguments.only), today)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    print(path)


if __name__ == "__main__":
    main()
