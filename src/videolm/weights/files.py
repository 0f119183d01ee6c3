"""A folder of weight files in, tensors read one at a time out: safetensors or torch ``.bin``, whole or in shards."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from videolm.errors import ArgumentError, CheckpointError, ModelNotFoundError
from videolm.weights.writing import DTYPES

__all__ = ["TensorSource", "WeightFiles", "open_file", "open_weights"]

_SINGLE_NAMES = ("model.safetensors", "pytorch_model.bin")
_INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SHARD_NAME = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")


class TensorSource(Protocol):
    """Named tensors that are read one at a time, such as one open file."""

    def keys(self) -> list[str]: ...

    def shape(self, key: str) -> tuple[int, ...]: ...

    def dtype(self, key: str) -> torch.dtype: ...

    def read(self, key: str) -> Tensor: ...


class WeightFiles:
    """The tensors of one checkpoint, by the names in its files; nothing is read before it is asked for."""

    def __init__(self, folder: Path, shards: Mapping[str, TensorSource], location: Mapping[str, str]) -> None:
        self.folder = folder
        self._shards = shards
        self._location = location
        self._stored: dict[str, str] = {}
        """The names in the files of tensors that go by others here."""

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], name: str = "state dict") -> WeightFiles:
        """Tensors that are already in memory, under the same face."""
        return cls.over(Path(name), _TensorShard(state))

    @classmethod
    def over(cls, folder: Path, source: TensorSource) -> WeightFiles:
        """All tensors of one source, under the same face."""
        return cls(folder, {"": source}, dict.fromkeys(source.keys(), ""))

    def __contains__(self, key: object) -> bool:
        return key in self._location

    def __iter__(self) -> Iterator[str]:
        return iter(self._location)

    def __len__(self) -> int:
        return len(self._location)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._shard(key).shape(self._stored.get(key, key))

    def keys(self) -> list[str]:
        """All names."""
        return list(self._location)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of a tensor in the file, without reading it."""
        return self._shard(key).dtype(self._stored.get(key, key))

    def read(self, key: str) -> Tensor:
        """The tensor on the CPU in the dtype of the file, possibly a view of the mapped file: copy it to keep it."""
        return self._shard(key).read(self._stored.get(key, key))

    def mapped(self, key: str) -> Tensor | None:
        """The tensor as a part of its file that is read as it is used, and let go with it; None: it cannot be had so.

        What is written to it stays in memory and out of the file.
        """
        shard = self._shard(key)
        return shard.mapped(self._stored.get(key, key)) if isinstance(shard, _SafetensorsShard) else None

    def renamed(self, patterns: Mapping[str, str]) -> WeightFiles:
        """The same tensors by other names: each regular expression is replaced wherever it matches, in order."""
        names: dict[str, str] = {}
        for stored in self._location:
            name = stored
            for pattern, replacement in patterns.items():
                try:
                    name = re.sub(pattern, replacement, name)
                except re.error as error:
                    raise ArgumentError(
                        f"key_mapping holds {pattern!r} with {replacement!r}, which is no regular expression with its "
                        f"replacement ({error}): expected both as re.sub takes them. Correct them."
                    ) from error
            if name in names:
                raise ArgumentError(
                    f"key_mapping gives {names[name]} and {stored} one name, {name}: every tensor needs its own. "
                    "Narrow the patterns."
                )
            names[name] = stored
        return self.named(names)

    def named(self, names: Mapping[str, str]) -> WeightFiles:
        """Some of the tensors by other names: ``names`` says which one of these each new name stands for."""
        files = WeightFiles(self.folder, self._shards, {name: self._location[old] for name, old in names.items()})
        files._stored = {name: self._stored.get(old, old) for name, old in names.items()}
        return files

    def _shard(self, key: str) -> TensorSource:
        return self._shards[self._location[key]]


def open_weights(folder: Path | str) -> WeightFiles:
    """Open the weights in a folder; a file that is missing or damaged is named in a CheckpointError."""
    folder = Path(folder)
    # safetensors first, whether in one piece or in shards: a folder that holds both kinds holds them twice.
    for single, index in zip(_SINGLE_NAMES, _INDEX_NAMES, strict=True):
        if (folder / single).is_file():
            shard = _open_shard(folder / single)
            return WeightFiles(folder, {single: shard}, dict.fromkeys(shard.keys(), single))
        if (folder / index).is_file():
            return _open_index(folder, folder / index)
    raise _nothing_found(folder)


def open_file(path: Path) -> WeightFiles:
    """Open one file, a safetensors or a torch ``.bin``."""
    return WeightFiles.over(path, _open_shard(path))


def _nothing_found(folder: Path) -> CheckpointError:
    shards = sorted(path.name for path in folder.glob("*") if _SHARD_NAME.fullmatch(path.name))
    if shards:
        kind = "safetensors" if shards[0].endswith("safetensors") else "bin"
        index = _INDEX_NAMES[("safetensors", "bin").index(kind)]
        return CheckpointError(
            f"{folder} holds {len(shards)} weight shards such as {shards[0]} but no {index}, which says what is in "
            "which: copy that file from where the shards came from."
        )
    return ModelNotFoundError(
        f"{folder} holds no weights: expected {_SINGLE_NAMES[0]}, {_INDEX_NAMES[0]} with its shards, or the same as "
        f"{_SINGLE_NAMES[1]}. Check the path, or download the model again."
    )


def _open_index(folder: Path, index_path: Path) -> WeightFiles:
    location = _read_index(index_path)
    names = sorted(set(location.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of its {len(names)} weight shards ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}): {index_path.name} expects them beside it. "
            "Copy the missing files there, or download the model again."
        )
    shards = {name: _open_shard(folder / name) for name in names}
    held = {name: set(shard.keys()) for name, shard in shards.items()}
    for key, name in location.items():
        if key not in held[name]:
            raise CheckpointError(
                f"{folder / name} does not hold {key}, which {index_path.name} places there: "
                "the index and the shards come from different saves. Download the model again."
            )
    unlisted = {key: name for name, keys in held.items() for key in keys if key not in location}
    return WeightFiles(folder, shards, {**location, **unlisted})


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        entries = [(str(key), str(name)) for key, name in weight_map.items()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{path} is no weight index ({_one_line(error)}): expected JSON with a weight_map from tensor names to "
            "shard files. Download it again."
        ) from error
    outside = next((name for _, name in entries if Path(name).name != name or name in ("", ".", "..")), None)
    if outside is not None:
        raise CheckpointError(
            f"{path} places tensors in {outside!r}: expected the name of a file beside the index. "
            "Download the model again from a source that you trust."
        )
    return dict(entries)


def _open_shard(path: Path) -> TensorSource:
    return _SafetensorsShard(path) if path.suffix == ".safetensors" else _TorchShard(path)


class _SafetensorsShard:
    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = safe_open(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        self._path = path
        self._starts: dict[str, int] | None = None

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(key).get_shape())

    def dtype(self, key: str) -> torch.dtype:
        return DTYPES[self._file.get_slice(key).get_dtype()]

    def read(self, key: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(key)
        return tensor

    def mapped(self, key: str) -> Tensor | None:
        # One mapping for each tensor: that of the library is one for all, and stays as long as any of them.
        if self._starts is None:
            self._starts = _starts(self._path)
        shape, dtype, start = self.shape(key), self.dtype(key), self._starts[key]
        num_bytes = math.prod(shape) * dtype.itemsize
        if not num_bytes or start % dtype.itemsize:
            return None
        part = np.memmap(self._path, np.uint8, mode="c", offset=start, shape=(num_bytes,))
        return torch.from_numpy(part).view(dtype).view(shape)


def _starts(path: Path) -> dict[str, int]:
    """Where in a file that the library took as sound the bytes of each tensor begin."""
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(num_bytes))
    return {key: 8 + num_bytes + entry["data_offsets"][0] for key, entry in header.items() if key != "__metadata__"}


class _TensorShard:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def keys(self) -> list[str]:
        return list(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._tensors[key].dtype

    def read(self, key: str) -> Tensor:
        return self._tensors[key]


class _TorchShard(_TensorShard):
    def __init__(self, path: Path) -> None:
        super().__init__(_read_torch_file(path))


def _read_torch_file(path: Path) -> dict[str, Tensor]:
    try:
        return _load_torch_file(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, so reading it could run code: expected a plain state dict. "
            "Convert it to safetensors where it was made."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error


def _load_torch_file(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    # Only the zip form, which torch has written since 1.6, can be mapped instead of read.
    loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError("not a dictionary of tensors")
    return loaded


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(24)
    if start.startswith(b"version https://git-lfs"):
        return CheckpointError(
            f"{path} is a Git LFS pointer of {size} bytes: expected the weights themselves. "
            "Run git lfs pull in that folder, or download the file from the hub."
        )
    return CheckpointError(
        f"{path} ({size} bytes) cannot be read as weights ({_one_line(error)}): the file is damaged or incomplete. "
        "Copy or download it again."
    )


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:160] if lines else type(error).__name__
