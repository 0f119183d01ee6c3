"""Weights as bitsandbytes quantises and transformers saves them in, the same in floating point out, without either."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from videolm.errors import CheckpointError
from videolm.weights.bitsandbytes_layers import EightBitTensors, FourBitTensors, eight_bit_layer, four_bit_layer
from videolm.weights.files import WeightFiles

__all__ = ["EightBitWeight", "FourBitWeight", "find_bitsandbytes"]

_STATE = ".quant_state.bitsandbytes__"
_TYPES = ("nf4", "fp4")
_CHUNK = 1_000_000
"""Numbers that are dequantised at a time, so that what is needed in between stays small."""


class FourBitWeight:
    """NF4 or FP4: sixteen values, scaled block by block; the scales may be quantised themselves."""

    def __init__(self, files: WeightFiles, key: str, state_key: str) -> None:
        self.kind = state_key.rpartition("__")[2]
        self._files = files
        self._key = key
        self._parts = {"quant_state": state_key, "absmax": f"{key}.absmax", "quant_map": f"{key}.quant_map"}
        self._state = _read_state(files, state_key)
        if "nested_blocksize" in self._state:
            self._parts |= {name: f"{key}.{name}" for name in ("nested_absmax", "nested_quant_map")}
        self.keys: tuple[str, ...] = (key, *self._parts.values())
        self.shape: tuple[int, int] = (self._state["shape"][0], self._state["shape"][1])
        self.block_size: int = self._state["blocksize"]
        problem = self._problem()
        if problem:
            raise CheckpointError(
                f"The four-bit weight {key} in {files.folder} {problem}: expected all that bitsandbytes writes for nf4 "
                "or fp4. Save or download the model again."
            )

    def dequantize(self) -> Tensor:
        """The weight in float32."""
        read = {name: self._files.read(key) for name, key in self._parts.items()}
        scales = read["absmax"].float()
        if "nested_absmax" in read:
            nested = read["nested_quant_map"].float()[read["absmax"].long()]
            scales = _scaled(nested, read["nested_absmax"].float(), self._state["nested_blocksize"])
            scales = scales + self._state["nested_offset"]
        table, packed = read["quant_map"].float(), self._bytes()
        weight = torch.empty(math.prod(self.shape))
        step = self.block_size * max(1, _CHUNK // self.block_size)
        for start in range(0, len(weight), step):
            part = packed[start // 2 : (start + step + 1) // 2]
            # The first of two numbers lies in the high half.
            numbers = torch.stack([part >> 4, part & 15], dim=-1).flatten()
            chunk = weight[start : start + step]
            values = table[numbers[: len(chunk)].int()]
            chunk.copy_(_scaled(values, scales[start // self.block_size :], self.block_size))
        return weight.view(self.shape)

    def layer(
        self, linear: nn.Linear, device: torch.device | str, *, compute_dtype: torch.dtype | None = None
    ) -> nn.Module:
        """The layer of bitsandbytes."""
        state = {name: self._files.read(key) for name, key in self._parts.items() if name != "quant_state"}
        state[f"quant_state.bitsandbytes__{self.kind}"] = self._files.read(self._parts["quant_state"])
        tensors = FourBitTensors(self._bytes()[:, None], state)
        return four_bit_layer(linear, tensors, compute_dtype=compute_dtype, device=device)

    def _problem(self) -> str:
        """What is wrong with the tensors, if anything is."""
        missing = [name for name in self.keys if name not in self._files]
        if missing:
            return f"lacks {', '.join(missing)}"
        if self.kind not in _TYPES:
            return f"is of the type {self.kind}"
        count = math.prod(self.shape)
        num_scales = math.ceil(count / self.block_size)
        sizes = {"quant_map": 16, "absmax": num_scales, "nested_quant_map": 256}
        if "nested_blocksize" in self._state:
            sizes["nested_absmax"] = math.ceil(num_scales / self._state["nested_blocksize"])
        expected = {self._parts[name]: (size,) for name, size in sizes.items() if name in self._parts}
        for key, shape in expected.items():
            if self._files.shape(key) != shape:
                return f"has {key} of the shape {list(self._files.shape(key))} in the place of {list(shape)}"
        num_bytes = math.prod(self._files.shape(self._key)) * self._files.dtype(self._key).itemsize
        return "" if num_bytes == math.ceil(count / 2) else f"has {num_bytes} bytes for {count} numbers"

    def _bytes(self) -> Tensor:
        """Two numbers in each, in whatever dtype the file keeps them."""
        return self._files.read(self._key).flatten().view(torch.uint8)


class EightBitWeight:
    """Numbers from -127 to 127 and the largest entry of each row."""

    kind = "int8"

    def __init__(self, files: WeightFiles, key: str) -> None:
        self._files = files
        self._row_maxima = f"{key.removesuffix('weight')}SCB"
        extra = f"{key}_format"
        self.keys: tuple[str, ...] = (key, self._row_maxima, *([extra] if extra in files else []))
        shape = files.shape(key)
        rows = files.shape(self._row_maxima)
        if len(shape) != 2 or rows != shape[:1]:
            raise CheckpointError(
                f"{key} in {files.folder} has the shape {list(shape)} and its SCB {list(rows)}: expected one entry for "
                "each row. Save or download the model again."
            )
        layout = int(files.read(extra)) if extra in files else 0
        if layout != 0:
            raise CheckpointError(
                f"{key} in {files.folder} is laid out for a kind of GPU (weight_format {layout}): expected rows, which "
                "is weight_format 0. Save the model again with a recent bitsandbytes."
            )
        self.shape = (shape[0], shape[1])

    def dequantize(self) -> Tensor:
        """The weight in float32."""
        return self._files.read(self.keys[0]).float() * (self._files.read(self._row_maxima).float()[:, None] / 127)

    def layer(self, linear: nn.Linear, device: torch.device | str) -> nn.Module:
        """The layer of bitsandbytes."""
        tensors = EightBitTensors(self._files.read(self.keys[0]), self._files.read(self._row_maxima))
        return eight_bit_layer(linear, tensors, device=device)


def find_bitsandbytes(files: WeightFiles) -> dict[str, FourBitWeight | EightBitWeight]:
    """The weights that bitsandbytes quantised, by their names."""
    found: dict[str, FourBitWeight | EightBitWeight] = {}
    for key in files:
        base, mark, _ = key.partition(_STATE)
        if mark:
            found[base] = FourBitWeight(files, base, key)
        elif key.endswith(".SCB") and (weight := f"{key.removesuffix('SCB')}weight") in files:
            found[weight] = EightBitWeight(files, weight)
    return found


def _read_state(files: WeightFiles, key: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(bytes(files.read(key).tolist()))
        numbers = [state["blocksize"], *state["shape"], state.get("nested_blocksize", 1)]
        if len(state["shape"]) != 2 or not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"sizes {numbers}")
        if state["blocksize"] % 2 or not isinstance(state.get("nested_offset", 0.0), int | float):
            raise ValueError(f"blocksize {state['blocksize']}, nested_offset {state.get('nested_offset')!r}")
        if "nested_blocksize" in state:
            state["nested_offset"] = float(state["nested_offset"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{key} in {files.folder} cannot be read ({type(error).__name__}: {error}): expected the shape and the "
            "block size of a quantised weight. The file is damaged; save or download the model again."
        ) from error
    return state


def _scaled(values: Tensor, scales: Tensor, block_size: int) -> Tensor:
    """Each block of values by its scale; the last block may be shorter."""
    return values * scales.repeat_interleave(block_size)[: len(values)]
