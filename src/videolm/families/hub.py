"""The name of a model in, its local folder out: a path, the hub's cache, or the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videolm.errors import ModelNotFoundError
from videolm.families.hub_files import has_settings, has_weights, wanted_files

__all__ = ["HubOptions", "resolve"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """Where on the hub a model is looked for, and who asks."""

    revision: str | None = None
    """A branch, a tag or a commit; None: the main branch."""
    cache_dir: str | Path | None = None
    """None: where ``HF_HOME`` says."""
    token: str | bool | None = None
    """None: ``HF_TOKEN``, or what the hub's login left."""
    subfolder: str = ""
    """Where in the repository, or in the local folder, the model stands."""
    download: bool = True
    """False never asks the hub."""

    weights: bool = True
    """False where configuration, tokenizer and processor will do."""

    def arguments(self) -> dict[str, Any]:
        """For the hub's client."""
        given = {"token": self.token, "revision": self.revision, "cache_dir": self.cache_dir}
        return {name: value for name, value in given.items() if value is not None}

    def is_complete(self, snapshot: Path) -> bool:
        """Whether a snapshot in the cache holds all that is wanted of it."""
        folder = snapshot / self.subfolder
        return has_weights(folder) if self.weights else has_settings(folder)


def resolve(
    name_or_path: str | Path, *, download: bool = True, weights: bool = True, options: HubOptions | None = None
) -> Path:
    """The local folder of a model: a path first, then a hub name from the cache, then from the hub.

    Args:
        download: False never asks the hub.
        weights: False fetches none.
        options: Everything that can be said about the hub, in the place of these.
    """
    options = options or HubOptions(download=download, weights=weights)
    if not str(name_or_path).strip():
        raise ModelNotFoundError(
            "The name of the model is empty: expected the folder of a model, or a hub name such as organisation/model. "
            "Write one, or leave it out for the bundled model."
        )
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _inside(path, options.subfolder)
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
    return _inside(_from_hub(name, options), options.subfolder)


def _inside(folder: Path, subfolder: str) -> Path:
    found = folder / subfolder
    if not found.is_dir():
        raise ModelNotFoundError(
            f"{folder} holds no folder {subfolder!r}: expected the model there. Check subfolder, or leave it out."
        )
    return found


def _from_hub(name: str, options: HubOptions) -> Path:
    # Here and not above: the hub's client takes a while to import, and local models need none of it.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cached = _cached(name, options)
    if cached is not None and options.is_complete(cached):
        return cached
    state = "only partly in the hub cache" if cached else "not in the hub cache"
    if not options.download or constants.HF_HUB_OFFLINE:
        if cached is not None and not options.weights:
            return cached  # Whatever is missing is named when it is read.
        raise ModelNotFoundError(
            f"{name}: no folder of that name, and {state} ({options.cache_dir or constants.HF_HUB_CACHE}) while "
            "downloads are off. "
            "Pass a folder, unset HF_HUB_OFFLINE, or set HF_HOME to where the model was downloaded."
        )
    try:
        wanted = wanted_files(_listed(name, options), options.subfolder, weights=options.weights)
        return Path(snapshot_download(name, allow_patterns=wanted, **options.arguments()))
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"{name}: the hub has no revision {options.revision!r} of it: expected a branch, a tag or a commit. "
            "Leave revision out for the newest."
        ) from error
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


def _cached(name: str, options: HubOptions) -> Path | None:
    """The snapshot in the cache, whatever it holds."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True, **options.arguments()))
    except LocalEntryNotFoundError:
        return None


def _listed(name: str, options: HubOptions) -> list[str]:
    """The files of the repository: some have their weights in one form alone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Its own call for the list of files asks for half a minute before it gives up.
        about = HfApi(token=options.token).model_info(name, revision=options.revision)
    except (HfHubHTTPError, OSError):
        raise
    except Exception as error:
        # What the client's own client raises, which is another package in each of its releases.
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    return [file.rfilename for file in about.siblings or ()]
