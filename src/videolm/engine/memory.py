"""A device in, the bytes that could be taken there out; an exception in, whether memory was too short out."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["free_bytes", "is_out_of_memory"]


def free_bytes(device: torch.device) -> int:
    """Memory of ``device`` that nothing needs."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a step failed because memory was too short for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # A CPU's allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
