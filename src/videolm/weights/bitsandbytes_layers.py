"""Linear layers of the bitsandbytes package: made from weights in floating point, or from what its files hold."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from videolm.errors import MissingExtraError

__all__ = [
    "EightBit",
    "EightBitTensors",
    "FourBit",
    "FourBitTensors",
    "eight_bit_layer",
    "four_bit_layer",
    "has_bitsandbytes",
    "require_bitsandbytes",
]


@dataclass(frozen=True, kw_only=True)
class FourBit:
    """How a weight is quantised to four bits, and what its layer computes in."""

    quant_type: str
    """``nf4`` or ``fp4``."""
    double_quant: bool
    """Quantise the scales too."""


@dataclass(frozen=True, kw_only=True)
class EightBit:
    """How a weight in eight bits is multiplied."""

    threshold: float
    """Columns with an activation beyond it are multiplied in half precision."""


@dataclass(frozen=True)
class FourBitTensors:
    """A weight that is quantised already."""

    numbers: Tensor
    state: Mapping[str, Tensor]
    """By the names that follow ``weight.`` in a file."""


@dataclass(frozen=True)
class EightBitTensors:
    """A weight that is quantised already."""

    numbers: Tensor
    row_maxima: Tensor


def has_bitsandbytes() -> bool:
    """Whether the package is installed; it is not imported."""
    return importlib.util.find_spec("bitsandbytes") is not None


def four_bit_layer(
    linear: nn.Linear,
    weight: Tensor | FourBitTensors,
    how: FourBit | None = None,
    *,
    compute_dtype: torch.dtype | None = None,
    device: torch.device | str,
) -> nn.Module:
    """The layer that takes the place of ``linear``.

    Args:
        weight: In floating point, to be quantised as ``how`` says, or quantised already.
        compute_dtype: None: that of the activations.
    """
    package = _package()
    layer = package.nn.Linear4bit(linear.in_features, linear.out_features, bias=False, device="meta")
    if isinstance(weight, FourBitTensors):
        state = {name: tensor.clone() for name, tensor in weight.state.items()}
        layer.weight = package.nn.Params4bit.from_prequantized(
            weight.numbers.clone(), state, device=torch.device(device), module=layer
        )
    else:
        assert how is not None
        unquantised = package.nn.Params4bit(
            weight.contiguous(),
            requires_grad=False,
            compress_statistics=how.double_quant,
            quant_type=how.quant_type,
            module=layer,
        )
        layer.weight = unquantised.to(torch.device(device))
    layer.compute_dtype = compute_dtype
    layer.compute_type_is_set = compute_dtype is not None
    # On some CPUs the package would lay weights out anew for a kernel of another package, and round their scales: what
    # is saved afterwards is no longer what was loaded.
    layer.support_avx512bf16_for_cpu = False
    layer.register_parameter("bias", linear.bias)
    return _for_inference(layer)


def eight_bit_layer(
    linear: nn.Linear, weight: Tensor | EightBitTensors, how: EightBit | None = None, *, device: torch.device | str
) -> nn.Module:
    """The layer that takes the place of ``linear``; ``weight`` as for ``four_bit_layer``."""
    package = _package()
    threshold = 6.0 if how is None else how.threshold
    layer = package.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=False,
        has_fp16_weights=False,
        threshold=threshold,
        device="meta",
    )
    if isinstance(weight, EightBitTensors):
        numbers = weight.numbers.to(device, copy=True)
        row_maxima = weight.row_maxima.to(device, torch.float32, copy=True)
        layer.weight = package.nn.Int8Params(numbers, requires_grad=False, CB=numbers, SCB=row_maxima)
    else:
        layer.weight = package.nn.Int8Params(weight.contiguous(), requires_grad=False).to(torch.device(device))
    layer.register_parameter("bias", linear.bias)
    return _for_inference(layer)


def _for_inference(layer: nn.Module) -> nn.Module:
    layer.weight.requires_grad = False
    return layer.eval()


def require_bitsandbytes() -> None:
    """Refuse to go on without the package."""
    if not has_bitsandbytes():
        raise MissingExtraError(
            "Weights were to be quantised by bitsandbytes, which is not installed: run pip install "
            "'videolm[bitsandbytes]', or use quantize='int8' or 'int4', which need no package."
        )


def _package() -> Any:
    require_bitsandbytes()
    package = importlib.import_module("bitsandbytes")
    # For each product in eight bits it logs that activations are cast: once is enough.
    importlib.import_module("bitsandbytes.autograd._functions").logger.addFilter(_said_once)
    return package


_SAID: set[str] = set()


def _said_once(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    is_new = message not in _SAID
    _SAID.add(message)
    return is_new
