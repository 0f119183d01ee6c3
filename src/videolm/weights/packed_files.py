"""Weight files with quantised layers in, what is packed in them and the same files as if nothing were packed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from videolm.errors import CheckpointError
from videolm.weights.bitsandbytes_files import EightBitWeight, FourBitWeight, find_bitsandbytes
from videolm.weights.files import WeightFiles
from videolm.weights.quantize import GROUP_SIZES, SCALE_DTYPE
from videolm.weights.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear

__all__ = ["OWN", "EightBitWeight", "FourBitWeight", "PackedWeight", "dequantized_files", "find_packed"]

OWN = "own"
"""The kind of weights that this library quantised."""


class PackedWeight(Protocol):
    """The weight of one linear layer that several tensors of a file hold."""

    kind: str
    """``OWN``, or what bitsandbytes calls it: nf4, fp4, int8."""
    shape: tuple[int, int]
    """Of the weight that they stand for."""
    keys: tuple[str, ...]
    """Their names."""

    def dequantize(self) -> Tensor:
        """The weight in float32."""
        ...

    def layer(self, linear: nn.Linear, device: torch.device | str) -> nn.Module:
        """What takes the place of a linear layer with this weight."""
        ...


class OwnWeight:
    """Numbers and scales of this library."""

    kind = OWN

    def __init__(self, files: WeightFiles, key: str) -> None:
        self.keys: tuple[str, ...] = (key, f"{key}_scale")
        self._files = files
        numbers, scales = (files.shape(name) for name in self.keys)
        per_byte = len(scales)  # One scale a row, or one for each group in it, whose numbers share bytes.
        width = numbers[-1] * per_byte
        group = width // scales[-1] if per_byte == 2 else None
        known = group in GROUP_SIZES and width == group * scales[-1] if group is not None else per_byte == 1
        if not known or len(numbers) != 2 or scales[0] != numbers[0]:
            raise CheckpointError(
                f"{key} in {files.folder} has the shape {list(numbers)} and its scales {list(scales)}: expected one "
                "scale for each row, or for each 32, 64 or 128 numbers in it. The file is damaged; save it again."
            )
        self.shape = (numbers[0], width)
        self._layer_class: type[QuantizedLinear] = Int8Linear if per_byte == 1 else Int4Linear

    def dequantize(self) -> Tensor:
        """The weight in float32."""
        return self._layer(None, "cpu").dequantize(torch.float32)

    def layer(self, linear: nn.Linear, device: torch.device | str) -> nn.Module:
        """The quantised layer."""
        return self._layer(linear.bias, device)

    def _layer(self, bias: nn.Parameter | None, device: torch.device | str) -> QuantizedLinear:
        tensors = [self._files.read(name) for name in self.keys]
        expected = [torch.int8 if self._layer_class is Int8Linear else torch.uint8, SCALE_DTYPE]
        if [tensor.dtype for tensor in tensors] != expected:
            raise CheckpointError(
                f"{self.keys[0]} in {self._files.folder} is {tensors[0].dtype} with scales of {tensors[1].dtype}: "
                f"expected {expected[0]} and {expected[1]}. Save the quantised model again."
            )
        numbers, scales = (tensor.to(device, copy=True) for tensor in tensors)
        return self._layer_class(numbers, scales, bias, in_features=self.shape[1])


def find_packed(files: WeightFiles) -> dict[str, PackedWeight]:
    """The weights that are not stored as they are, by the name that they would have then."""
    scaled = (key.removesuffix("_scale") for key in files if key.endswith(".weight_scale"))
    own = {key: OwnWeight(files, key) for key in scaled if key in files}
    return {**own, **find_bitsandbytes(files)}


class _DequantizedTensors:
    """Tensors with the packed ones under the names of what they stand for."""

    def __init__(self, files: WeightFiles, packed: Mapping[str, PackedWeight]) -> None:
        hidden = {key for weight in packed.values() for key in weight.keys}
        self._files = files
        self._packed = packed
        self._keys = [key for key in files if key not in hidden or key in packed]

    def keys(self) -> list[str]:
        return self._keys

    def shape(self, key: str) -> tuple[int, ...]:
        return self._packed[key].shape if key in self._packed else self._files.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        return torch.float32 if key in self._packed else self._files.dtype(key)

    def read(self, key: str) -> Tensor:
        return self._packed[key].dequantize() if key in self._packed else self._files.read(key)


def dequantized_files(files: WeightFiles, packed: Mapping[str, PackedWeight]) -> WeightFiles:
    """The same tensors, the packed ones in floating point; they are computed when they are read."""
    if not packed:
        return files
    return WeightFiles.over(files.folder, _DequantizedTensors(files, packed))
