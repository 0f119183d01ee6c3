"""The logits of a step in, the likeliest tokens of all requests that take them out: brought to the host at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from videolm.generation.sampling import likeliest

__all__ = ["Best", "best_of"]

Best = Sequence[tuple[int, float]]
"""For each row of one request the likeliest token and its logit; empty where they are not looked for together."""


def best_of(logits: Tensor, counts: Sequence[int], takes_best: Sequence[bool]) -> list[Best]:
    """The likeliest tokens of the requests that take them.

    Args:
        logits: ``[sum(counts), V]``, one request after the other.
        counts: Rows of each request.
        takes_best: Which requests need no sampler.
    """
    num_wanted = sum(count for count, takes in zip(counts, takes_best, strict=True) if takes)
    # A single row on a CPU, where nothing is waited for, is as fast by itself.
    if num_wanted < (2 if logits.device.type == "cpu" else 1):
        return [()] * len(counts)
    # Picking rows on a GPU would take a transfer of its own.
    rows = iter(likeliest(logits))
    found = [tuple(islice(rows, count)) for count in counts]
    return [best if takes else () for best, takes in zip(found, takes_best, strict=True)]
