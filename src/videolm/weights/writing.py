"""Tensors that are read one at a time in, one safetensors file out: no more than one of them is ever in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["DTYPES", "PlannedTensor", "write_safetensors"]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By the names in the header of such a file."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """A tensor that is to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    """In the file."""
    read: Callable[[], Tensor]
    """Called when its turn comes."""

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, tensors: Iterable[PlannedTensor]) -> None:
    """Write one file."""
    # Wide numbers first, as the library does: with that, all of them stand where their width asks.
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    with path.open("wb") as file:
        file.write(_header(ordered))
        for tensor in ordered:
            values = tensor.read().detach().to(device="cpu", dtype=tensor.dtype).contiguous()
            file.write(values.reshape(-1).view(torch.uint8).numpy().data)


def _header(tensors: Sequence[PlannedTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.num_bytes
        dtype = _NAMES[tensor.dtype]
        entries[tensor.name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
