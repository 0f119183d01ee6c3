"""The name of a model in, its local folder out: a path, the hub's cache, or the hub."""

from __future__ import annotations

import re
from pathlib import Path

from videolm.errors import CheckpointError, ModelNotFoundError
from videolm.weights.files import open_weights

__all__ = ["resolve"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def resolve(name_or_path: str | Path, *, download: bool = True) -> Path:
    """The local folder of a model: a path first, then a hub name from the cache, then from the hub.

    Args:
        download: False never asks the hub.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = str(name_or_path)
    if path.exists():
        raise ModelNotFoundError(
            f"{name} is a file: expected the folder of a model, which holds config.json and weights. Pass its folder."
        )
    if not _HUB_NAME.fullmatch(name):
        raise ModelNotFoundError(
            f"{name} does not exist: expected the folder of a model, or a hub name such as organisation/model. "
            "Check the path."
        )
    return _from_hub(name, download)


def _from_hub(name: str, download: bool) -> Path:
    # Here and not above: the hub's client takes a while to import, and local models need none of it.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    cached: Path | None = None
    try:
        cached = Path(snapshot_download(name, local_files_only=True, allow_patterns=_HUB_FILES))
        if _is_complete(cached):
            return cached
    except LocalEntryNotFoundError:
        pass
    state = "only partly in the hub cache" if cached else "not in the hub cache"
    if not download or constants.HF_HUB_OFFLINE:
        raise ModelNotFoundError(
            f"{name}: no folder of that name, and {state} ({constants.HF_HUB_CACHE}) while downloads are off. "
            "Pass a folder, unset HF_HUB_OFFLINE, or set HF_HOME to where the model was downloaded."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelNotFoundError(
            f"{name}: no folder of that name, and the hub has no such model or does not show it to you. "
            "Check the name; for a private or gated model set HF_TOKEN after asking for access on its page."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFoundError(
            f"{name}: no folder of that name, {state}, and the hub cannot be reached ({type(error).__name__}). "
            "Pass the path of a folder, or connect to the internet and try again."
        ) from error


def _is_complete(folder: Path) -> bool:
    try:
        open_weights(folder)
    except CheckpointError:
        return False
    return (folder / "config.json").is_file()
