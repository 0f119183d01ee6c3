"""Features of one medium and what is told about it in, a checked safetensors file out, and back.

A file is written beside its place and moved there in one step, so that nobody who reads or writes the same sees a part.
What is read is held against a checksum; whatever is wrong with a file is told, never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from videolm.contracts import Features, Frames, VisualInput
from videolm.errors import VideoLMError
from videolm.visual_tokens import TokenBudget

__all__ = ["FORMAT_VERSION", "FeatureFolder", "StoredMedium", "UnusableFileError"]

FORMAT_VERSION = "1"
"""Goes up when the same file would be read differently, or the same medium encoded differently."""

_FORMAT = "videolm features"
_SUFFIX = ".safetensors"
_UNFINISHED_S = 3600.0
"""Age from which an unfinished file belongs to no process that still writes it."""


@dataclass(frozen=True, kw_only=True)
class StoredMedium:
    """A medium whose features are known."""

    frames: Frames | None
    """None where only features were stored."""
    visual: VisualInput
    """With features in the place of pixels."""

    @classmethod
    def of(cls, frames: Frames | None, visual: VisualInput, features: Features) -> StoredMedium:
        """A medium and what it was encoded to, without any pixels."""
        # What was encoded together shares memory: a copy keeps its own rows alone.
        own = Features(tokens=features.tokens.clone())
        return cls(
            frames=None if frames is None else replace(frames, pixels=()),
            visual=replace(visual, features=own, pixel_values=torch.empty(0, 3, 0, 0)),
        )


class UnusableFileError(VideoLMError):
    """A file is damaged, of another version or not what its name says; the message says which."""


class FeatureFolder:
    """A folder of such files, shared between processes, the least recently used removed first."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def path_of(self, key: str) -> Path:
        """Where the medium of a key lies."""
        return self.folder / f"{key}{_SUFFIX}"

    def read(self, key: str) -> StoredMedium | None:
        """The medium of a key; None where there is none."""
        path = self.path_of(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableFileError(f"cannot be read ({error.strerror or error})") from error
        medium = _decode(data, key)
        with contextlib.suppress(OSError):
            os.utime(path)  # what is used stays longest
        return medium

    def write(self, key: str, medium: StoredMedium) -> None:
        """Store a medium; OSError where that fails, which leaves nothing behind."""
        data = _encode(medium, key)
        if len(data) > self._max_bytes:
            raise OSError(f"its {len(data)} bytes are more than the {self._max_bytes} that the cache may hold")
        unfinished = self.folder / f".{key[:16]}-{os.getpid()}-{secrets.token_hex(4)}.unfinished"
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path_of(key))
        finally:
            unfinished.unlink(missing_ok=True)
        self._make_room()

    def _make_room(self) -> None:
        files = sorted(self._stats(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(stat.st_size for _, stat in files)
        for path, stat in files:
            if total <= self._max_bytes:
                break
            path.unlink(missing_ok=True)  # Another process may have been faster.
            total -= stat.st_size

    def _stats(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.suffix == _SUFFIX:
                    yield path, stat
                elif path.suffix == ".unfinished" and time.time() - stat.st_mtime > _UNFINISHED_S:
                    path.unlink(missing_ok=True)


def _encode(medium: StoredMedium, key: str) -> bytes:
    visual = medium.visual
    assert visual.features is not None
    told = {
        "frames": None if medium.frames is None else asdict(medium.frames),
        "visual": {
            "kind": visual.kind,
            "size": visual.size,
            "num_tokens": visual.num_tokens,
            "note": visual.note,
            "budget": asdict(visual.budget),
            "rope_factor": visual.rope_factor,
            "content": visual.content,
        },
    }
    tokens = visual.features.tokens.detach().cpu().contiguous()
    text = json.dumps(told, default=lambda value: value.item())  # numpy's numbers
    metadata = {
        "format": _FORMAT,
        "version": FORMAT_VERSION,
        "key": key,
        "medium": text,
        "sha256": _checksum(key, text, tokens),
    }
    return safetensors.torch.save({"tokens": tokens}, metadata=metadata)


def _decode(data: bytes, key: str) -> StoredMedium:
    metadata = _metadata(data)
    if metadata.get("format") != _FORMAT or metadata.get("version") != FORMAT_VERSION:
        raise UnusableFileError(f"is of version {metadata.get('version')!r}, where {FORMAT_VERSION!r} is expected")
    if metadata.get("key") != key:
        raise UnusableFileError("holds another medium than its name says")
    try:
        tokens = safetensors.torch.load(data)["tokens"]
        text = metadata["medium"]
        if metadata["sha256"] != _checksum(key, text, tokens):
            raise UnusableFileError("does not have the contents that were written")
        return _from_told(json.loads(text), tokens)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnusableFileError(f"is damaged ({type(error).__name__})") from error


def _metadata(data: bytes) -> Mapping[str, Any]:
    size = int.from_bytes(data[:8], "little")
    try:
        found = json.loads(data[8 : 8 + size])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableFileError("is no whole file of features") from error
    if not isinstance(found, dict):
        raise UnusableFileError("is no whole file of features")
    return found


def _checksum(key: str, text: str, tokens: torch.Tensor) -> str:
    digest = hashlib.sha256(repr((key, text, str(tokens.dtype), tuple(tokens.shape))).encode())
    digest.update(tokens.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_told(told: Mapping[str, Any], tokens: torch.Tensor) -> StoredMedium:
    visual, frames = told["visual"], told["frames"]
    return StoredMedium(
        frames=None if frames is None else Frames(**{name: _as_tuple(value) for name, value in frames.items()}),
        visual=VisualInput(
            **{name: _as_tuple(value) for name, value in visual.items()} | {"budget": TokenBudget(**visual["budget"])},
            pixel_values=torch.empty(0, 3, 0, 0),
            features=Features(tokens=tokens),
        ),
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
