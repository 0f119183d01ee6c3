"""What is asked about fewer bits, what a configuration and its files say: one request out, or a refusal by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from videolm.devices import cpu_has_bfloat16
from videolm.errors import ArgumentError, CheckpointError
from videolm.families.bitsandbytes_config import BitsAndBytesConfig
from videolm.families.declaration import FamilyConfig
from videolm.weights.bitsandbytes_layers import has_bitsandbytes, require_bitsandbytes
from videolm.weights.packed_files import OWN, PackedWeight
from videolm.weights.quantize import WeightQuantization

__all__ = [
    "UNQUANTIZED",
    "Request",
    "check_saving",
    "default_dtype",
    "read_request",
    "settle_request",
    "stored_quantization",
]

UNQUANTIZED = "none"
"""What ``quantize`` is called where quantised files are to be read as floating point."""
Request = WeightQuantization | BitsAndBytesConfig | str | None
"""How layers are to be quantised, ``UNQUANTIZED``, or None for what the files hold."""

_LOG = logging.getLogger(__name__)


def read_request(
    quantize: str | Mapping[str, Any] | WeightQuantization | BitsAndBytesConfig | None,
    quantization_config: Any = None,
    *,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
) -> Request:
    """What was asked for, by whichever of the arguments for it.

    Args:
        quantize: This library's own way.
        quantization_config: A ``BitsAndBytesConfig``, of this library or of another, or a dict with its keys.
        load_in_4bit: Short for a ``BitsAndBytesConfig`` with that and no more; ``load_in_8bit`` likewise.
    """
    given = {"quantize": quantize, "quantization_config": quantization_config}
    given |= {"load_in_4bit": load_in_4bit or None, "load_in_8bit": load_in_8bit or None}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ArgumentError(
            f"{' and '.join(named)} were given: expected one of them, which each say how weights are quantised. "
            f"Leave {'one' if len(named) == 2 else 'all but one'} out."
        )
    if load_in_4bit or load_in_8bit:
        return BitsAndBytesConfig(load_in_4bit=load_in_4bit, load_in_8bit=load_in_8bit)
    if quantization_config is not None:
        return _of_config(quantization_config)
    if quantize is None or quantize == UNQUANTIZED or isinstance(quantize, BitsAndBytesConfig):
        return quantize
    return WeightQuantization.of(quantize)


def _of_config(value: Any) -> WeightQuantization | BitsAndBytesConfig:
    """From an object or a dict; other libraries' objects have ``to_dict``."""
    if isinstance(value, WeightQuantization):
        return value
    if not isinstance(value, Mapping | BitsAndBytesConfig) and hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        method = str(getattr(value.get("quant_method"), "value", value.get("quant_method", "bitsandbytes")))
        if method == "videolm":
            return WeightQuantization.of(value)
        if method != "bitsandbytes":
            raise ArgumentError(
                f"quantization_config asks for {method}: supported is bitsandbytes, and without any package "
                "quantize='int8' or 'int4'. Choose one of these."
            )
        value = BitsAndBytesConfig.from_dict(value)
    if not isinstance(value, BitsAndBytesConfig) or value.method is None:
        what = "asks for nothing" if isinstance(value, BitsAndBytesConfig) else f"is a {type(value).__name__}"
        raise ArgumentError(
            f"quantization_config {what}: expected a BitsAndBytesConfig with load_in_4bit or load_in_8bit. "
            "Set one of these, or leave quantization_config out."
        )
    return value


def stored_quantization(config: FamilyConfig) -> WeightQuantization | None:
    """What a configuration says about its files, if this library quantised them."""
    entry = getattr(config, "quantization_config", None)
    if isinstance(entry, Mapping) and entry.get("quant_method") == "videolm":
        return WeightQuantization.of(entry)
    return None


def default_dtype(config: FamilyConfig, asked: Request, device: torch.device) -> torch.dtype | None:
    """The dtype to load in where none was named; None for that of each tensor in the files."""
    if isinstance(asked, WeightQuantization) and device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16  # Of which alone torch's packed kernels multiply with such weights.
    return config.dtype if config.dtype == torch.float16 else None


def settle_request(config: FamilyConfig, packed: Mapping[str, PackedWeight], asked: Request) -> Request:
    """What is to be done with these files; None where they stay as they are."""
    _check_method(config)
    if isinstance(asked, BitsAndBytesConfig):
        require_bitsandbytes()
    kinds = {weight.kind for weight in packed.values()}
    if not kinds or asked == UNQUANTIZED:
        return asked
    if kinds == {OWN}:
        return _settle_own(config, asked)
    if isinstance(asked, BitsAndBytesConfig) and {asked.method} != kinds:
        raise ArgumentError(
            f"quantization_config asks for {asked.method} and bitsandbytes has quantised the files to "
            f"{' and '.join(sorted(kinds))} already: expected the same, since what they lost does not come back. "
            "Leave quantization_config out, or start from the original weights."
        )
    if asked is None and not has_bitsandbytes():
        _LOG.warning(
            "bitsandbytes, which quantised these weights, is not installed: they are converted to floating point "
            "(quantize='int8' or 'int4' keeps them small without it)"
        )
        return UNQUANTIZED
    if not isinstance(asked, BitsAndBytesConfig):
        return asked
    # How the files are quantised is settled; what their layers compute in is not.
    entry = getattr(config, "quantization_config", None) or {}
    config.quantization_config = {**entry, "bnb_4bit_compute_dtype": asked.to_dict()["bnb_4bit_compute_dtype"]}
    return None


def _settle_own(config: FamilyConfig, asked: Request) -> Request:
    stored = stored_quantization(config)
    if asked is None or stored is None or asked == stored:
        return None
    assert not isinstance(asked, str)
    raise ArgumentError(
        f"quantize asks for {asked.to_dict()} and the files are quantised already, as {stored.to_dict()}: expected the "
        "same, since what they lost does not come back. Leave quantize out, or start from the original weights."
    )


def _check_method(config: FamilyConfig) -> None:
    entry = getattr(config, "quantization_config", None)
    method = entry.get("quant_method") if isinstance(entry, Mapping) else None
    if method not in (None, "videolm", "bitsandbytes"):
        raise CheckpointError(
            f"The weights are quantised by {method}: supported are bitsandbytes and this library's own int8 and int4. "
            "Use the model in floating point, or quantised by one of these."
        )


def check_saving(config: FamilyConfig, layout: str | None, dtype: torch.dtype | None) -> None:
    """Refuse what the files of a quantised model cannot be."""
    if layout is not None and stored_quantization(config) is not None:
        raise ArgumentError(
            f"layout is {layout!r} and the model is quantised, which only this library reads: expected no layout. "
            "Leave it out, or load the model with quantize='none' first."
        )
    if dtype is not None and hasattr(config, "quantization_config"):
        name = str(dtype).removeprefix("torch.")
        raise ArgumentError(
            f"The model is quantised and was to be saved in {name}: expected no dtype, since scales keep theirs. "
            f"Leave it out, or move the rest of the model first: model.to(torch.{name}).save_pretrained(...)."
        )
