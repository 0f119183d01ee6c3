"""Tables of one row a token in, the same with rows added or cut off out, as they are read."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from videolm.weights.files import WeightFiles

__all__ = ["with_rows"]


def with_rows(files: WeightFiles, names: Collection[str], num_rows: int) -> WeightFiles:
    """The same tensors, those of these names with so many rows; new ones are the mean of the old."""
    return WeightFiles.over(files.folder, _Resized(files, frozenset(names), num_rows))


class _Resized:
    def __init__(self, files: WeightFiles, names: frozenset[str], num_rows: int) -> None:
        self._files = files
        self._names = names
        self._num_rows = num_rows

    def keys(self) -> list[str]:
        return self._files.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        shape = self._files.shape(key)
        return (self._num_rows, *shape[1:]) if key in self._names else shape

    def dtype(self, key: str) -> torch.dtype:
        return self._files.dtype(key)

    def read(self, key: str) -> Tensor:
        table = self._files.read(key)
        missing = self._num_rows - len(table)
        if key not in self._names or not missing:
            return table
        if missing < 0:
            return table[: self._num_rows]
        mean = table.mean(0, dtype=torch.float32).to(table.dtype)
        return torch.cat([table, mean.expand(missing, *mean.shape)])
