"""From scores to a report for people (Markdown) and for programs (a JSON-able dict)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videolm.evaluation.scoring import Share, Summary, summarise
from videolm.evaluation.task import ItemScore, TaskItem

__all__ = ["Report", "ScoredItem"]


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """An item, the answer it got and how that was graded."""

    item: TaskItem
    answer: str
    score: ItemScore


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything one evaluation found."""

    manifest: Mapping[str, Any]
    """What was measured and how: task, version, model, frames, dtype, sampling, packages."""
    scored: Sequence[ScoredItem]
    num_items: int
    """Of the whole task, or of the part that was asked for."""

    @property
    def overall(self) -> Summary:
        return summarise(scored.score for scored in self.scored)

    def by_category(self) -> dict[str, Summary]:
        """A summary of each category, in the order in which they first come."""
        return self._grouped({scored.item.id: scored.item.category for scored in self.scored})

    def by_tag(self, tag: str) -> dict[str, Summary]:
        """A summary of each value of a tag; items without it are left out."""
        return self._grouped({s.item.id: s.item.tags[tag] for s in self.scored if tag in s.item.tags})

    def _grouped(self, group_of: Mapping[str, str]) -> dict[str, Summary]:
        groups: dict[str, list[ItemScore]] = {}
        for scored in self.scored:
            if scored.item.id in group_of:
                groups.setdefault(group_of[scored.item.id], []).append(scored.score)
        return {group: summarise(scores) for group, scores in groups.items()}

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tag for scored in self.scored for tag in scored.item.tags))

    def as_dict(self) -> dict[str, Any]:
        """The content of ``report.json``."""
        return {
            "manifest": dict(self.manifest),
            "num_items": self.num_items,
            "num_answered": len(self.scored),
            "overall": _summary_dict(self.overall),
            "categories": {name: _summary_dict(summary) for name, summary in self.by_category().items()},
            "tags": {
                tag: {name: _summary_dict(summary) for name, summary in self.by_tag(tag).items()} for tag in self.tags
            },
        }

    def as_markdown(self, *, num_mistakes: int = 3) -> str:
        """The content of ``report.md``: manifest, table by category, and the first mistakes of each."""
        lines = [f"# {self.manifest.get('task', 'evaluation')}: {self.manifest.get('model', 'unknown model')}", ""]
        lines += [f"- {name}: {value}" for name, value in self.manifest.items()]
        lines += [f"- answered: {len(self.scored)} of {self.num_items}", ""]
        lines += _table("category", {**self.by_category(), "all": self.overall})
        for tag in self.tags:
            lines += ["", *_table(tag, self.by_tag(tag))]
        lines += self._mistakes(num_mistakes)
        return "\n".join(lines) + "\n"

    def _mistakes(self, num_mistakes: int) -> list[str]:
        lines: list[str] = []
        for category in self.by_category():
            wrong = [s for s in self.scored if s.item.category == category and not s.score.is_right][:num_mistakes]
            for scored in wrong:
                asked, said = _one_line(scored.item.question), _one_line(scored.answer)
                expected = _one_line(scored.item.expected)
                lines.append(f"- {category}, {scored.item.id}: {asked} Expected: {expected} Answer: {said or '(none)'}")
        return ["", "First mistakes of each category:", "", *lines] if lines else []


def _table(title: str, summaries: Mapping[str, Summary]) -> list[str]:
    lines = [
        f"| {title} | right | of | accuracy | 95 % interval | precision of facts | recall of facts |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, summary in summaries.items():
        accuracy, interval = summary.accuracy, summary.accuracy.interval()
        between = f"{interval[0]:.1%} to {interval[1]:.1%}" if interval else "-"
        lines.append(
            f"| {name} | {accuracy.hits} | {accuracy.total} | {_percent(accuracy)} | {between} | "
            f"{_percent(summary.precision)} | {_percent(summary.recall)} |"
        )
    return lines


def _percent(share: Share) -> str:
    return "-" if share.value is None else f"{share.value:.1%}"


def _one_line(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}..."


def _summary_dict(summary: Summary) -> dict[str, Any]:
    return {
        "right": summary.accuracy.hits,
        "total": summary.accuracy.total,
        "accuracy": summary.accuracy.value,
        "interval_95": summary.accuracy.interval(),
        "precision": summary.precision.value,
        "recall": summary.recall.value,
        "facts_stated": summary.precision.total,
        "facts_expected": summary.recall.total,
    }
