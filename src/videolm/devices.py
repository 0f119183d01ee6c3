"""Which device and which dtype a model runs in, from what the user said and what this machine has."""

from __future__ import annotations

import torch

from videolm.errors import DeviceError

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

__all__ = ["DTYPES", "available_devices", "choose_device", "choose_dtype", "cpu_has_bfloat16"]


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first CUDA device, without one the CPU."""
    present = available_devices()
    if str(device) == "auto":
        return torch.device("cuda:0" if "cuda:0" in present else "cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        wanted = None
    # A bare "cuda" or "mps" is the first of its kind; the CPU has no index.
    names = {"cpu": "cpu", "mps": "mps"}
    name = "" if wanted is None else names.get(wanted.type, f"{wanted.type}:{wanted.index or 0}")
    if wanted is None or name not in present:
        raise DeviceError(
            f"Device {str(device)!r} is not on this machine: expected {_listing(present)}. "
            "Use device='auto' to take the best of these."
        )
    return torch.device(name)


def choose_dtype(
    dtype: str | torch.dtype = "auto", *, device: torch.device, prefer_exact: bool = False
) -> torch.dtype | None:
    """The dtype of that name; ``auto`` is what the device computes well, None for the checkpoint's own.

    Args:
        prefer_exact: Let ``auto`` be float32 on a CPU, for models so small that speed does not matter.
    """
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype == "auto":
        if device.type != "cpu":
            return None
        # float16 is several times slower than either on a CPU, so it is never chosen there.
        return torch.bfloat16 if cpu_has_bfloat16() and not prefer_exact else torch.float32
    if dtype not in DTYPES:
        raise DeviceError(
            f"dtype {dtype!r} does not exist: expected auto, float32, bfloat16 or float16. "
            "Use dtype='auto' to take what suits the device."
        )
    return DTYPES[dtype]


def available_devices() -> tuple[str, ...]:
    """The names of what this machine can run a model on."""
    cuda = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *cuda, *mps)


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _listing(present: tuple[str, ...]) -> str:
    if present == ("cpu",):
        return "cpu, the only device here"
    return f"one of {', '.join(present)}"
