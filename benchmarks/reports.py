"""Turns measured tables into the dated Markdown report: question, hardware, versions, command, tables, reading."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "av", "numpy", "pillow", "tokenizers", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one benchmark found."""

    title: str
    question: str
    """One sentence."""
    setting: str
    """Clips, frames, repeats, threads: all that a reader needs to do it again."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reading: tuple[str, ...]
    """Sentences that say what the table says, with its numbers."""
    minutes: float | None = None
    """What the whole row took, in the last section of a row that has several."""

    def as_markdown(self) -> str:
        lines = [f"## {self.title}", "", self.question, "", self.setting, "", *table_lines(self.columns, self.rows), ""]
        lines += [f"- {sentence}" for sentence in self.reading]
        if self.minutes is not None:
            lines += [*([""] if self.reading else []), f"This row took {self.minutes:.1f} minutes."]
        return "\n".join(lines)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def report_text(
    sections: Sequence[Section],
    *,
    arguments: Sequence[str],
    today: datetime.date,
    missing: Sequence[str] = (),
    accelerator: str = "",
) -> str:
    """The whole report, or that of a run that goes on.

    Args:
        missing: Names of rows that are still to be measured.
        accelerator: What was used beside the processor.
    """
    minutes = [section.minutes for section in sections if section.minutes is not None]
    return "\n".join(
        [
            f"# {', '.join(section.title for section in sections)}: {today.isoformat()}",
            "",
            *(f"- {name}: {value}" for name, value in machine_facts(accelerator).items()),
            f"- Command: `{shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *arguments])}`",
            *([f"- The run is not over: still missing are {', '.join(missing)}"] if missing else []),
            "",
            "Times are medians with the range in brackets; CPU time counts every thread of the process.",
            "",
            "\n\n".join(section.as_markdown() for section in sections),
            "",
            *([f"The {len(minutes)} rows took {sum(minutes):.1f} minutes.", ""] if len(minutes) > 1 else []),
        ]
    )


def machine_facts(accelerator: str = "") -> dict[str, str]:
    """Hardware, system and versions, for the head of a report."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    used = accelerator or "no accelerator used"
    return {
        "Hardware": f"{os.cpu_count()} cores of {cpu_name()}{_cpu_generation()}, {_memory_gib()} of memory, {used}",
        "System": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "Versions": f"videolm {_version('videolm')} at {commit()}, {versions}",
    }


def report_name(subject: str, today: datetime.date) -> str:
    """``<subject>_<hardware>_<yyyymm>.md``."""
    hardware = re.sub(r"[^a-z0-9]+", "-", f"{os.cpu_count()}x {cpu_name()}".lower()).strip("-")
    return f"{subject}_{hardware}_{today:%Y%m}.md"


def cpu_name() -> str:
    """The processor's name, as the system states it."""
    name = _cpu_fact("model name")
    return " ".join(name.split()) if name else platform.processor() or platform.machine()


def _cpu_generation() -> str:
    """What tells processors of one name apart: of one day's machine bfloat16 was twice as fast as of another's."""
    family, model = _cpu_fact("cpu family"), _cpu_fact("model")
    return f" (family {family}, model {model})" if family and model else ""


def _cpu_fact(name: str) -> str | None:
    """What Linux states of the first core; None elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else None


def commit() -> str:
    """The commit that is checked out, and whether files of the package or the benchmarks differ from it."""
    try:
        revision = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return f"{revision} with uncommitted changes" if changed else revision


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _memory_gib() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
