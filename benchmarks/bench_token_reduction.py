"""What keeping fewer visual tokens costs in right answers: clips of moving shapes, five fractions, both methods."""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reports import ROOT, Section, report_name, report_text

from videolm.contracts import Answerer
from videolm.evaluation.report import Report
from videolm.evaluation.runner import run_task
from videolm.evaluation.scoring import Share
from videolm.evaluation.tasks.moving_shapes import MovingShapes
from videolm.session import load
from videolm.world.test_set import WorldItem, load_items

RESULTS = ROOT / "benchmarks" / "results"
FRACTIONS = (1.0, 0.75, 0.5, 0.25, 0.1)
METHODS = ("evs", "fastvid")
COLUMNS = ("method", "kept", "visual tokens", "right answers", "95 % interval", "facts found")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One fraction by one method."""

    method: str
    fraction: float
    visual_tokens: float
    accuracy: Share
    recall: Share

    def as_row(self) -> tuple[str, ...]:
        low, high = self.accuracy.interval() or (0.0, 0.0)
        return (
            self.method,
            f"{self.fraction:.0%}",
            f"{self.visual_tokens:g}",
            f"{percent(self.accuracy)} ({self.accuracy.hits} of {self.accuracy.total})",
            f"{100 * low:.1f} % to {100 * high:.1f} %",
            percent(self.recall),
        )


def measure(answerer: Answerer, items: Sequence[WorldItem]) -> list[Measured]:
    """All fractions by both methods; all of the tokens are asked about once, since nothing is left out then."""
    task, found = MovingShapes(items), list[Measured]()
    for method in METHODS:
        for fraction in FRACTIONS:
            if fraction == 1 and found:
                found.append(Measured(**vars(found[0]) | {"method": method}))
                continue
            counted = CountsTokens(answerer)
            report = run_task(task, counted, visual_token_budget=fraction, token_reduction=method)
            found.append(summary(report, counted.visual_tokens, method, fraction))
    return found


class CountsTokens:
    """An answerer that remembers how many visual tokens its answers took."""

    def __init__(self, answerer: Answerer) -> None:
        self.name = answerer.name
        self.model = getattr(answerer, "model", None)
        self.stream, self.chat = answerer.stream, answerer.chat
        self.visual_tokens: list[int] = []
        self._answerer = answerer

    def ask(self, media, question, **options):  # type: ignore[no-untyped-def]
        answer = self._answerer.ask(media, question, **options)
        self.visual_tokens.append(answer.usage.visual_tokens)
        return answer


def summary(report: Report, visual_tokens: Sequence[int], method: str, fraction: float) -> Measured:
    return Measured(
        method=method,
        fraction=fraction,
        visual_tokens=statistics.median(visual_tokens),
        accuracy=report.overall.accuracy,
        recall=report.overall.recall,
    )


def section_of(found: Sequence[Measured], model: str, *, is_whole: bool) -> Section:
    """The table and what it says."""
    whole = found[0]
    part = "all questions about clips" if is_whole else "the first questions about clips: a trial, no measurement"
    readings = [
        f"{each.method} at {each.fraction:.0%}: {percent(each.accuracy)} right, against {percent(whole.accuracy)} with "
        "all tokens."
        for each in found
        if each.fraction < 1
    ]
    return Section(
        title="Token reduction",
        question="How many answers stay right when fewer visual tokens of a clip reach the decoder?",
        setting=(
            f"{model}, moving-shapes: {whole.accuracy.total} questions, {part}; greedy, the model's own number of "
            "frames. A picture keeps all of its tokens, so questions about pictures are left out. The plot beside this "
            "file shows the same with Wilson's intervals."
        ),
        columns=COLUMNS,
        rows=tuple(each.as_row() for each in found),
        reading=tuple(readings),
    )


def percent(share: Share) -> str:
    return "-" if share.value is None else f"{100 * share.value:.1f} %"


def draw(found: Sequence[Measured], path: Path) -> None:
    """Right answers against the share of tokens kept, one line a method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in METHODS:
        points = [each for each in found if each.method == method]
        values = [100 * (each.accuracy.value or 0.0) for each in points]
        ends = [[100 * end for end in each.accuracy.interval() or (0.0, 0.0)] for each in points]
        errors = [
            [max(value - low, 0.0) for value, (low, _) in zip(values, ends, strict=True)],
            [max(high - value, 0.0) for value, (_, high) in zip(values, ends, strict=True)],
        ]
        axes.errorbar([100 * p.fraction for p in points], values, yerr=errors, marker="o", capsize=3, label=method)
    axes.set(xlabel="visual tokens kept, %", ylabel="right answers, %", xlim=(0, 105), ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def clips() -> Iterator[WorldItem]:
    """The questions about clips, kinds in turn."""
    return (item for item in load_items() if item.scene.is_clip)


def first_in_turn(limit: int | None) -> list[WorldItem]:
    """The first questions, as an evaluation with a limit takes them."""
    items = {item.id: item for item in clips()}
    return [items[item.id] for item in islice(MovingShapes(items.values()).items(), limit)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder or a name (default: the bundled model)")
    parser.add_argument("--limit", type=int, help="ask only so many questions, and print instead of writing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for table and plot")
    arguments = parser.parse_args()
    session = load(arguments.model)
    found = measure(session, first_in_turn(arguments.limit))
    section, today = section_of(found, session.name, is_whole=arguments.limit is None), datetime.date.today()
    text = report_text([section], arguments=sys.argv[1:], today=today)
    if arguments.limit is not None:
        print(text)
        return
    path = arguments.out / report_name("token-reduction", today)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(found, path.with_suffix(".png"))
    partial = path.with_suffix(".partial")
    partial.write_text(f"{text}\n![Right answers against tokens kept]({path.stem}.png)\n", encoding="utf-8")
    os.replace(partial, path)
    print(path)


if __name__ == "__main__":
    main()
