"""Runs benchmarks and writes the dated report: ``python benchmarks/run.py``.

``--only`` names rows; without it all are run but those of the servers, in little more than an hour on two cores. The
report is written anew after each row, so that a run that is cut off leaves what it has. Rows about the engine have a
peer in an environment of its own (``make bench-env``), but for ``gpu``, whose table stays empty where no GPU is;
``--json`` prints one of them as one object.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import bench_engine
import engine_plan
from engine_rows import EngineRow
from plans import add_plan_arguments, plan_of
from reports import ROOT, Section, report_name, report_text

RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("decode", "preprocess", "startup")
ENGINE_NAMES = bench_engine.NAMES
DEFAULT_NAMES = (*NAMES, *(name for name in ENGINE_NAMES if name not in bench_engine.BY_NAME_ONLY))


def main() -> None:
    arguments = parse_arguments()
    only = arguments.only or DEFAULT_NAMES
    # Media and starting come first, in their own order.
    names = [name for name in NAMES if name in only] + [name for name in only if name in ENGINE_NAMES]
    report = Report(names=names, today=datetime.date.today())
    path = arguments.out / report_name("-".join(arguments.only or ["all"]), report.today)
    for name in names:
        report.add(name, arguments)
        if not arguments.quick:  # A trial is no measurement, so it leaves no report.
            report.write(path)
    if not arguments.quick:
        print(path)
    elif not arguments.json:
        print(report.text())
    if arguments.json:
        print(json.dumps(report.rows[0].as_object()))


def parse_arguments() -> argparse.Namespace:
    """What is run, how large, and where the report goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_plan_arguments(parser)
    parser.add_argument(
        "--only", choices=(*NAMES, *ENGINE_NAMES), nargs="+",
        help=f"which rows (default: all but {' and '.join(bench_engine.BY_NAME_ONLY)})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one row about the engine as one JSON object")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the report (default: benchmarks/results)")
    arguments = parser.parse_args()
    only = arguments.only or DEFAULT_NAMES
    if arguments.json and (len(only) != 1 or only[0] not in ENGINE_NAMES):
        parser.error(f"--json goes with --only and one of {', '.join(ENGINE_NAMES)}")
    return arguments


@dataclass(kw_only=True)
class Report:
    """What has been measured of the rows that were asked for."""

    names: Sequence[str]
    today: datetime.date
    sections: list[Section] = field(default_factory=list)
    rows: list[EngineRow] = field(default_factory=list)
    """Those about the engine."""
    num_done: int = 0
    plots: list[str] = field(default_factory=list)
    """Lines that show the plots that are drawn."""

    def add(self, name: str, arguments: argparse.Namespace) -> None:
        """Measure a row."""
        start = time.perf_counter()
        if name in NAMES:
            sections = _sections(name, arguments)
        else:
            sizes = (
                engine_plan.QUICK if arguments.quick else engine_plan.FULL if arguments.full else engine_plan.DEFAULT
            )
            self.rows.append(bench_engine.run(name, sizes, arguments.cache))
            sections = [self.rows[-1].as_section()]
        sections[-1] = replace(sections[-1], minutes=(time.perf_counter() - start) / 60)
        self.sections += sections
        self.num_done += 1

    def text(self) -> str:
        """The report as far as it goes."""
        accelerator = next((row.accelerator for row in self.rows if row.accelerator), "")
        missing = self.names[self.num_done :]
        return report_text(
            self.sections, arguments=sys.argv[1:], today=self.today, missing=missing, accelerator=accelerator
        )

    def write(self, path: Path) -> None:
        """The report as far as it goes, whole or not at all, and its plots beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._draw(path)
        partial = path.with_suffix(".partial")
        partial.write_text(self.text() + "".join(self.plots), encoding="utf-8")
        os.replace(partial, path)

    def _draw(self, path: Path) -> None:
        """The plot of the row that was measured last, if it has one."""
        row = self.rows[-1] if self.rows else None
        if row is None or row.draw is None or self.names[self.num_done - 1] != row.name:
            return
        is_alone = len([name for name in self.names if name in ENGINE_NAMES]) == 1
        plot = path.with_name(f"{path.stem}.png" if is_alone else f"{path.stem}_{row.name}.png")
        row.draw(plot)
        self.plots.append(f"\n![{row.question}]({plot.name})\n")


def _sections(name: str, arguments: argparse.Namespace) -> list[Section]:
    """What a benchmark of media or of starting found."""
    module, plan = importlib.import_module(f"bench_{name}"), plan_of(arguments)
    found = module.run(plan) if name == "startup" else module.run(plan, arguments.cache)
    return [found] if isinstance(found, Section) else list(found)


if __name__ == "__main__":
    main()
