"""Parameters in, a folder of safetensors out: complete under its name or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from videolm.errors import ArgumentError, CheckpointError
from videolm.weights.files import WeightFiles
from videolm.weights.keymap import KeyLayout
from videolm.weights.writing import PlannedTensor, write_safetensors

__all__ = ["DEFAULT_MAX_SHARD_SIZE", "parse_size", "save_weights", "staged_folder", "without_ties"]

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
    if not folder.exists() or not any(folder.iterdir()):
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
    state: Mapping[str, Tensor] | WeightFiles,
    layout: KeyLayout,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    progress: Progress | None = None,
) -> None:
    """Write parameters to ``folder``, which must exist and is best a ``staged_folder``, named as the layout does.

    Args:
        state: By the names in the module; of names that share a tensor the first is written. One tensor at a time is
            read, converted and written.
        dtype: Of the floating-point tensors; None keeps each as it is.
        progress: Called with the shards written so far and their number.
    """
    files = state if isinstance(state, WeightFiles) else WeightFiles.from_state_dict(without_ties(state))
    shards = _plan([_planned(files, name, layout, dtype) for name in files], parse_size(max_shard_size))
    weight_map: dict[str, str] = {}
    for index, tensors in enumerate(shards):
        name = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        write_safetensors(folder / name, tensors)
        weight_map.update((tensor.name, name) for tensor in tensors)
        if progress is not None:
            progress(index + 1, len(shards))
    if len(shards) > 1:
        total = sum(tensor.num_bytes for tensors in shards for tensor in tensors)
        index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
        (folder / "model.safetensors.index.json").write_text(index_text + "\n", encoding="utf-8")


def without_ties(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of names that share a tensor the first."""
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    kept = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if place not in seen or not tensor.numel():
            seen.add(place)
            kept[name] = tensor
    return kept


def _planned(files: WeightFiles, name: str, layout: KeyLayout, dtype: torch.dtype | None) -> PlannedTensor:
    own = files.dtype(name)
    return PlannedTensor(
        name=layout.to_file(name),
        shape=files.shape(name),
        dtype=dtype if dtype is not None and own.is_floating_point else own,
        read=partial(files.read, name),
    )


def _plan(tensors: Sequence[PlannedTensor], max_bytes: int) -> list[list[PlannedTensor]]:
    """By shard, in the order of the module; a tensor larger than a shard has one of its own."""
    shards: list[list[PlannedTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.num_bytes > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.num_bytes
    return shards
