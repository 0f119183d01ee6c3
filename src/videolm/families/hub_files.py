"""The files of a repository, or of a folder of the cache, in; what a model needs of them, and if it is there, out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

__all__ = ["has_settings", "has_weights", "wanted_files"]

_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
_WHOLE = (
    re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors"),
    re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin"),
)
"""Of two forms the first that is there is taken: a repository with both holds the same twice."""
_PARTS = ("adapter_model", "non_lora_trainables", "mm_projector")


def wanted_files(names: Iterable[str], subfolder: str, *, weights: bool) -> list[str]:
    """Of the files of a repository those that stand in ``subfolder`` and are needed."""
    inside = [name for name in names if str(PurePosixPath(name).parent) == (subfolder.strip("/") or ".")]
    settings = [name for name in inside if any(fnmatch(PurePosixPath(name).name, each) for each in _SETTINGS)]
    return settings + (_weights(inside) if weights else [])


def _weights(names: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for pattern in _WHOLE:
        chosen = chosen or [name for name in names if pattern.fullmatch(PurePosixPath(name).name)]
    for stem in _PARTS:
        forms = [[n for n in names if PurePosixPath(n).name == f"{stem}.{end}"] for end in ("safetensors", "bin")]
        chosen += forms[0] or forms[1]
    return chosen


def has_settings(folder: Path) -> bool:
    """Whether a folder of the cache holds what says what a model is and what its words are."""
    return (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")
    )


def has_weights(folder: Path) -> bool:
    """Whether it holds all weights of a model, or of what tunes one, too."""
    if (folder / "adapter_config.json").is_file():
        return any((folder / f"adapter_model.{end}").is_file() for end in ("safetensors", "bin"))
    if not (folder / "config.json").is_file():
        return False
    for stem, end in (("model", "safetensors"), ("pytorch_model", "bin")):
        if (folder / f"{stem}.{end}").is_file():
            return True
        index = folder / f"{stem}.{end}.index.json"
        if index.is_file():
            return all((folder / name).is_file() for name in _shards(index))
    return any((folder / f"mm_projector.{end}").is_file() for end in ("safetensors", "bin"))


def _shards(index: Path) -> set[str]:
    """The files that an index names; of one that cannot be read, one that is nowhere."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return {f"{index.name} of another form"}
