"""Parameters in, a folder of safetensors out: complete under its name or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from videolm.errors import ArgumentError, CheckpointError
from videolm.weights.keymap import KeyLayout

__all__ = ["DEFAULT_MAX_SHARD_SIZE", "parse_size", "save_weights", "staged_folder"]

DEFAULT_MAX_SHARD_SIZE = 5 * 10**9
"""Bytes."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_WEIGHT_FILE = re.compile(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")

Progress = Callable[[int, int | None], None]


def parse_size(size: int | str) -> int:
    """Bytes from a number or a text such as ``5GB`` or ``200MiB``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    factor = _UNITS.get(match[2].upper()) if match else None
    num_bytes = 0 if match is None or factor is None else int(float(match[1]) * factor)
    if num_bytes < 1:
        raise ArgumentError(
            f"max_shard_size is {size!r}: expected a number of bytes, at least 1, or a text such as '5GB' or '200MB'. "
            "Leave it out for 5 GB."
        )
    return num_bytes


@contextlib.contextmanager
def staged_folder(folder: Path | str) -> Iterator[Path]:
    """A temporary folder beside ``folder`` whose files move there, all together, when the block ends without error.

    Files of other names that ``folder`` already holds stay, except weights of an earlier save: a folder has one set.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise CheckpointError(
            f"Nothing can be written beside {folder} ({error.strerror}): expected a folder that may be written. "
            "Choose another place to save to."
        ) from error
    try:
        yield stage
        _move_into_place(stage, folder)
    except OSError as error:
        raise CheckpointError(
            f"Saving to {folder} failed ({error.strerror or error}): expected a folder with enough free space. "
            "Nothing half-written was left there; free some space or choose another place."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_into_place(stage: Path, folder: Path) -> None:
    stage.chmod(0o777 & ~_umask())  # mkdtemp makes folders that only their owner can read
    if not folder.exists():
        stage.rename(folder)
        return
    new = sorted(path.name for path in stage.iterdir())
    # The index goes last, so that it never names a shard that is not there yet.
    for name in sorted(new, key=lambda name: name.endswith(".index.json")):
        os.replace(stage / name, folder / name)
    if any(_WEIGHT_FILE.fullmatch(name) for name in new):
        for path in folder.iterdir():
            if _WEIGHT_FILE.fullmatch(path.name) and path.name not in new:
                path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    layout: KeyLayout,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    progress: Progress | None = None,
) -> None:
    """Write parameters to ``folder``, which must exist and is best a ``staged_folder``, named as the layout does.

    Args:
        state: By the names in the module; of names that share a tensor the first is written.
        dtype: Of the floating-point tensors; None keeps each as it is. Converted shard by shard.
    """
    named = {layout.to_file(name): tensor for name, tensor in _without_ties(state).items()}
    shards = _plan(named, dtype, parse_size(max_shard_size))
    weight_map: dict[str, str] = {}
    for index, keys in enumerate(shards):
        name = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        tensors = {key: _as_stored(named[key], dtype) for key in keys}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(keys, name))
        if progress is not None:
            progress(index + 1, len(shards))
    if len(shards) > 1:
        total = sum(_stored_size(tensor, dtype) for tensor in named.values())
        index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
        (folder / "model.safetensors.index.json").write_text(index_text + "\n", encoding="utf-8")


def _without_ties(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    kept = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if place not in seen or not tensor.numel():
            seen.add(place)
            kept[name] = tensor
    return kept


def _plan(named: Mapping[str, Tensor], dtype: torch.dtype | None, max_bytes: int) -> list[list[str]]:
    """Names by shard, in the order of the module; a tensor larger than a shard has one of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for key, tensor in named.items():
        size = _stored_size(tensor, dtype)
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    return shards


def _stored_dtype(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _stored_size(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * _stored_dtype(tensor, dtype).itemsize


def _as_stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.detach().to(device="cpu", dtype=_stored_dtype(tensor, dtype)).contiguous()
