"""What a soak found in, the dated report with a plot of the server's memory out."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reports import ROOT, Section, report_name, report_text

if TYPE_CHECKING:
    from soak import Found

RESULTS = ROOT / "benchmarks" / "results"
MIB = 1 << 20


def write_report(found: Found, folder: Path | None = None) -> Path:
    """Write both files; the report's path."""
    today = datetime.date.today()
    path = (folder or RESULTS) / report_name("soak", today)
    path.parent.mkdir(parents=True, exist_ok=True)
    plot = path.with_suffix(".png")
    draw(found, plot)
    text = report_text([section_of(found)], arguments=sys.argv[1:], today=today)
    partial = path.with_suffix(".partial")
    partial.write_text(f"{text}\n![Memory of the server]({plot.name})\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def section_of(found: Found) -> Section:
    """The table of what is held, and what was asked."""
    done, plan = found.client.done, found.plan
    total = sum(count for name, count in done.items() if name != "closed early")
    asked = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    faults = found.faults()
    held = (
        ("processes", str(found.before.num_processes), str(found.after.num_processes)),
        ("threads", str(found.before.num_threads), str(found.after.num_threads)),
        ("open files", str(found.before.num_files), str(found.after.num_files)),
        ("sockets", str(found.before.num_sockets), str(found.after.num_sockets)),
        ("MiB of memory", f"{found.before.memory_bytes / MIB:.1f}", f"{found.after.memory_bytes / MIB:.1f}"),
        (
            "of which the server itself",
            f"{found.before.own_memory_bytes / MIB:.1f}",
            f"{found.after.own_memory_bytes / MIB:.1f}",
        ),
        ("blocks of keys and values in use", "", f"{found.gauges['videolm_cache_blocks_used']:g}"),
    )
    return Section(
        title="soak",
        question="Does a server stay as it is, and right, under hours of use?",
        setting=f"`videolm serve` with the bundled model, {plan.num_clients} clients, {plan.seconds:g} s of load: "
        f"{total} requests ({asked}). Questions about text, clips, pictures, several media and follow-ups, streamed "
        "or whole, by data URL and by upload; each question's answer is compared with the one given alone. Memory is "
        "the anonymous memory of the server and its decoders.",
        columns=("at rest", f"after {plan.warm_up_s:g} s", "at the end"),
        rows=held,
        reading=(
            f"Memory at rest: {found.growth:+.2%}; under load, from the median of the first fifth after the warm-up to "
            f"that of the last: {found.growth_under_load:+.2%}.",
            f"Answers that failed or differed from the one given alone: {len(found.client.problems)}.",
            f"SIGTERM ended the server after {found.end_s:.1f} s with status {found.status}.",
            f"Faults: {'none' if not faults else '; '.join(faults[:10])}.",
        ),
    )


def draw(found: Found, path: Path) -> None:
    """Memory over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([at_s / 60 for at_s, _ in found.samples], [size / MIB for _, size in found.samples], linewidth=1)
    axes.axvline(found.plan.warm_up_s / 60, color="gray", linestyle=":", label="end of the warm-up")
    axes.set(xlabel="minutes of load", ylabel="MiB", title="Anonymous memory of the server and its decoders")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=100)
