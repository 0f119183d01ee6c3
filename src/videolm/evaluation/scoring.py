"""Counts and what they say: shares with Wilson's interval, precision and recall of sets of facts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from videolm.evaluation.task import ItemScore

__all__ = ["Share", "Summary", "compare_facts", "summarise"]


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many."""

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        return self.hits / self.total if self.total else None

    def interval(self, z: float = 1.959964) -> tuple[float, float] | None:
        """Wilson's score interval, at 95 % unless another ``z`` is given; None without trials."""
        if not self.total:
            return None
        share, spread = self.hits / self.total, z * z / self.total
        centre = (share + spread / 2) / (1 + spread)
        half = z / (1 + spread) * math.sqrt(share * (1 - share) / self.total + spread / (4 * self.total))
        return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Several answers together."""

    accuracy: Share
    """Answers with every expected fact and no false one."""
    precision: Share
    """Of the facts stated, those that are true."""
    recall: Share
    """Of the facts expected, those that are stated."""


def compare_facts(expected: Collection[str], stated: Collection[str], allowed: Collection[str] = ()) -> ItemScore:
    """Grade stated facts against those expected and those that are true as well; each order is kept."""
    return ItemScore(
        found=tuple(fact for fact in expected if fact in stated),
        missing=tuple(fact for fact in expected if fact not in stated),
        extra=tuple(fact for fact in stated if fact not in expected and fact in allowed),
        false=tuple(fact for fact in stated if fact not in expected and fact not in allowed),
    )


def summarise(scores: Iterable[ItemScore]) -> Summary:
    """Sums over all facts, so that an item weighs as much as it has facts."""
    scores = list(scores)
    return Summary(
        accuracy=Share(hits=sum(score.is_right for score in scores), total=len(scores)),
        precision=Share(hits=sum(s.num_true for s in scores), total=sum(s.num_stated for s in scores)),
        recall=Share(hits=sum(len(s.found) for s in scores), total=sum(s.num_expected for s in scores)),
    )
