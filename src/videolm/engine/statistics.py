"""What happens in an engine, counted, in; one consistent snapshot of it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from videolm.contracts import Usage
from videolm.engine.request import EndReason

__all__ = ["EngineStats", "Tally"]


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """An engine at one moment; what is counted is counted since it was made."""

    num_preparing: int = 0
    """Requests whose media are read, or wait for that."""
    num_waiting: int = 0
    """Requests that wait for room in the batch or in the cache."""
    num_running: int = 0
    num_used_blocks: int = 0
    """Blocks of the cache that running requests hold."""
    num_blocks: int
    prompt_tokens: int = 0
    """Of prompts that were read to their end; these include the next two."""
    visual_tokens: int = 0
    cached_tokens: int = 0
    """Those that were found in the cache of keys and values."""
    generated_tokens: int = 0
    num_steps: int = 0
    """Passes through the model."""
    num_preemptions: int = 0
    """How often a running request gave up its blocks, to be computed again."""
    num_ended: Mapping[EndReason, int] = field(default_factory=dict)
    """Requests by why they ended. What was refused never began."""


class Tally:
    """The counts of one engine; its own thread counts."""

    def __init__(self) -> None:
        self._tokens = {"prompt_tokens": 0, "visual_tokens": 0, "cached_tokens": 0, "generated_tokens": 0}
        self._ended: Counter[EndReason] = Counter()
        self.num_steps = 0

    def drew(self, num_tokens: int, usage: Usage) -> None:
        """Count tokens drawn for one request, and its prompt with the first of them.

        Args:
            usage: With these tokens.
        """
        self._tokens["generated_tokens"] += num_tokens
        if usage.completion_tokens == num_tokens:
            for name in ("prompt_tokens", "visual_tokens", "cached_tokens"):
                self._tokens[name] += getattr(usage, name)

    def ended(self, reason: EndReason) -> None:
        """Count a request that has ended."""
        self._ended[reason] += 1

    def snapshot(self, **now: int) -> EngineStats:
        """All counts, beside what is ``now``."""
        return EngineStats(num_steps=self.num_steps, num_ended=dict(self._ended), **self._tokens, **now)
