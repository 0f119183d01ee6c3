"""The logits of a step in, what its requests draw from them out: brought to the host together, however many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from videolm.generation.sampling import draw_each, likeliest

__all__ = ["Chosen", "Drawing", "choose_together"]

Chosen: TypeAlias = Sequence[tuple[int, float]]
"""For each row of one request the token that it draws and what is to be ``checked`` of it; empty: draw it yourself."""


class Drawing(Protocol):
    """A request that draws tokens; see ``Answering``."""

    @property
    def takes_best(self) -> bool: ...

    @property
    def is_shaped_by_others(self) -> bool: ...

    def shaped(self, logits: Tensor) -> Tensor: ...

    def uniform(self) -> float | None: ...


def choose_together(
    logits: Tensor, counts: Sequence[int], requests: Sequence[Drawing], *, on_gpu: bool | None = None
) -> list[Chosen]:
    """What can be drawn of all requests at once.

    Args:
        logits: ``[sum(counts), V]``, one request after the other.
        counts: Rows of each request: one, and one for each token of its draft, or none.
        requests: Whose rows they are.
        on_gpu: Whether to wait for the device as seldom as can be; None: as the logits lie. Nothing waits for a CPU:
            only likeliest tokens are looked for together there, of several rows.
    """
    if on_gpu is None:
        on_gpu = logits.device.type != "cpu"
    takes_best = [request.takes_best for request in requests]
    num_best = sum(count for count, takes in zip(counts, takes_best, strict=True) if takes)
    chosen = list[Chosen]([()]) * len(counts)
    if num_best >= (1 if on_gpu else 2):
        rows = iter(likeliest(logits))  # All of them: to pick some on a GPU takes a transfer of its own.
        found = [tuple(islice(rows, count)) for count in counts]
        chosen = [each if takes else () for each, takes in zip(found, takes_best, strict=True)]
    if on_gpu:
        _choose_shaped(chosen, torch.split(logits, list(counts)), requests)
    return chosen


def _choose_shaped(chosen: list[Chosen], rows: Sequence[Tensor], requests: Sequence[Drawing]) -> None:
    """Add what is drawn from logits that something has shaped, but for drafts, of which each row waits for the last."""
    shaped = dict[int, Tensor]()
    numbers = dict[int, float | None]()
    for index, request in enumerate(requests):
        if len(rows[index]) == 1 and not (request.takes_best or request.is_shaped_by_others):
            shaped[index], numbers[index] = request.shaped(rows[index][0]), request.uniform()
    best = [index for index, number in numbers.items() if number is None]
    if best:
        for index, found in zip(best, likeliest(torch.stack([shaped[index] for index in best])), strict=True):
            chosen[index] = (found,)
    uniforms = {index: number for index, number in numbers.items() if number is not None}
    if uniforms:
        found_all = draw_each(torch.stack([shaped[index] for index in uniforms]), list(uniforms.values()))
        for index, found in zip(uniforms, found_all, strict=True):
            chosen[index] = (found,)
