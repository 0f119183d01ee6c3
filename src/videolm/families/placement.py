"""Where a model's parameters go and how it attends: the options of ``from_pretrained`` about this machine, checked."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from videolm.devices import available_devices, choose_device, cpu_has_bfloat16
from videolm.errors import ArgumentError, DeviceError, MissingExtraError

__all__ = ["ATTENTION", "check_attention", "check_move", "dtype_for", "flash_attention", "read_device"]

ATTENTION = ("sdpa", "eager", "flash_attention_2", "flex_attention")

_LOG = logging.getLogger(__name__)


def read_device(device_map: Any, device: torch.device | str | None) -> torch.device:
    """The one device that ``device_map`` or ``device`` means.

    Args:
        device_map: ``auto``, the name or number of a device, or a dict whose entries name one and the same.
    """
    if device_map is not None and device is not None:
        raise ArgumentError(
            f"device_map is {device_map!r} and device is {device!r}: expected one of them, which both say where the "
            "model goes. Leave one out."
        )
    wanted = device_map if device_map is not None else device
    if isinstance(wanted, Mapping):
        named = {str(_device_name(place)) for place in wanted.values()}
        if len(named) != 1:
            raise DeviceError(
                f"device_map spreads the model over {len(named)} places ({', '.join(sorted(named)) or 'none'}): "
                "expected one device for all parts. Pass device_map='auto' or the name of a device."
            )
        wanted = named.pop()
    if wanted is None:
        return torch.device("cpu")
    if wanted in ("balanced", "balanced_low_0", "sequential"):
        wanted = "auto"
    return choose_device(_device_name(wanted))


def _device_name(place: Any) -> str | torch.device:
    return f"cuda:{place}" if isinstance(place, int) else place


def check_move(where: Any) -> None:
    """Refuse a GPU that is not there, however ``.to`` was told of it."""
    if not isinstance(where, int | str | torch.device):
        return
    device = torch.device(_device_name(where))
    name = f"{device.type}:{device.index or 0}"
    if device.type == "cuda" and name not in available_devices():
        raise DeviceError(
            f"The model cannot move to {name}: expected one of {', '.join(available_devices())}, which are the devices "
            "of this machine. Leave .to out, or pass device_map='auto' to from_pretrained, which takes the best one."
        )


def dtype_for(dtype: torch.dtype | None, device: torch.device, *, keep: bool = False) -> torch.dtype | None:
    """The dtype to load in: float16 is no dtype to compute in on a CPU, and is replaced there unless ``keep``."""
    if dtype != torch.float16 or device.type != "cpu" or keep:
        return dtype
    replaced = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    name = str(replaced).removeprefix("torch.")
    _LOG.warning("float16 is slow on a CPU: the weights are converted to %s (keep_dtype=True keeps float16)", name)
    return replaced


def check_attention(implementation: str | None, use_flash_attention_2: bool = False) -> str:
    """The way to attend; None is ``sdpa``."""
    if use_flash_attention_2:
        if implementation not in (None, "flash_attention_2"):
            raise ArgumentError(
                f"use_flash_attention_2 came with attn_implementation={implementation!r}: they ask for two ways to "
                "attend. Leave one out."
            )
        return "flash_attention_2"
    if implementation is None:
        return "sdpa"
    if implementation not in ATTENTION:
        raise ArgumentError(
            f"attn_implementation is {implementation!r}: expected one of {', '.join(ATTENTION)}. Choose one of these."
        )
    return implementation


def flash_attention(device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
    """The kernel of the flash-attn package, or an error that says why it cannot run."""
    advice = "attn_implementation='sdpa' already runs the same kernel inside torch."
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        raise DeviceError(
            f"flash_attention_2 was asked for on {device} in {name}: it needs the flash-attn package "
            "(pip install flash-attn --no-build-isolation), a CUDA device and float16 or bfloat16. Leave it out: "
            f"{advice}"
        )
    try:
        function: Callable[..., Tensor] = importlib.import_module("flash_attn").flash_attn_func
    except ImportError as error:
        raise MissingExtraError(
            "flash_attention_2 was asked for, but the flash-attn package is not installed: run "
            f"pip install flash-attn --no-build-isolation, or leave it out: {advice}"
        ) from error
    return function
