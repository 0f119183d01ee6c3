"""Linear layers with weights in int8 or int4: activations in, their products with the dequantised weights out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from videolm.weights import int4_layout
from videolm.weights.int8_products import can_multiply_int8, lay_out_int8, multiply_int8
from videolm.weights.quantize import WeightQuantization, from_nibbles, quantize_int4, quantize_int8

__all__ = ["Int4Linear", "Int8Linear", "QuantizedLinear", "quantized_linear"]

_ROWS_AT_ONCE = 512
"""Weight rows unpacked at a time on a CPU: few enough that they stay in its cache until they are multiplied."""


class QuantizedLinear(nn.Module):
    """A linear layer for inference; gradients reach its input, not its weights."""

    max_kernel_rows: ClassVar[int]
    """Activations up to which torch's packed kernel is faster than unpacking the weights for an ordinary product."""
    weight: nn.Parameter
    weight_scale: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: nn.Parameter | None, *, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = len(weight)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(weight_scale, requires_grad=False)
        self.register_parameter("bias", bias)

    @classmethod
    def quantize(cls, weight: Tensor, bias: nn.Parameter | None, how: WeightQuantization) -> Self:
        """From a weight ``[out, in]`` in floating point."""
        raise NotImplementedError

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight ``[out, in]`` in floating point."""
        raise NotImplementedError

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]``."""
        if hidden.device.type != "cpu" or (torch.is_grad_enabled() and hidden.requires_grad):
            return functional.linear(hidden, self.dequantize(hidden.dtype), self.bias)
        rows = hidden.reshape(-1, self.in_features)
        if hidden.dtype == torch.bfloat16 and 0 < len(rows) <= self._most_kernel_rows() and self._has_kernel():
            product = self._by_kernel(rows)
        else:
            product = self._of_many(rows)
        if self.bias is not None:
            product += self.bias
        return product.view(*hidden.shape[:-1], self.out_features)

    def _most_kernel_rows(self) -> int:
        return self.max_kernel_rows

    def _has_kernel(self) -> bool:
        raise NotImplementedError

    def _by_kernel(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _of_many(self, rows: Tensor) -> Tensor:
        product = rows.new_empty(len(rows), self.out_features)
        for channels, part in self._by_blocks(rows):
            product[:, channels] = part
        return product

    def _by_blocks(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The product for some output channels after the other, without the bias."""
        raise NotImplementedError

    def _channels(self) -> Iterator[slice]:
        for start in range(0, self.out_features, _ROWS_AT_ONCE):
            yield slice(start, min(start + _ROWS_AT_ONCE, self.out_features))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move; numbers and scales keep their dtype when the model is given another."""
        for name in ("weight", "weight_scale"):
            kept = self._parameters[name]
            assert kept is not None
            moved = fn(kept.data)
            moved = moved if moved.dtype == kept.dtype else kept.data.to(moved.device)
            self._parameters[name] = nn.Parameter(moved, requires_grad=False)
        if self.bias is not None:
            self.bias = nn.Parameter(fn(self.bias.data), requires_grad=self.bias.requires_grad)
        return self

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantizedLinear):
    """``weight`` ``[out, in]`` int8, ``weight_scale`` ``[out]``; the kernel takes them as they are."""

    # Measured with 11008 x 4096 weights on one core with AVX-512 bf16: 12 ms against 14 at 8 rows, 23 against 18 at 16.
    max_kernel_rows = 8
    # 4096 x 1024 weights on two cores: 0.57 ms against 0.47 at 4 rows, 1.2 against 0.5 at 8.
    max_kernel_rows_beside_rounding = 4
    rounds_activations = False
    """Whether those of more rows are rounded to int8 as well, where a CPU multiplies in that."""
    _laid_out: tuple[Tensor, Tensor] | None = None
    """Of weight and scale, once it was needed: a second copy of the numbers."""

    @classmethod
    def quantize(cls, weight: Tensor, bias: nn.Parameter | None, how: WeightQuantization) -> Self:
        """From a weight ``[out, in]`` in floating point."""
        made = cls(*quantize_int8(weight), bias, in_features=weight.shape[1])
        made.rounds_activations = how.activations == "int8"
        return made

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight ``[out, in]`` in floating point."""
        return (self.weight.float() * self.weight_scale.float()[:, None]).to(dtype)

    def _most_kernel_rows(self) -> int:
        return self.max_kernel_rows_beside_rounding if self._multiplies_int8() else self.max_kernel_rows

    def _multiplies_int8(self) -> bool:
        return self.rounds_activations and can_multiply_int8()

    def _has_kernel(self) -> bool:
        # The kernel reads past the end of rows of other lengths.
        return self.in_features % 16 == 0

    def _by_kernel(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.weight_scale)
        return product

    def _of_many(self, rows: Tensor) -> Tensor:
        if not self._multiplies_int8() or rows.dtype != torch.bfloat16 or not len(rows):
            return super()._of_many(rows)
        if self._laid_out is None:
            self._laid_out = lay_out_int8(self.weight.data), self.weight_scale.data.float()
        return multiply_int8(rows, *self._laid_out)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._laid_out = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_laid_out": None}

    def _by_blocks(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        space = rows.new_empty(min(_ROWS_AT_ONCE, self.out_features), self.in_features)
        for channels in self._channels():
            numbers = space[: channels.stop - channels.start].copy_(self.weight[channels])  # whole numbers stay exact
            yield channels, functional.linear(rows, numbers).mul_(self.weight_scale[channels].to(rows.dtype))


class Int4Linear(QuantizedLinear):
    """``weight`` ``[out, in / 2]`` uint8, ``weight_scale`` ``[out, groups]``.

    On a CPU both lie as the kernel wants them, and nothing is held twice: a state dict has them as described here.
    """

    # As above: 104 ms against 107 at 96 rows, 143 against 129 at 128.
    max_kernel_rows = 96

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: nn.Parameter | None, *, in_features: int) -> None:
        super().__init__(weight, weight_scale, bias, in_features=in_features)
        self.group_size = in_features // weight_scale.shape[1]
        self.is_packed = False
        self._pack()

    @classmethod
    def quantize(cls, weight: Tensor, bias: nn.Parameter | None, how: WeightQuantization) -> Self:
        """From a weight ``[out, in]`` in floating point."""
        assert how.group_size is not None
        return cls(*quantize_int4(weight, how.group_size), bias, in_features=weight.shape[1])

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight ``[out, in]`` in floating point."""
        return self._dequantized(slice(0, self.out_features), torch.float32).to(dtype)

    def stored(self) -> dict[str, Tensor]:
        """Numbers and scales as files hold them."""
        if not self.is_packed:
            return {"weight": self.weight.data, "weight_scale": self.weight_scale.data}
        scales = self.weight_scale.data[..., 0].t().contiguous()
        return {"weight": int4_layout.unpack(self.weight.data), "weight_scale": scales}

    def _has_kernel(self) -> bool:
        return self.is_packed

    def _by_kernel(self, rows: Tensor) -> Tensor:
        kernel = torch.ops.aten._weight_int4pack_mm_for_cpu
        product: Tensor = kernel(rows, self.weight, self.group_size, self.weight_scale)
        return product

    def _by_blocks(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for channels in self._channels():
            yield channels, functional.linear(rows, self._dequantized(channels, rows.dtype))

    def _dequantized(self, channels: slice, dtype: torch.dtype) -> Tensor:
        numbers = (int4_layout.numbers_of if self.is_packed else from_nibbles)(self.weight[channels])
        scales = self.weight_scale[:, channels, 0].t() if self.is_packed else self.weight_scale[channels]
        signed = numbers.view(torch.int8).sub_(8).to(dtype).view(len(numbers), -1, self.group_size)
        return signed.mul_(scales[..., None].to(dtype)).flatten(1)

    def _pack(self) -> None:
        on_cpu = self.weight.device.type == "cpu"
        if not on_cpu or self.is_packed or self.out_features % int4_layout.BLOCK_ROWS or not int4_layout.has_kernel():
            return
        scales = self.weight_scale.data.t()
        # The kernel adds a zero point to each group, which is zero here.
        self.weight_scale = nn.Parameter(torch.stack([scales, torch.zeros_like(scales)], dim=-1), requires_grad=False)
        self.weight = nn.Parameter(int4_layout.pack(self.weight.data), requires_grad=False)
        self.is_packed = True

    def _unpack(self) -> None:
        for name, tensor in self.stored().items():
            self._parameters[name] = nn.Parameter(tensor, requires_grad=False)
        self.is_packed = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._unpack()
        super()._apply(fn, recurse)
        self._pack()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: tensor for name, tensor in self.stored().items()})


_CLASSES: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, "int4": Int4Linear}


def quantized_linear(weight: Tensor, bias: nn.Parameter | None, how: WeightQuantization) -> QuantizedLinear:
    """The layer that takes the place of one with this weight ``[out, in]`` in floating point."""
    return _CLASSES[how.scheme].quantize(weight, bias, how)
