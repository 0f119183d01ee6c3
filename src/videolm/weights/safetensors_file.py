"""One safetensors file in, its tensors out one at a time, each in memory of its own."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from videolm.weights.writing import DTYPES

__all__ = ["SafetensorsFile"]


class SafetensorsFile:
    """Tensors are read, not seen through a mapping of the file, which would stay in memory beside what is made of them.

    The library checks the header and what it says about places; the bytes are read here.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            SafetensorError: It is damaged or incomplete.
        """
        self._checked: Any = safe_open(str(path), framework="pt", device="cpu")
        self._bytes = path.open("rb", buffering=0)
        weakref.finalize(self, self._bytes.close)
        length = int.from_bytes(self._bytes.read(8), "little")
        header = json.loads(self._bytes.read(length))
        self._places = {
            key: (8 + length + entry["data_offsets"][0], 8 + length + entry["data_offsets"][1])
            for key, entry in header.items()
            if key != "__metadata__"
        }

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self._checked.keys())

    def shape(self, key: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return tuple(self._checked.get_slice(key).get_shape())

    def dtype(self, key: str) -> torch.dtype:
        """Of one tensor, without reading it."""
        return DTYPES[self._checked.get_slice(key).get_dtype()]

    def read(self, key: str) -> Tensor:
        """A tensor.

        Raises:
            OSError: The file has become shorter since it was opened.
        """
        start, end = self._places[key]
        tensor = torch.empty(self.shape(key), dtype=self.dtype(key))
        space = memoryview(tensor.flatten().view(torch.uint8).numpy().data)
        self._bytes.seek(start)
        while len(space):
            count = self._bytes.readinto(space)
            if not count:
                raise OSError(f"The file ends within {key}, whose bytes are {start} to {end}. Copy it again.")
            space = space[count:]
        return tensor
