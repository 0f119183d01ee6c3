"""A caller's stopping criteria and stop strings in, for every row of a batch whether it has ended out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from videolm.errors import ArgumentError

Criterion = Callable[[Tensor, Any], Any]
"""``(input_ids [B, S], scores) -> bool or bool [B]``."""

__all__ = ["Criterion", "listed", "read_criteria", "rows_met"]


def listed(value: Any) -> list[Any]:
    """None, one callable or several as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def read_criteria(given: Any, stop_strings: Sequence[str], tokenizer: Any, prompt_len: int) -> list[Criterion]:
    """A caller's criteria, each by itself, and one for stop strings.

    Args:
        tokenizer: What decodes new ids; needed for stop strings.
        prompt_len: Columns before the first new id.
    """
    criteria = listed(given)
    if not stop_strings:
        return criteria
    if tokenizer is None:
        raise ArgumentError(
            f"stop_strings is {list(stop_strings)!r} without a tokenizer: ids become text only with one. "
            "Pass tokenizer=processor.tokenizer."
        )

    def holds_stop(ids: Tensor, _: Any) -> Tensor:
        texts = [tokenizer.decode(row) for row in ids[:, prompt_len:].tolist()]
        return torch.tensor([any(stop in text for stop in stop_strings) for text in texts])

    return [*criteria, holds_stop]


def rows_met(criteria: Sequence[Criterion], ids: Tensor, scores: Any) -> list[bool]:
    """Which rows any of the criteria ends."""
    met = torch.zeros(len(ids), dtype=torch.bool)
    for criterion in criteria:
        met = met | torch.as_tensor(criterion(ids, scores), dtype=torch.bool).cpu()
    return [bool(value) for value in met.tolist()]
