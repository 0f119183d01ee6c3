"""The state of a run on disk: written in one move, checked when read, the newest few kept."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from videolm.errors import CheckpointError

_NAME = re.compile(r"step_(\d{8})")
_STATE, _SEAL = "state.pt", "seal.json"

__all__ = ["find_checkpoints", "load_newest", "read_checkpoint", "write_checkpoint"]


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first; whether they can be read is not looked at."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def write_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``state`` as the checkpoint of ``step``, then remove all but the ``keep`` newest.

    It is written beside its place and renamed, so that a run killed at any moment leaves the older ones whole.
    """
    try:
        return _write(folder, step, state, keep)
    # torch reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        shutil.rmtree(folder / f"unfinished_{step:08d}", ignore_errors=True)
        text = str(error).splitlines()[0]
        raise CheckpointError(
            f"The checkpoint of step {step} cannot be written to {folder} ({text}), expected free space and the right "
            "to write. Make room and resume: the older checkpoints are whole."
        ) from error


def _write(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("unfinished_*"):
        shutil.rmtree(leftover)
    unfinished = folder / f"unfinished_{step:08d}"
    unfinished.mkdir()
    torch.save(state, unfinished / _STATE)
    seal = {"step": step, "bytes": (unfinished / _STATE).stat().st_size, "sha256": _digest(unfinished / _STATE)}
    (unfinished / _SEAL).write_text(json.dumps(seal) + "\n", encoding="utf-8")
    for name in (_STATE, _SEAL):
        _flush(unfinished / name)
    final = folder / f"step_{step:08d}"
    if final.exists():
        shutil.rmtree(final)
    unfinished.rename(final)
    _flush(folder)
    for old in find_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint; CheckpointError when it is not the one that was written."""
    try:
        seal = json.loads((path / _SEAL).read_text(encoding="utf-8"))
        if (path / _STATE).stat().st_size != seal["bytes"] or _digest(path / _STATE) != seal["sha256"]:
            raise CheckpointError(
                f"The checkpoint {path} differs from what was written, expected {seal['bytes']} intact bytes. "
                "Remove it; an older one is used."
            )
        state: dict[str, Any] = torch.load(path / _STATE, map_location="cpu", weights_only=True)
    except (OSError, KeyError, TypeError, json.JSONDecodeError, pickle.UnpicklingError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({text}), expected {_STATE} and {_SEAL}. "
            "Remove it; an older one is used."
        ) from None
    return state


def load_newest(folder: Path, *, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole; each damaged one on the way gets a warning."""
    for path in reversed(find_checkpoints(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            warn(f"Skipped: {error}")
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
